"""What `s2t_humaneval` names: answers run in the sandbox, and pass@k of them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.estimators import pass_at_k, sizes
from s2t_eval.evaluation.humaneval.assemble import assemble
from s2t_eval.evaluation.sandbox import Limits, Program, Verdict, run_programs

logger = logging.getLogger(__name__)
LIMITS = Limits()
NO_PROGRAM = "the answer holds no program"
MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '(?!program\b)([\w.]+)'")


class Outcome(str):
    """What became of an answer: JSON in the harness's log, its parts as attributes; stored, a text."""

    program: str | None
    verdict: Verdict
    truncated: bool | None

    def __new__(cls, text: str, program: str | None, verdict: Verdict | None) -> Outcome:
        verdict = verdict or Verdict(False, NO_PROGRAM, 0.0, "")
        logged = {**verdict.as_json(), "seconds": round(verdict.seconds, 3), "program": program}
        # A lone surrogate, which no file can hold, becomes the escape that JSON has for it.
        written = json.dumps(logged, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        made = super().__new__(cls, written)
        made.program, made.verdict, made.truncated = program, verdict, was_truncated(text)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


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
        verdicts[place] = _with_missing_module(verdict)
    return verdicts


def _with_missing_module(verdict: Verdict) -> Verdict:
    """The verdict; where a program imports what the sandbox lacks, its reason says what the sandbox has."""
    missing = MISSING_MODULE.search(verdict.reason) if not verdict.passed else None
    if missing is None:
        return verdict
    if missing[1].split(".")[0] == "numpy":
        hint = "numpy is absent from this sandbox: it is taken from the Python that runs the evaluation"
    else:
        hint = "the sandbox has Python's standard library and numpy, nothing else"
    return replace(verdict, reason=f"{verdict.reason} ({hint})")


def _program_in(text: str, doc: dict[str, Any]) -> str | Verdict | None:
    """The program in an answer; where reading it fails, the verdict that says so, and the run goes on."""
    try:
        return assemble(text, doc["prompt"], doc["entry_point"])
    except (RecursionError, MemoryError) as error:
        passed, why = False, f"the answer is nested too deep or too long to be read: {type(error).__name__}"
    except Exception as error:  # ours to mend: the answer has no score, and the log says why
        logger.exception(
            "%s: an answer could not be searched for a program", doc.get("task_id", doc["entry_point"])
        )
        passed, why = None, f"the answer could not be searched for a program: {type(error).__name__}: {error}"
    return Verdict(passed, why, 0.0, "")


class HumanEvalScorer:
    """The task's filter and its `process_results`; remembers the sandbox for the results file."""

    def __init__(self) -> None:
        self.sandboxes: set[str] = set()

    def outcomes(self, resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Outcome]]:
        """The task's filter: every response to what became of its program."""
        flat = [(text, doc) for texts, doc in zip(resps, docs, strict=True) for text in texts]
        programs = [_program_in(text, doc) for text, doc in flat]
        sources = [program if isinstance(program, str) else None for program in programs]
        verdicts = score_solutions(sources, [doc for _, doc in flat])
        self.sandboxes |= {verdict.sandbox for verdict in verdicts if verdict is not None}
        for place, program in enumerate(programs):
            if isinstance(program, Verdict):
                verdicts[place] = program
        given = iter(zip(sources, verdicts, strict=True))
        return [[Outcome(text, *next(given)) for text in texts] for texts in resps]

    def __call__(self, doc: dict[str, Any], results: Sequence[Sequence[Outcome]]) -> dict[str, float]:
        """`pass@k` for k = 1, 2, 4 ... n of the responses that have a verdict, and shares beside it.

        A program whose sandbox could not be started or was killed from outside has none: it is left
        out and counted by `ungraded`; where no response has one, `pass@1` is left out.
        """
        outcomes = results[0]
        verdicts = [outcome.verdict.passed for outcome in outcomes]
        graded = [passed for passed in verdicts if passed is not None]
        metrics = {
            "extracted": sum(outcome.program is not None for outcome in outcomes) / len(outcomes),
            "ungraded": 1 - len(graded) / len(outcomes),
        }
        cut = [outcome.truncated for outcome in outcomes if outcome.truncated is not None]
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


scorer = HumanEvalScorer()
outcomes = scorer.outcomes
