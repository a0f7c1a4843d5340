"""Comparison of two steps, one of the student's solution and one of the reference's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from s2t_eval.training.r2r.rules import normalise, numbers
from s2t_eval.training.rlkd.structure import OPERATOR, Step


class Agreement(NamedTuple):
    """Which parts of two steps agree."""

    meta: bool
    """whether they work on the same sub-problem"""
    query: bool
    """whether they answer the same question"""
    answer: bool
    """whether their answers are equal"""


class Aligner(Protocol):
    """Compares steps."""

    def align(self, pairs: Sequence[tuple[Step, Step]]) -> list[Agreement]:
        """What agrees in each pair of a student's step and a reference's step."""
        ...


class RuleAligner:
    """Queries agree if they have the same numbers and the same operators, answers if they have equal numbers.

    Two steps work on the same sub-problem if their queries or their answers agree. Parts without numbers
    agree if their texts are equal but for case and spacing.
    """

    def align(self, pairs: Sequence[tuple[Step, Step]]) -> list[Agreement]:
        """What agrees in each pair; the meta-reasoning itself is not read."""
        agreements = []
        for student, reference in pairs:
            query = _is_same(student.query, reference.query) and (
                _operators(student.query) == _operators(reference.query)
            )
            answer = _is_same(student.answer, reference.answer)
            agreements.append(Agreement(query or answer, query, answer))
        return agreements


def _is_same(left: str, right: str) -> bool:
    """Whether two texts have the same numbers, or the same words where neither has a number."""
    left, right = normalise(left), normalise(right)
    counts = numbers(left), numbers(right)
    if not any(counts):
        return left == right
    return counts[0] == counts[1] and left.startswith("-") == right.startswith("-")


def _operators(text: str) -> Counter[str]:
    return Counter(operator.replace("x", "*") for operator in OPERATOR.findall(normalise(text)))
