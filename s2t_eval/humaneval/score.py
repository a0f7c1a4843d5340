"""What `s2t_humaneval` names: answers run in the sandbox, and pass@k of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from s2t_eval.generated import was_truncated
from s2t_eval.grading.estimators import pass_at_k, sizes
from s2t_eval.humaneval.assemble import assemble
from s2t_eval.sandbox import Limits, Program, Verdict, run_programs

LIMITS = Limits()
Outcome = dict[str, Any]


def program_of(source: str, doc: dict[str, Any]) -> Program:
    """A solution with its document's checks, which may use the helpers of the prompt."""
    entry = str(doc["entry_point"])
    checks = f"{doc['test']}\n\ncheck({entry})\n"
    return Program(source, checks, prelude=str(doc["prompt"]), functions=(entry,))


def score_solutions(sources: Sequence[str | None], docs: Sequence[dict[str, Any]]) -> list[Verdict | None]:
    """Verdicts on programs, None where there is none, in their order."""
    given = [(i, program_of(s, docs[i])) for i, s in enumerate(sources) if s is not None]
    with tqdm(total=len(given), desc="Running programs in the sandbox", disable=not given) as bar:
        found = run_programs([program for _, program in given], LIMITS, progress=bar.update)
    verdicts: list[Verdict | None] = [None] * len(sources)
    for (place, _), verdict in zip(given, found, strict=True):
        verdicts[place] = verdict
    return verdicts


class HumanEvalScorer:
    """The task's filter and its `process_results`; remembers the sandbox for the results file."""

    def __init__(self) -> None:
        self.sandboxes: set[str] = set()

    def outcomes(
        self, resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]
    ) -> list[list[Outcome]]:
        """The task's filter: every response to what became of its program."""
        flat = [(text, doc) for texts, doc in zip(resps, docs, strict=True) for text in texts]
        sources = [assemble(text, doc["prompt"], doc["entry_point"]) for text, doc in flat]
        verdicts = iter(
            [
                _outcome(text, source, verdict)
                for (text, _), source, verdict in zip(
                    flat, sources, score_solutions(sources, [doc for _, doc in flat]), strict=True
                )
            ]
        )
        found = [[next(verdicts) for _ in texts] for texts in resps]
        seen = {outcome["sandbox"] for outcomes in found for outcome in outcomes}
        self.sandboxes |= {str(name) for name in seen if name is not None}
        return found

    def __call__(self, doc: dict[str, Any], results: Sequence[Sequence[Outcome]]) -> dict[str, float]:
        """`pass@k` for k = 1, 2, 4 ... n of the responses that have a verdict, and shares beside it.

        A program whose sandbox was killed from outside has none: it is left out and counted by
        `ungraded`; where no response has one, `pass@1` is left out.
        """
        outcomes = results[0]
        graded = [outcome["passed"] for outcome in outcomes if outcome["passed"] is not None]
        metrics = {
            "extracted": sum(outcome["program"] is not None for outcome in outcomes) / len(outcomes),
            "ungraded": 1 - len(graded) / len(outcomes),
        }
        cut = [outcome["truncated"] for outcome in outcomes if outcome["truncated"] is not None]
        if cut:
            metrics["truncated"] = sum(cut) / len(cut)
        if graded:
            for k in sizes(len(graded)):
                metrics[f"pass@{k}"] = pass_at_k(len(graded), sum(graded), k)
        return metrics

    def __deepcopy__(self, memo: dict[int, Any]) -> HumanEvalScorer:
        """Itself: the harness copies configurations, and each copy has to know the same sandbox."""
        return self

    def __repr__(self) -> str:
        return f"HumanEvalScorer(sandbox={', '.join(sorted(self.sandboxes)) or 'not used'})"


def _outcome(text: str, source: str | None, verdict: Verdict | None) -> Outcome:
    if verdict is None:
        verdict = Verdict(False, "the answer holds no program", 0.0, "")
    return {
        "program": source,
        "passed": verdict.passed,
        "reason": verdict.reason,
        "seconds": round(verdict.seconds, 3),
        "sandbox": verdict.sandbox or None,
        "truncated": was_truncated(text),
    }


scorer = HumanEvalScorer()
outcomes = scorer.outcomes
