"""Each backend through the stock harness: by name, against slow twins, at its limits."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from s2t_eval.embedded.arith import make_split
from s2t_eval.engine import Decoder, ModelRunner, Request, Sampling, derive_seed
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.selection import policy
from tests.harness_helpers import (
    BIN,
    LIMIT,
    STUDENT,
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    generate,
    generation,
    inline_task,
    model,
    ours,
    plain_run,
    prompts,
    run_command,
    texts,
    tokenizer,
)

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "greedy": ("greedy", {}),
    "maj8": ("maj8", {"num_samples": 3}),
    "maj_at_k": ("maj_at_k", {"num_samples": 3}),
    "kl": ("s2t", {"threshold": 0.5}),
    "kl_other_direction": ("s2t", {"threshold": 0.5, "kl_direction": "teacher_student"}),
    "entropy": ("s2t", {"trigger": "entropy", "threshold": 0.5}),
    "margin": ("s2t", {"trigger": "margin", "threshold": 0.5}),
    "random": ("s2t", {"trigger": "random", "tau": 0.3}),
    "always": ("s2t", {"trigger": "always"}),
    "never": ("s2t", {"trigger": "never"}),
    "takeover": ("takeover", {"threshold": 0.5}),
    "lockstep": ("s2t", {"threshold": 0.5, "verify": 1}),
    "chunks": ("s2t", {"threshold": 0.5, "verify": 12}),
}


@pytest.mark.parametrize("method", ["s2t", "takeover"])
@pytest.mark.parametrize("verify", ["auto", 12])
def test_a_teacher_that_verifies_in_chunks_writes_the_texts_of_lockstep(
    method: str, verify: int | str
) -> None:
    lockstep = plain_run(method, threshold=0.5, verify=1)
    chunks = plain_run(method, threshold=0.5, verify=verify)
    assert texts(chunks) == texts(lockstep)
    for name in ("tokens", "triggers", "flips", "hits", "misses"):
        assert counts(chunks)[name] == counts(lockstep)[name], name
    vain = counts(chunks)["discarded_tokens"]
    for name in ("forwards", "teacher_tokens"):
        assert counts(chunks)[name] == counts(lockstep)[name] + vain, name


@pytest.mark.parametrize("run", RUNS)
def test_every_backend_runs_by_its_name(run: str) -> None:
    name, model_args = RUNS[run]
    results = plain_run(name, **model_args)
    assert results["config"]["model"] == name
    assert ours(results)["method"] == name.replace("maj_at_k", "maj8")
    assert len(texts(results)) == LIMIT
    assert all(texts(results))
    score = results["results"]["s2t_arith"]["exact_match,answer"]
    given = [re.findall(r"The answer is (-?[0-9]+)", text)[-1:] for text in texts(results)]
    right = [[str(problem.answer)] for problem in make_split("test")[:LIMIT]]
    assert score == sum(mine == theirs for mine, theirs in zip(given, right, strict=True)) / LIMIT


@pytest.mark.parametrize(
    ("run", "low", "high"),
    [
        ("greedy", 0, 0),
        ("never", 0, 0),
        ("maj8", 0, 0),
        ("always", 1, 1),
        ("random", 0.2, 0.4),
        ("kl", 0.01, 0.5),
        ("kl_other_direction", 0.01, 0.5),
        ("entropy", 0.01, 0.5),
        ("margin", 0.01, 0.5),
        ("takeover", 0.01, 0.5),
    ],
)
def test_triggers_fire_at_their_rates(run: str, low: float, high: float) -> None:
    name, model_args = RUNS[run]
    assert low <= counts(plain_run(name, **model_args))["realised_rate"] <= high


def test_at_the_rate_one_every_step_fires() -> None:
    """No threshold is needed for it, and none is looked for."""
    every = plain_run("s2t", trigger="entropy", tau=1)
    assert counts(every)["realised_rate"] == 1
    name, model_args = RUNS["always"]
    assert texts(every) == texts(plain_run(name, **model_args))
    local = evaluate("pps_local", {"selector": "embedded/selector", "trigger": "router", "tau": 1.0})
    assert counts(local)["realised_rate"] == 1 and ours(local)["policy"]["trigger"]["name"] == "always"


def test_alias_is_the_same_method() -> None:
    assert texts(plain_run("maj_at_k", num_samples=3)) == texts(plain_run("maj8", num_samples=3))


# ---------------------------------------------------------------- limits


def test_greedy_is_stock_hf() -> None:
    assert texts(plain_run("greedy")) == texts(plain_run("hf", batch_size=1))


@pytest.mark.parametrize("name", [STUDENT, TEACHER])
def test_greedy_is_generate(name: str) -> None:
    lm = Greedy(name, batch_size=4)
    found = lm.generate_until([generation(prompt, until=["\n\n"]) for prompt in prompts(6)])
    for prompt, text in zip(prompts(6), found, strict=True):
        ids = generate(model(name), tokenizer()(prompt)["input_ids"], 48)
        assert text == tokenizer().decode(ids, skip_special_tokens=True).split("\n\n")[0]


@pytest.mark.parametrize(
    "model_args",
    [
        {"trigger": "never"},
        {"trigger": "always", "top_k": 1},
        {"threshold": 0.2, "top_k": 1},
        {"threshold": math.inf},
        {"trigger": "always", "warmup_tokens": 1000},
    ],
)
def test_s2t_that_cannot_choose_is_greedy(model_args: dict[str, Any]) -> None:
    assert texts(plain_run("s2t", **model_args)) == texts(plain_run("greedy"))


def test_takeover_at_every_step_is_the_teacher() -> None:
    teacher = evaluate("greedy", {"pretrained": TEACHER})
    assert texts(plain_run("takeover", trigger="always")) == texts(teacher)


def test_selection_among_all_tokens_at_every_step_is_the_teacher() -> None:
    everything = plain_run("s2t", trigger="always", top_k=len(tokenizer()))
    assert texts(everything) == texts(plain_run("takeover", trigger="always"))


def test_s2t_and_takeover_differ_from_greedy() -> None:
    """Without this the limits above could hold because nothing is ever selected."""
    greedy = texts(plain_run("greedy"))
    assert texts(plain_run("s2t", threshold=0.5)) != greedy
    assert texts(plain_run("takeover", threshold=0.5)) != greedy


@pytest.mark.parametrize("run", ["greedy", "kl", "entropy", "random", "takeover"])
def test_batch_size_changes_no_text(run: str) -> None:
    name, model_args = RUNS[run]
    one_by_one = plain_run(name, batch_size=1, **model_args)
    together = plain_run(name, **model_args)
    assert texts(one_by_one) == texts(together)
    for key in ("tokens", "triggers", "flips"):
        assert counts(one_by_one)[key] == counts(together)[key]
    # How far a student drafts ahead of its teacher is measured, so discarded drafts differ between runs.
    kept = [
        counts(results)["forwards"] - counts(results)["discarded_tokens"]
        for results in (one_by_one, together)
    ]
    assert kept[0] == kept[1]


# ---------------------------------------------------------------- maj8


def test_maj8_is_its_slow_twin() -> None:
    """One sample at a time, each with its own seed; the vote is counted by hand."""
    stops = frozenset({tokenizer().eos_token_id})
    strings = ("\n\n", "Question:")
    decoder = Decoder(ModelRunner(model(STUDENT)), policy.greedy(), rows=1, decode=tokenizer().decode)
    expected = []
    for doc_id, prompt in enumerate(prompts()):
        ids = tuple(tokenizer()(prompt)["input_ids"])
        samples = []
        for sample in range(3):
            seed = derive_seed(0, "s2t_arith", doc_id, 0, sample)
            request = Request(ids, 96, stops, strings, Sampling(0.7, 0.8, 20), seed)
            [result] = decoder.run([request])
            text = tokenizer().decode(result.output_ids, skip_special_tokens=True)
            for stop in strings:
                text = text.split(stop)[0]
            samples.append(text)
        answers = [re.findall(r"The answer is (-?[0-9]+)", text)[-1:] for text in samples]
        tally = Counter(answer[0] for answer in answers if answer)
        best = max(tally.values(), default=0)
        winner = next((i for i, a in enumerate(answers) if a and tally[a[0]] == best), 0)
        expected.append(samples[winner])
    assert texts(plain_run("maj8", num_samples=3)) == expected


def test_maj8_has_eight_samples_and_says_how_they_were_drawn() -> None:
    results = evaluate("maj8", limit=2)
    assert counts(results)["texts"] == 16
    assert ours(results)["sampling"] == {
        "num_samples": 8,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
    }
    greedy = evaluate("greedy", limit=2)
    # The samples of a prompt share its prefill, but for the last token of each.
    extra = counts(results)["prefill_tokens"] - counts(greedy)["prefill_tokens"]
    assert extra == 2 * 7


def test_maj8_follows_its_seed() -> None:
    def samples(seed: int) -> list[str]:
        return texts(evaluate("maj8", {"num_samples": 1, "seed": seed, "temperature": 1.5}, limit=4))

    assert samples(1) == samples(1)
    assert samples(1) != samples(2)


# ---------------------------------------------------------------- repeats


def repeated(seed: int = 0, batch_size: int = 16) -> list[list[str]]:
    config = inline_task(
        "repeated",
        arith_docs(4),
        repeats=3,
        generation_kwargs={
            "until": ["\n\n"],
            "do_sample": True,
            "temperature": 1.0,
            "max_gen_toks": 32,
        },
        filter_list=[{"name": "first", "filter": [{"function": "take_first"}]}],
    )
    results = evaluate("greedy", {"seed": seed}, tasks=[config], batch_size=batch_size)
    return texts(results, "repeated")


def test_repeats_are_drawn_apart_and_again_alike() -> None:
    drawn = repeated()
    assert all(len(set(of_a_document)) == 3 for of_a_document in drawn)
    assert repeated() == drawn
    assert repeated(batch_size=1) == drawn
    assert repeated(seed=1) != drawn


# ---------------------------------------------------------------- log-likelihoods


def test_log_likelihoods_are_stock_s_before_and_after_a_generation() -> None:
    from lm_eval.api.instance import Instance

    pairs = [(prompt, f" {i} apples. The answer is {i}.") for i, prompt in enumerate(prompts(5))]
    scored = [Instance("loglikelihood", {}, pair, 0, ("asked", i, 1)) for i, pair in enumerate(pairs)]
    rolling = [
        Instance("loglikelihood_rolling", {}, (prompt,), 0, ("asked", i, 1))
        for i, prompt in enumerate(prompts(3))
    ]
    ours_lm = Greedy(STUDENT, batch_size=2)
    stock = HFLM(ours_lm.pretrained, device="cpu", batch_size=2)
    expected = stock.loglikelihood(scored), stock.loglikelihood_rolling(rolling)
    assert (ours_lm.loglikelihood(scored), ours_lm.loglikelihood_rolling(rolling)) == expected
    ours_lm.generate_until([generation(prompt) for prompt in prompts(3)])
    assert (ours_lm.loglikelihood(scored), ours_lm.loglikelihood_rolling(rolling)) == expected


@pytest.mark.parametrize("name", ["greedy", "s2t", "maj8", "pps_local"])
def test_multiple_choice_gives_stock_s_numbers(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a word reports showed the plain student's score as "Maj@8 75.0"."""
    config = choice_task()
    found = evaluate(name, OWN_ARGUMENTS.get(name, {}), tasks=[config])
    expected = evaluate("hf", tasks=[config])
    for key in ("acc,none", "acc_norm,none"):
        assert found["results"]["choice"][key] == expected["results"]["choice"][key]
    for mine, theirs in zip(found["samples"]["choice"], expected["samples"]["choice"], strict=True):
        assert mine["resps"] == theirs["resps"]
    assert ours(found).get("plain_likelihoods") == (None if name == "greedy" else ["choice"])
    warned = [r for r in caplog.records if "scores of the plain student alone" in r.getMessage()]
    assert len(warned) == (name != "greedy")


@pytest.mark.parametrize("merge", [True, False])
def test_multiple_choice_of_an_adapted_student_is_named_so(
    merge: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`s2t_local` scored with its adapter, and the results and reports named the plain student."""
    config = choice_task()
    found = evaluate("s2t_local", {"merge": merge, **OWN_ARGUMENTS["pps_local"]}, tasks=[config])
    plain = evaluate("greedy", tasks=[config])
    pairs = zip(found["samples"]["choice"], plain["samples"]["choice"], strict=True)
    assert all(mine["resps"] != theirs["resps"] for mine, theirs in pairs)
    assert "plain_likelihoods" not in ours(found) and ours(found)["adapted_likelihoods"] == ["choice"]
    warned = [r.getMessage() for r in caplog.records if "log-likelihoods are scores of" in r.getMessage()]
    assert len(warned) == 1 and "of the adapted student alone" in warned[0]


OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "s2t": {"teacher": TEACHER, "threshold": 0.5},
    "pps_local": {"selector": "embedded/selector"},
}


def choice_task() -> dict[str, Any]:
    """A task whose answers are chosen by log-likelihood."""
    docs = [{**doc, "choices": [doc["answer"], "7", "31"], "label": 0} for doc in arith_docs(6)]
    return inline_task(
        "choice",
        docs,
        output_type="multiple_choice",
        doc_to_text="Question: {{question}}\nAnswer: The answer is",
        doc_to_choice="choices",
        doc_to_target="label",
        generation_kwargs=None,
        metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}],
    )


def test_a_teacher_s_context_does_not_cut_what_the_student_scores() -> None:
    from lm_eval.api.instance import Instance

    scored = [Instance("loglikelihood", {}, (prompts(1)[0], " 7"), 0, ("asked", 0, 1))]
    lm = SelectToThink(STUDENT, teacher=TEACHER, threshold=0.5, device="cpu")
    whole = lm.loglikelihood(scored)
    lm.teacher.config.max_position_embeddings = 8
    assert lm.loglikelihood(scored) == whole
    assert lm.max_length == 8


# ---------------------------------------------------------------- commands

S2T = "pretrained=embedded/student,teacher=embedded/teacher,threshold=0.5,verify=1"
COMMANDS = {
    "lm_eval": ([BIN / "lm_eval"], {}),
    "without the hook": ([BIN / "python", "-m", "s2t_eval", "run"], {"S2T_EVAL_NO_HOOK": "1"}),
    "module": ([BIN / "python", "-m", "lm_eval"], {}),
    "accelerate": (
        [BIN / "accelerate", "launch", "--cpu", "--num_processes", "1", "-m", "lm_eval"],
        {"ACCELERATE_LOG_LEVEL": "ERROR"},
    ),
}


@pytest.mark.parametrize(
    "way",
    [
        "lm_eval",
        pytest.param("without the hook", marks=pytest.mark.slow),
        pytest.param("module", marks=pytest.mark.slow),
        pytest.param("accelerate", marks=pytest.mark.slow),
    ],
)
def test_real_commands(way: str, tmp_path: Path) -> None:
    command, environment = COMMANDS[way]
    arguments = ["--model", "s2t", "--model_args", S2T, "--tasks", "s2t_arith", "--limit", str(LIMIT)]
    arguments += ["--batch_size", "16", "--output_path", str(tmp_path), "--log_samples"]
    done = run_command(*command, *arguments, folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "|s2t_arith|" in done.stdout
    [written] = tmp_path.rglob("results_*.json")
    [samples] = tmp_path.rglob("samples_*.jsonl")
    results = json.loads(written.read_text())
    here = plain_run("s2t", threshold=0.5, verify=1)
    assert results["results"]["s2t_arith"] == dict(here["results"]["s2t_arith"].items()) | {
        key: v for key, v in results["results"]["s2t_arith"].items() if "stderr" in key
    }
    fixed = ("tokens", "forwards", "triggers", "flips", "teacher_calls", "teacher_tokens")
    assert {k: counts(results)[k] for k in fixed} == {k: counts(here)[k] for k in fixed}
    assert ours(results)["policy"] == ours(here)["policy"]
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines.sort(key=lambda line: int(line["doc_id"]))
    assert [line["resps"][0][0] for line in lines] == texts(here)
