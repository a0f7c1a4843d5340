"""Problems to learn from, each with the reference that its texts are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """

    problem_id: str
    question: str
    prompt_ids: tuple[int, ...]
    reference: str
    document: Any
    source: str
    steps: list[SolutionStep] = field(default_factory=list)

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
    """problems left out because their reference has a wrong final answer"""
    num_without_steps: int
    """problems left out because their reference has no step"""


def prepare(
    problems: Sequence[RlkdProblem],
    structurer: Structurer | None,
    grade: Grade,
    verified: bool,
    limit: int | None,
) -> Prepared:
    """Divide the references into steps; problems whose reference cannot be used are left out.

    Args:
        problems: problems without steps.
        structurer: divides the references. None: steps are not rewarded, so the references stay whole.
        grade: the task's answer rule.
        verified: leave out problems whose reference has a wrong final answer.
        limit: number of problems that are then divided; None: all of them.
    """
    right = [
        problem
        for problem in problems
        if not verified or grade(problem, [Text([], problem.reference, False)]) == [1.0]
    ]
    num_wrong, right = len(problems) - len(right), right[:limit]
    if structurer is None:
        return Prepared(right, num_wrong, 0)
    structures = structurer.structure([p.question for p in right], [p.reference for p in right])
    usable = [
        replace(problem, steps=steps) for problem, steps in zip(right, structures, strict=True) if steps
    ]
    return Prepared(usable, num_wrong, len(right) - len(usable))
