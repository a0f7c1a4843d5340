"""Problems to learn from, each with the reference that its texts are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from s2t_eval.training.rlkd.structure import SolutionStep, Structurer


class RlkdError(ValueError):
    """Problems, references or a teacher with which RLKD cannot be trained."""


@dataclass(frozen=True)
class RlkdProblem:
    """One problem with its reference.

    Args:
        problem_id: an id that is unique over data sets.
        question: the question.
        prompt_ids: the student's prompt.
        reference: the solution whose structure is learnt: a teacher's text, or the problem's own solution.
        document: the task's record of the problem, for its answer rule.
        source: shard and row, for messages.
        steps: steps of the reference.
        is_whole: whether the reference has an end, and was not cut off at the limit of tokens.
    """

    problem_id: str
    question: str
    prompt_ids: tuple[int, ...]
    reference: str
    document: Any
    source: str
    steps: list[SolutionStep] = field(default_factory=list)
    is_whole: bool = True

    @property
    def weight(self) -> float:
        """Weight in the mean loss of an optimizer step: all problems count equally."""
        return 1.0


class Text(NamedTuple):
    """A generated text."""

    output_ids: list[int]
    """its tokens, with its stop token"""
    content: str
    """its text, up to a stop string"""
    is_truncated: bool
    """whether it reached the length limit"""


Grade = Callable[[RlkdProblem, Sequence[Text]], list[float]]
"""Whether the final answer of each text is right, by the task's own rule: 1 or 0."""


class Prepared(NamedTuple):
    """Problems whose reference can be used, and how many could not."""

    problems: list[RlkdProblem]
    num_wrong: int
    """problems left out because their reference is cut off or has a wrong final answer; with a limit, of the
    problems up to the last one that is used"""
    num_without_steps: int
    """problems left out because their reference has no step"""


def is_right(problem: RlkdProblem, grade: Grade) -> bool:
    """Whether the reference of a problem is whole and has a right final answer, by the task's rule."""
    return problem.is_whole and grade(problem, [Text([], problem.reference, False)]) == [1.0]


def prepare(
    problems: Iterable[RlkdProblem],
    structurer: Structurer | None,
    grade: Grade,
    verified: bool,
    limit: int | None,
) -> Prepared:
    """Divide the references into steps; problems whose reference cannot be used are left out.

    Args:
        problems: problems without steps; no more of them are read than the limit needs.
        structurer: divides the references. None: steps are not rewarded, so the references stay whole.
        grade: the task's answer rule.
        verified: leave out problems whose reference is cut off or has a wrong final answer.
        limit: number of problems that are then divided; None: all of them.
    """
    right: list[RlkdProblem] = []
    num_wrong = 0
    for problem in problems:
        if verified and not is_right(problem, grade):
            num_wrong += 1
            continue
        right.append(problem)
        if len(right) == limit:
            break
    if structurer is None:
        return Prepared(right, num_wrong, 0)
    structures = structurer.structure([p.question for p in right], [p.reference for p in right])
    usable = [
        replace(problem, steps=steps) for problem, steps in zip(right, structures, strict=True) if steps
    ]
    return Prepared(usable, num_wrong, len(right) - len(usable))
