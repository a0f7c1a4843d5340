"""Scorer of `s2t_humaneval`: programs are run in the sandbox, and pass@k is computed from the verdicts."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.estimators import pass_at_k, reported_ks
from s2t_eval.evaluation.humaneval.assemble import assemble
from s2t_eval.evaluation.sandbox import Limits, Program, ProgramVerdict, run_programs

logger = logging.getLogger(__name__)
LIMITS = Limits()
NO_PROGRAM = "the answer contains no program"
MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '(?!program\b)([\w.]+)'")


class Outcome(str):
    """The verdict on an answer: JSON text for the harness's log, with the parts as attributes.

    It is serialised as a plain string.

    Args:
        text: the response.
        program: the program extracted from it; None if there is none.
        verdict: the sandbox's verdict on the program; None if there is no program.
    """

    program: str | None
    verdict: ProgramVerdict
    truncated: bool | None

    def __new__(cls, text: str, program: str | None, verdict: ProgramVerdict | None) -> Outcome:
        verdict = verdict or ProgramVerdict(False, NO_PROGRAM, 0.0, "")
        logged = {**verdict.as_json(), "seconds": round(verdict.seconds, 3), "program": program}
        # UTF-8 cannot encode a lone surrogate; JSON's escape for it is written instead.
        content = json.dumps(logged, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        instance = super().__new__(cls, content)
        instance.program, instance.verdict, instance.truncated = program, verdict, was_truncated(text)
        return instance

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


def build_program(source: str, doc: dict[str, Any]) -> Program:
    """Combine a solution with its document's checks, which may use the helpers of the prompt.

    Args:
        source: source text of the solution.
        doc: HumanEval document with `entry_point`, `prompt` and `test`.
    """
    entry = str(doc["entry_point"])
    checks = f"{doc['test']}\n\ncheck({entry})\n"
    return Program(source, checks, prelude=str(doc["prompt"]), functions=(entry,))


def score_solutions(
    sources: Sequence[str | None], docs: Sequence[dict[str, Any]]
) -> list[ProgramVerdict | None]:
    """Run solutions in the sandbox.

    Args:
        sources: source texts; None for an answer without a program.
        docs: for each source its document.

    Returns:
        The verdicts in the same order; None where the source is None.
    """
    programs = [(i, build_program(s, docs[i])) for i, s in enumerate(sources) if s is not None]
    with tqdm(total=len(programs), desc="Running programs in the sandbox", disable=not programs) as bar:
        results = run_programs([program for _, program in programs], LIMITS, progress=bar.update)
    verdicts: list[ProgramVerdict | None] = [None] * len(sources)
    for (index, _), verdict in zip(programs, results, strict=True):
        verdicts[index] = _explain_missing_module(verdict)
    return verdicts


def _explain_missing_module(verdict: ProgramVerdict) -> ProgramVerdict:
    """Extend the reason of a verdict on a failed import by the modules that the sandbox provides."""
    missing = MISSING_MODULE.search(verdict.reason) if not verdict.passed else None
    if missing is None:
        return verdict
    if missing[1].split(".")[0] == "numpy":
        hint = "numpy is absent from this sandbox: it is taken from the Python that runs the evaluation"
    else:
        hint = "the sandbox has Python's standard library and numpy, nothing else"
    return replace(verdict, reason=f"{verdict.reason} ({hint})")


def _extract_program(text: str, doc: dict[str, Any]) -> str | ProgramVerdict | None:
    """Extract the program of an answer; if this raises an error, return a verdict with its message."""
    try:
        return assemble(text, doc["prompt"], doc["entry_point"])
    except (RecursionError, MemoryError) as error:
        passed, reason = (
            False,
            f"the answer is nested too deeply or too long: {type(error).__name__}",
        )
    except Exception as error:  # an error of this package: the answer is not scored, and the run continues
        logger.exception(
            "%s: extracting a program from an answer failed", doc.get("task_id", doc["entry_point"])
        )
        passed, reason = None, f"extracting a program failed: {type(error).__name__}: {error}"
    return ProgramVerdict(passed, reason, 0.0, "")


class HumanEvalScorer:
    """The task's filter and `process_results`; it records the sandboxes used, for the results file."""

    def __init__(self) -> None:
        self.sandboxes: set[str] = set()

    def outcomes(self, resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Outcome]]:
        """The task's filter: extract and run the program of every response."""
        flat = [(text, doc) for texts, doc in zip(resps, docs, strict=True) for text in texts]
        programs = [_extract_program(text, doc) for text, doc in flat]
        sources = [program if isinstance(program, str) else None for program in programs]
        verdicts = score_solutions(sources, [doc for _, doc in flat])
        self.sandboxes |= {verdict.sandbox for verdict in verdicts if verdict is not None}
        for index, program in enumerate(programs):
            if isinstance(program, ProgramVerdict):
                verdicts[index] = program
        scored = iter(zip(sources, verdicts, strict=True))
        return [[Outcome(text, *next(scored)) for text in texts] for texts in resps]

    def optional_metrics(self, n: int) -> dict[str, bool]:
        """The metrics that only some runs of n responses have, and whether a higher value is better."""
        return {"truncated": False, **{f"pass@{k}": True for k in range(1, n + 1)}}  # some have no verdict

    def __call__(self, doc: dict[str, Any], results: Sequence[Sequence[Outcome]]) -> dict[str, float]:
        """Compute `pass@k` for k = 1, 2, 4, ..., n over the responses that have a verdict.

        A program has no verdict if its sandbox could not be started or was killed from outside; it is
        excluded and counted in `ungraded`. If no response has a verdict, `pass@1` is omitted.
        """
        outcomes = results[0]
        verdicts = [outcome.verdict.passed for outcome in outcomes]
        graded = [passed for passed in verdicts if passed is not None]
        metrics = {
            "extracted": sum(outcome.program is not None for outcome in outcomes) / len(outcomes),
            "ungraded": 1 - len(graded) / len(outcomes),
        }
        truncated = [outcome.truncated for outcome in outcomes if outcome.truncated is not None]
        if truncated:
            metrics["truncated"] = sum(truncated) / len(truncated)
        if graded:
            for k in reported_ks(len(graded)):
                metrics[f"pass@{k}"] = pass_at_k(len(graded), sum(graded), k)
        return metrics

    def __deepcopy__(self, memo: dict[int, Any]) -> HumanEvalScorer:
        """Return the same object: the harness copies configurations, and all copies share the sandboxes."""
        return self

    def __repr__(self) -> str:
        return f"HumanEvalScorer(sandbox={', '.join(sorted(self.sandboxes)) or 'not used'})"


scorer = HumanEvalScorer()
outcomes = scorer.outcomes
