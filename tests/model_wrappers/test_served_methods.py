"""Methods of one served model against a server that speaks the protocol over the embedded models."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from s2t_eval.cli import main
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_info import read_info, write_info
from s2t_eval.model_wrappers.distil import Distil
from s2t_eval.model_wrappers.maj8 import MajorityVote
from s2t_eval.model_wrappers.r2r import RoadsToRome
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal, S2TLocal
from s2t_eval.model_wrappers.tot import TreeOfThoughts
from s2t_eval.remote.probe import ServerReport
from s2t_eval.remote.settings import ServerError
from tests.harness_helpers import STUDENT, TEACHER, evaluate, ours, read_trace, texts
from tests.remote.checkpoints import SELECTOR, export, look_ahead_selector, padded_student
from tests.remote.fake_server import serving
from tests.remote.model_server import CPU_ADAPTERS, FIRST_RUNNER, ModelServer

LIMIT = 3


def plain(folder: str | Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """The embedded student, with the embedded selector's adapter beside it."""
    student = plain(embedded_path(STUDENT))
    adapted = PeftModel.from_pretrained(copy.deepcopy(student), str(embedded_path(SELECTOR))).eval()
    roots = {"": str(embedded_path(STUDENT)), "sel": str(embedded_path(SELECTOR))}
    server = ModelServer(student, {"sel": adapted}, roots)
    with serving(server):
        yield server


class Run:
    """A run's texts, and what its trace has of steps, answers and votes."""

    def __init__(self, folder: Path, model: str, arguments: dict[str, Any], **options: Any) -> None:
        trace = folder / f"{model}-{len(list(folder.iterdir()))}.jsonl"
        values = {"dtype": "float32", "trace": str(trace), **arguments}
        self.results = evaluate(model, values, limit=LIMIT, batch_size=4, **options)
        self.lines = sorted(read_trace(trace), key=lambda line: (line["doc_id"], line["sample"]))

    @property
    def contents(self) -> tuple[Any, ...]:
        names = ("t", "candidates", "greedy", "picked")
        steps = [[[step[name] for name in names] for step in line["steps"]] for line in self.lines]
        rest = [[line.get(name) for name in ("output_ids", "answer", "vote")] for line in self.lines]
        return texts(self.results), steps, rest

    @property
    def num_fired(self) -> int:
        return sum(len(line["steps"]) for line in self.lines)


def require_equal(folder: Path, model: str, arguments: dict[str, Any], servers: dict[str, Any]) -> Run:
    expected = Run(folder, model, arguments)
    actual = Run(folder, model, {**arguments, **servers})
    assert actual.contents == expected.contents
    return actual


def test_votes_are_the_engines(server: ModelServer, tmp_path: Path) -> None:
    """The client draws each token itself, by the same numbers as the engine, from the server's 64 best."""
    run = require_equal(tmp_path, "maj8", {"num_samples": 3}, {"student_url": server.url})
    assert len(run.lines) == 3 * LIMIT
    assert len({tuple(line["output_ids"]) for line in run.lines}) > LIMIT


def test_votes_can_be_weighted_by_confidence(server: ModelServer, tmp_path: Path) -> None:
    arguments = {"num_samples": 3, "weight": "confidence"}
    expected = Run(tmp_path, "maj8", arguments)
    cache = {"use_cache": str(tmp_path / "cache")}
    for options in (cache, cache):  # the second time from the cache
        actual = Run(tmp_path, "maj8", {**arguments, "student_url": server.url}, **options)
        assert texts(actual.results) == texts(expected.results)
        for line, other in zip(expected.lines, actual.lines, strict=True):
            assert other["confidence"] == pytest.approx(line["confidence"], abs=1e-4)
            assert other["vote"]["answer"] == line["vote"]["answer"]


@pytest.mark.parametrize("more", [{"trigger": "margin", "tau": 0.05}, {"trigger": "random", "tau": 0.2}])
def test_an_adapter_of_the_server_scores(server: ModelServer, tmp_path: Path, more: dict[str, Any]) -> None:
    arguments = {"selector": SELECTOR, "proposal_weight": 0.5, **more}
    run = require_equal(tmp_path, "pps_local", arguments, {"student_url": server.url})
    assert run.num_fired == ours(run.results)["telemetry"]["scorer_calls"] > 0


def test_a_server_with_the_first_model_runner_drafts_and_scores_in_turn(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one batch the scores of one text would take the log-probabilities from the drafts of the others."""
    arguments = {"selector": SELECTOR, "trigger": "margin", "tau": 0.05}
    server.quirks, server.num_spoilt = {FIRST_RUNNER}, 0
    require_equal(tmp_path, "pps_local", arguments, {"student_url": server.url})
    assert server.num_spoilt == 0
    with monkeypatch.context() as patch:
        patch.setattr(ServerReport, "has_rows", True)
        require_equal(tmp_path, "pps_local", arguments, {"student_url": server.url})  # by repetition
    assert server.num_spoilt > 0
    server.quirks = set()


def test_an_adapter_of_the_server_writes(server: ModelServer, tmp_path: Path) -> None:
    """A selector of form direct under proposer tuned is greedy decoding of the adapted model."""
    run = require_equal(tmp_path, "s2t_local", {"selector": SELECTOR}, {"student_url": server.url})
    assert ours(run.results)["servers"]["student"]["model"] == "sel"


def changed_copy(folder: Path) -> Path:
    """A copy of a checkpoint with other numbers in one tensor."""
    changed = shutil.copytree(folder, folder.parent / "changed")
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    return changed


def test_reserved_rows_of_the_server_score(tmp_path: Path) -> None:
    student = padded_student(tmp_path / "padded")
    selector = look_ahead_selector(tmp_path / "selector", student)
    out = export(student, tmp_path / "out", "--selector", str(selector), "--to_reserved_rows")
    runs = tmp_path / "runs"
    runs.mkdir()
    arguments = {"pretrained": str(student), "selector": str(selector), "top_k": 3}
    other = ModelServer(plain(out), roots={"": str(out)})
    with serving(other):
        urls = {"student_url": other.url}
        run = require_equal(runs, "s2t_local", {**arguments, "trigger": "random", "tau": 0.2}, urls)
        assert 3 * run.num_fired == ours(run.results)["telemetry"]["scorer_calls"] > 0
        with pytest.raises(ValueError, match="with proposer=base needs hidden states, which servers do not"):
            PPSLocal(**arguments, trigger="always", **urls)
        with pytest.raises(
            ServerError, match=r"it serves .*/out, with other weights than exported=.*/changed"
        ):
            S2TLocal(**arguments, trigger="always", exported=str(changed_copy(out)), **urls)
        info = read_info(selector)
        write_info(selector, replace(info, temperature=2.0))
        with pytest.raises(ValueError, match="was made from another selector"):
            S2TLocal(**arguments, trigger="always", **urls)
        with pytest.raises(ValueError, match=r"adapter=sel: .* form lookahead is in the checkpoint that"):
            S2TLocal(**arguments, trigger="always", adapter="sel", **urls)
        with pytest.raises(ValueError, match="needs the folder of `s2t-eval export --to_reserved_rows`"):
            S2TLocal(**arguments, trigger="always", exported=str(student), **urls)


# ---------------------------------------------------------------- merged checkpoints


def test_a_merged_selector_is_a_plain_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stock `hf` writes the texts of `s2t_local` with a selector of form direct, without peft or selector."""
    out = export(STUDENT, tmp_path / "out", "--selector", SELECTOR, "--merged")
    assert "greedy decoding of it is `--model s2t_local`" in capsys.readouterr().out
    assert not list(out.glob("adapter*"))
    expected = evaluate("s2t_local", {"selector": SELECTOR, "dtype": "float32"}, limit=LIMIT)
    stock = evaluate("hf", {"pretrained": str(out), "dtype": "float32"}, limit=LIMIT)
    assert texts(stock) == texts(expected)
    assert texts(stock) != texts(evaluate("greedy", {"dtype": "float32"}, limit=LIMIT))


def test_merging_applies_the_selectors_scale(tmp_path: Path) -> None:
    """The factor of the adapter that was measured for proposer tuned is part of the proposals."""
    shutil.copytree(embedded_path(SELECTOR), tmp_path / "half")
    write_info(tmp_path / "half", replace(read_info(tmp_path / "half"), adapter_scale=0.5))
    whole = export(STUDENT, tmp_path / "whole-out", "--selector", SELECTOR, "--merged")
    half = export(STUDENT, tmp_path / "half-out", "--selector", str(tmp_path / "half"), "--merged")
    weights = [load_file(path / "model.safetensors") for path in (embedded_path(STUDENT), whole, half)]
    for name, base in weights[0].items():
        torch.testing.assert_close(weights[2][name] - base, (weights[1][name] - base) / 2, atol=1e-6, rtol=0)


def test_a_merged_distilled_student_stays_a_distilled_one(tmp_path: Path) -> None:
    out = export(STUDENT, tmp_path / "out", "--peft", "embedded/distilled", "--merged")
    runs = tmp_path / "runs"
    runs.mkdir()
    expected = Run(runs, "distil", {"peft": "embedded/distilled"})
    assert Run(runs, "distil", {"pretrained": str(out)}).contents == expected.contents
    with serving(server := ModelServer(plain(out), roots={"": str(out)})):
        served = Run(runs, "distil", {"pretrained": str(out), "student_url": server.url})
        assert served.contents == expected.contents
        weights = load_file(out / "model.safetensors")
        name = next(iter(weights))
        save_file({**weights, name: weights[name] + 1}, out / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=r"its weights are not those that its distil\.json describes"):
            Distil(str(out), student_url=server.url)


def test_a_selector_that_looks_ahead_cannot_select_when_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selector = look_ahead_selector(tmp_path / "selector", embedded_path(STUDENT))
    export(STUDENT, tmp_path / "out", "--selector", str(selector), "--merged")
    assert "form lookahead needs its readout (--to_reserved_rows)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--selector", SELECTOR], "expected one of --merged and --to_reserved_rows, got neither"),
        (["--merged", "--to_reserved_rows"], "expected one of --merged and --to_reserved_rows, got both"),
        (["--merged"], "expected one of --selector FOLDER and --peft FOLDER, got neither"),
        (["--peft", "embedded/distilled", "--to_reserved_rows"], "an adapter alone has no readout"),
    ],
)
def test_exports_that_do_not_fit(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--pretrained", STUDENT, *options, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------- refusals


def test_servers_without_the_adapter_are_refused(server: ModelServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(embedded_path(SELECTOR), other)
    weights = load_file(other / "adapter_model.safetensors")
    save_file({name: value * 2 for name, value in weights.items()}, other / "adapter_model.safetensors")
    doubled = shutil.copytree(embedded_path(SELECTOR), tmp_path / "doubled")
    config = json.loads((doubled / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    (doubled / "adapter_config.json").write_text(json.dumps(config))
    for arguments, message in (
        ({"selector": str(doubled)}, r"with another factor \(lora_alpha \d+ instead of \d+\) than selector="),
        ({"adapter": "else"}, "expected the adapter else on every server of the student, got sel"),
        ({"selector": str(other)}, "with other weights than selector="),
        ({"adapter_scale": 0.5}, "adapter_scale=0.5: the servers' factor is 1"),
        ({"trigger": "router", "tau": 0.05}, "expected one of kl, entropy64, .* got 'router'"),
        ({"peft": "x"}, "peft=x cannot be combined"),
        ({"merge": False}, "merge: with student_url the server applies the adapter, got False"),
        ({"exported": "x"}, r"exported=x: .* form direct is an adapter that they serve as a LoRA"),
    ):
        with pytest.raises(ValueError, match=message):
            PPSLocal(**{"pretrained": STUDENT, "selector": SELECTOR, **arguments}, student_url=server.url)
    server.quirks = {CPU_ADAPTERS}
    with pytest.raises(ValueError, match="answers those to its own model by the adapter too"):
        PPSLocal(STUDENT, selector=SELECTOR, student_url=server.url)
    server.quirks = set()
    with serving(bare := ModelServer(server.by_name[""])), pytest.raises(ValueError, match="got none"):
        PPSLocal(STUDENT, selector=SELECTOR, student_url=bare.url)


def test_log_likelihoods_are_refused_where_the_student_is_on_a_server(server: ModelServer) -> None:
    request = Instance("loglikelihood", {}, ("a", "b"), 0, metadata=("piqa", 0, 1))
    url = {"student_url": server.url}
    for model in (
        MajorityVote(STUDENT, **url),
        PPSLocal(STUDENT, selector=SELECTOR, **url),
        S2TLocal(STUDENT, selector=SELECTOR, **url),
        SelectToThink(STUDENT, teacher=TEACHER, trigger="always", **url),
    ):
        with pytest.raises(ValueError, match="it needs log-likelihoods, which student_url does not serve"):
            model.loglikelihood([request])
    here = SelectToThink(STUDENT, teacher=STUDENT, trigger="always", teacher_url=server.url, device="cpu")
    [(log_likelihood, _)] = here.loglikelihood([request])
    assert log_likelihood < 0


def test_what_servers_do_not_serve_is_refused_in_one_line(server: ModelServer) -> None:
    url = {"student_url": server.url}
    for make, arguments, message in (
        (MajorityVote, {"sample_top_k": 0}, "servers return the 64 most likely tokens"),
        (RoadsToRome, {"teacher": TEACHER, "router": "embedded/r2r"}, "give teacher_url alone"),
        (TreeOfThoughts, {}, "on servers run greedy, distil, maj8, s2t, takeover, specreason"),
        (Distil, {"peft": "embedded/distilled"}, "s2t-eval export --merged"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            make(STUDENT, **arguments, **url)
        assert "\n" not in str(raised.value)
