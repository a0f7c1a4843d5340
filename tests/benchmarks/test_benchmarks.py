"""The benchmarks run and report ratios in the documented format; no values are asserted.

Two of them run with the quick tests. What the others count is counted by the engine's tests too.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, kernels, speed, verify
from benchmarks.branch import with_rate
from benchmarks.fast_server import fast_server
from benchmarks.ratios import Ratio, Target, alternate
from benchmarks.tah import ALLOWANCE, RATE
from benchmarks.workload import Settings, kept_settings, load_prompts, load_tokenizer
from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.scores import DirectScore
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import RandomTrigger
from tests.twins import tiny_model

RATIO_KEYS = {"name", "median", "low", "high", "n", "target", "is_met", "values", "cpu", "details"}


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """A figure's JSON output with tiny settings, after checking its format."""
    speed.main([*arguments, "--quick", "--device", "cpu", "--json"])
    output: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(output) == {"figure", "commit", "machine", "settings", "ratios"}
    assert output["figure"] == arguments[0]
    assert output["machine"]["processor"]
    assert output["machine"]["torch"]
    assert output["ratios"]
    for ratio in output["ratios"]:
        assert set(ratio) == RATIO_KEYS
        assert len(ratio["values"]) == ratio["n"] == output["settings"]["repeats"]
        assert all(math.isfinite(value) and value > 0 for value in ratio["values"])
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
    return output


def test_greedy_and_stock_hf_generate_equal_texts(capsys: pytest.CaptureFixture[str]) -> None:
    details = report(capsys, "greedy-vs-hf")["ratios"][0]["details"]
    assert details["equal_texts"] == 1.0
    assert details["tokens"]["greedy"] == details["tokens"]["hf"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("model", [["--fixed-length"], ["--random-shape", "tiny"]])
def test_fixed_length_counts_every_token(capsys: pytest.CaptureFixture[str], model: list[str]) -> None:
    output = report(capsys, "greedy-vs-hf", *model)
    details, settings = output["ratios"][0]["details"], output["settings"]
    assert details["equal_texts"] == 1.0
    assert details["tokens"]["hf"] == settings["requests"] * settings["new_tokens"]


@pytest.mark.slow
def test_branching_takes_one_forward_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    output = report(capsys, "branch")
    alone, together = output["ratios"]
    assert "batch 1" in alone["name"]
    assert "batch 4" in together["name"]
    new_tokens = output["settings"]["new_tokens"]
    for ratio, rows in ((alone, 1), (together, 4)):
        details = ratio["details"]
        assert details["base_forwards_per_token"] == 1.0
        # The last token's candidates are scored too, which needs a forward pass that greedy does not need.
        assert 1.0 <= details["forwards_per_token"] <= 1.0 + 1 / new_tokens
        assert details["tokens"] == rows * new_tokens
        assert details["realised_rate"] == pytest.approx(0.1, abs=0.5 / (rows * new_tokens))


@pytest.mark.slow
def test_lockstep_of_random_models(capsys: pytest.CaptureFixture[str]) -> None:
    output = report(capsys, "lockstep", "--random-shape", "tiny", "--teacher", "random/tiny")
    assert 0 < output["ratios"][0]["details"]["teacher_share"][0] < 1


@pytest.mark.slow
def test_chunks_and_lockstep_decode_the_same_texts(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = report(capsys, "verify")["ratios"]
    details = [ratio["details"] for ratio in ratios]
    assert [name for name in ("lockstep", "=8", "=32", "=auto") if name in str(ratios)] == [
        "lockstep", "=8", "=32", "=auto",
    ]  # fmt: skip
    assert len({(one["realised_rate"], one["tokens"]) for one in details}) == 1
    assert details[0]["discarded_per_token"] == [0.0]
    assert details[0]["tokens_per_teacher_pass"] == [1.0] < details[1]["tokens_per_teacher_pass"]


@pytest.mark.parametrize(("batch", "target"), [(32, "<= 1.00"), (2, None)])
def test_auto_is_compared_with_lockstep_itself(batch: int, target: str | None) -> None:
    """The goal at batch 32 is not to be worse than lockstep, and no ratio was between these two."""
    tiny = Settings(batch=batch, requests=2, new_tokens=4, repeats=1, taus=(0.1,), chunks=(2,))
    *to_greedy, to_lockstep = [ratio.as_json() for ratio in verify.measure(tiny)]
    assert to_lockstep["name"] == f"s2t, kl, tau 0.1, verify=auto, to lockstep, batch {batch}"
    assert to_lockstep["target"] == target
    lockstep, _, auto = to_greedy
    assert to_lockstep["values"][0] == pytest.approx(auto["values"][0] / lockstep["values"][0])


def test_a_step_may_wait_for_the_device_once() -> None:
    """Kernels had a target, synchronisations of host and device none."""
    tiny = Settings(student="random/tiny", batch=2, repeats=1)
    _, reads = kernels.measure(tiny)
    assert reads.name.startswith("synchronisations a step, greedy 1 / generate 1")
    assert reads.target == Target(1.0) and reads.target.is_met(reads.median)


@pytest.mark.slow
def test_prefix_is_computed_once(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = report(capsys, "prefix")["ratios"][0]["details"]["prefill_tokens"]
    assert tokens["shared"] < tokens["apart"] / 2


@pytest.mark.slow  # four processes
def test_memory_is_measured_in_separate_processes(capsys: pytest.CaptureFixture[str]) -> None:
    whole, above = report(capsys, "memory")["ratios"]
    for loaded, peak in whole["details"]["bytes"] + whole["details"]["bytes_of_base"]:
        assert 0 < loaded <= peak
    assert above["target"] == whole["target"] == "<= 1.05"


def test_each_ratio_is_printed_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lockstep.json"
    speed.main(["lockstep", "--quick", "--device", "cpu", "--json", str(file)])
    (line,) = capsys.readouterr().out.splitlines()
    (ratio,) = json.loads(file.read_text())["ratios"]
    for part in (f"{ratio['median']:.3f}", "n = 1", "target <= 1.05", "torch", "float32"):
        assert part in line


def test_kept_settings_have_no_folder_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "qwen").mkdir()
    settings = Settings(student=str(tmp_path / "qwen"), teacher="embedded/teacher")
    assert kept_settings(settings) == {**asdict(settings), "student": "qwen"}


def test_questions_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": f"Why {i}?"}) + "\n" for i in range(3)))
    settings = Settings(data=str(file))
    tokenizer = load_tokenizer(settings)
    assert load_prompts(settings, tokenizer, num=1, shots=2) == ["Why 0?\n\nWhy 1?\n\nWhy 2?"]
    with pytest.raises(ValueError, match=r"--requests: expected at most 1.*got 2"):
        load_prompts(settings, tokenizer, num=2, shots=2)


def test_unknown_shape_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"random/huge: expected .* qwen2\.5-0\.5b"):
        load_tokenizer(Settings(student="random/huge"))


def test_random_words_are_single_tokens() -> None:
    settings = Settings(student="random/tiny")
    tokenizer = load_tokenizer(settings)
    (prompt,) = load_prompts(settings, tokenizer, num=1)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == prompt
    # The first word has no leading space and is tokenised into letters.
    assert len(ids) == len(prompt.split()) + 3
    assert max(tokenizer.get_vocab().values()) < 512


def test_first_side_alternates() -> None:
    order: list[str] = []
    alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_targets() -> None:
    assert Target(1.1).is_met(1.1)
    assert not Target(1.1).is_met(1.2)
    assert Target(1.3, is_floor=True).is_met(1.4)
    assert "target >= 1.30 MISSED" in str(Ratio("speed", [1.2, 1.1, 1.5], Target(1.3, True)))


@pytest.mark.parametrize("tau", [0.01, 0.05, 1.0])
def test_chosen_seeds_realise_the_trigger_rate(tau: float) -> None:
    """The decoder counts the fired steps of a random trigger over 200 steps."""
    requests = with_rate([Request((1,), 100), Request((2,), 100)], tau)
    assert len({request.seed for request in requests}) == 2
    policy = Policy("random", RandomTrigger(), 1 - tau, LocalSelector(DirectScore()), top_k=2)
    results = list(Decoder(ModelRunner(tiny_model("llama", seed=0), "tiny"), policy, rows=2).run(requests))
    assert sum(result.usage.tokens for result in results) == 200
    assert sum(result.usage.triggers for result in results) == tau * 200


@pytest.mark.slow
def test_local_figures_include_router_and_scorer(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = report(capsys, "local")["ratios"]
    assert [ratio["name"].split(",")[0] for ratio in ratios] == ["s2t_local", "pps_local"] * 2
    for ratio in ratios:
        assert ratio["details"]["realised_rate"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.slow
def test_pps_is_measured_end_to_end_by_adapted_layers(capsys: pytest.CaptureFixture[str]) -> None:
    everywhere, last = report(capsys, "pps", "--last-layers", "1")["ratios"]
    assert ["all layers" in everywhere["name"], "last 1 layers" in last["name"]] == [True, True]
    for ratio in (everywhere, last):
        assert ratio["details"]["realised_rate"] == pytest.approx(0.1, abs=0.05)
        assert ratio["values"] == ratio["details"]["with_prefill"]


@pytest.mark.slow
def test_training_figures_run(capsys: pytest.CaptureFixture[str]) -> None:
    (packed,) = report(capsys, "packing")["ratios"]
    assert packed["details"]["groups"] == 1
    (labelled,) = report(capsys, "labelling")["ratios"]
    assert labelled["details"]["tokens_per_second"][0] > 0


@pytest.mark.slow
def test_the_client_alone_is_measured_without_servers(capsys: pytest.CaptureFixture[str]) -> None:
    *costs, scale, growth = report(capsys, "remote-client")["ratios"]
    assert [ratio["name"].split(",")[1].strip() for ratio in costs] == ["greedy", "entropy64", "kl"]
    assert all(ratio["target"] == "<= 0.20" for ratio in costs)
    assert costs[0]["details"] == {"tokens": 48, "requests": 6}
    assert "seconds a text" in scale["name"] and "memory" in growth["name"]


@pytest.mark.slow
def test_servers_are_compared_with_the_student_alone_and_with_the_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that computes nothing stands in for both roles: the figures run, their values mean nothing."""
    with fast_server() as url:
        addresses = ["--student-url", url, "--teacher-url", url]
        ratios = report(capsys, "remote", *addresses)["ratios"]
        (labels,) = report(capsys, "remote-labels", *addresses)["ratios"]
    names = [ratio["name"] for ratio in ratios]
    assert "kl, 8 at once, chunk 8, to the student alone" in names
    assert "entropy64, 4 at once, chunk 8, to the engine here at batch 4" in names
    for ratio in ratios:
        assert ratio["details"]["requests_per_text"] >= 1
        assert ratio["details"]["tokens"] == 48
    assert labels["target"] == ">= 0.80"
    with pytest.raises(ValueError, match="expected --student-url URL and --teacher-url URL"):
        speed.main(["remote", "--quick"])


def test_the_figures_of_a_gpu_have_a_side_with_vllm_servers() -> None:
    """Only stock `hf` was in the same call as the engine.

    A server that computes nothing stands in: the figure runs, its values mean nothing.
    """
    with fast_server() as url:
        tiny = Settings(new_tokens=4, repeats=1, taus=(0.1,), student_url=url, teacher_url=url)
        stock, servers = gpu.figures(tiny, batches=(2,), names=("greedy-vs-hf", "vllm"))
    assert "to hf" in stock["ratios"][0]["name"]
    assert url not in str(servers), "a file that is kept would name a host"
    greedy, s2t = servers["ratios"]
    assert greedy["name"] == "greedy, to vLLM servers, tokens/s, batch 2"
    assert s2t["name"] == "s2t, kl, tau 0.1, to vLLM servers, tokens/s, batch 2"
    for ratio in (greedy, s2t):
        details = ratio["details"]
        assert details["tokens"] == {"engine": 8, "vllm": 8}
        rates = details["tokens_per_second"]
        assert ratio["values"] == [rates["engine"][0] / rates["vllm"][0]]
    assert greedy["details"]["realised_rate"] == {"engine": 0.0, "vllm": 0.0}
    assert s2t["details"]["realised_rate"]["engine"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--figures", "vllm"],
        ["--student_url", "http://a:1"],
        ["--figures", "local", "--teacher_url", "http://a:1"],
    ],
)
def test_a_figure_of_servers_needs_both_addresses(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert "expected it with --student_url URL and --teacher_url URL" in capsys.readouterr().err


ignore_peft_deprecation = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


@pytest.mark.slow
@ignore_peft_deprecation
def test_each_further_iteration_costs_one_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Some random decisions continue, each costs one more pass, and the target includes them."""
    ratios = report(capsys, "tah", "--random-shape", "tiny")["ratios"]
    depths = [ratio["details"]["mean_depth"] for ratio in ratios]
    assert all(1 <= depth < 1 + 3 * RATE for depth in depths)
    assert max(depths) > 1, "no token continued, so nothing was measured"
    for ratio, depth in zip(ratios, depths, strict=True):
        assert ratio["details"]["forwards_per_token"] == depth
        assert ratio["target"] == f"<= {depth + ALLOWANCE:.2f}"


@pytest.mark.slow
@ignore_peft_deprecation
def test_training_of_the_looped_student_is_compared_with_plain_tuning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    [ratio] = report(capsys, "tah-training")["ratios"]
    assert ratio["target"] == ">= 0.40"
