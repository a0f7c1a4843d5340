"""HumanEval: programs from answers of every shape run in the sandbox and get the correct verdict."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.humaneval import HumanEvalScorer, assemble, score_solutions
from s2t_eval.evaluation.humaneval import score as score_module
from s2t_eval.evaluation.sandbox import ProgramVerdict
from tests.evaluation.answer_shapes import ROTATE, ROTATE_CHECK, SHAPES, TWICE, TWICE_CHECK
from tests.harness_helpers import shared_records

NAMES = {TWICE: ("twice", TWICE_CHECK), ROTATE: ("rotate", ROTATE_CHECK)}


def document(prompt: str) -> dict[str, Any]:
    entry, check = NAMES[prompt]
    return {"prompt": prompt, "entry_point": entry, "test": check}


@pytest.mark.usefixtures("sandbox")
def test_verdicts_on_answer_shapes() -> None:
    assert len(SHAPES) >= 30
    docs = [document(prompt) for _, prompt, _, _ in SHAPES]
    sources = [
        assemble(answer, prompt, NAMES[prompt][0]) for (_, prompt, answer, _) in SHAPES
    ]  # fmt: skip
    verdicts = score_solutions(sources, docs)
    for (name, _, _, passes), source, verdict in zip(SHAPES, sources, verdicts, strict=True):
        assert (verdict is not None and verdict.passed) is passes, (name, source, verdict)


@pytest.mark.parametrize("answer", ["", "Just multiply it by two.", "```\n???\n```", "x " * 5_000])
def test_answer_without_a_program(answer: str) -> None:
    assert assemble(answer, TWICE, "twice") is None


def problems() -> list[dict[str, Any]]:
    return shared_records("openai/openai_humaneval")


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_canonical_solutions_pass_and_empty_bodies_fail(every: int) -> None:
    """Solutions as a fenced function, a bare body and a body without indentation; then `pass` as the body."""
    docs = problems()
    assert len(docs) == 164
    docs = docs[::every]
    whole = [f"```python\n{doc['prompt']}{doc['canonical_solution']}```" for doc in docs]
    bodies = [doc["canonical_solution"] for doc in docs]
    dedented = [textwrap.dedent(doc["canonical_solution"]).strip() for doc in docs]
    # Most of them become the same program, which is run once.
    programs = {
        (assemble(answer, doc["prompt"], doc["entry_point"]), i)
        for answers in (whole, bodies, dedented)
        for i, (answer, doc) in enumerate(zip(answers, docs, strict=True))
    }
    assert 2 * len(docs) > len(programs) >= len(docs)
    sources, places = zip(*programs, strict=True)
    verdicts = score_solutions(sources, [docs[i] for i in places])
    failed = [(docs[i]["task_id"], v) for i, v in zip(places, verdicts, strict=True) if not (v and v.passed)]
    assert failed == []
    empty = score_solutions([doc["prompt"] + "    pass\n" for doc in docs], docs)
    assert [
        d["task_id"] for d, v in zip(docs, empty, strict=True) if v is None or v.passed is not False
    ] == []


@pytest.mark.usefixtures("sandbox")
def test_metrics_for_one_and_several_answers() -> None:
    scorer, doc = HumanEvalScorer(), document(TWICE)
    right, wrong = "    return 2 * x", GeneratedText("    return x", truncated=True)
    outcomes = scorer.outcomes([[right], [wrong], [right, wrong, "no code", right]], [doc] * 3)
    assert scorer(doc, [outcomes[0]]) == {"extracted": 1.0, "ungraded": 0.0, "pass@1": 1.0}
    assert scorer(doc, [outcomes[1]]) == {"extracted": 1.0, "ungraded": 0.0, "truncated": 1.0, "pass@1": 0.0}
    many = scorer(doc, [outcomes[2]])
    assert many["pass@1"] == 0.5
    assert many["pass@2"] == pytest.approx(5 / 6)
    assert many["pass@4"] == 1.0
    assert many["extracted"] == 0.75
    logged = json.loads(outcomes[1][0])
    assert logged["passed"] is False
    assert logged["reason"].startswith("a check failed: AssertionError")
    assert logged["program"].startswith("def twice")
    assert repr(scorer).startswith("HumanEvalScorer(sandbox=bubblewrap 0.")


def test_program_without_a_verdict_is_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the sandbox is killed from outside twice, there is no verdict on the program."""
    lost = ProgramVerdict(None, "the sandbox was killed from outside (signal 9)", 1.0, "bubblewrap 0.11.0")
    monkeypatch.setattr(score_module, "run_programs", lambda programs, *_, **__: [lost for _ in programs])
    scorer, doc = HumanEvalScorer(), document(TWICE)
    [outcomes] = scorer.outcomes([["    return 2 * x"]], [doc])
    assert scorer(doc, [outcomes]) == {"extracted": 1.0, "ungraded": 1.0}
