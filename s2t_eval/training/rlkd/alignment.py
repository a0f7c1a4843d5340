"""Comparison of two steps, one of the student's solution and one of the reference's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from s2t_eval.training.rlkd.structure import SolutionStep
from s2t_eval.training.written_arithmetic import is_result, normalise, numbers, operators, result_value

RESULT = re.compile(r"#\d+")


class StepAgreement(NamedTuple):
    """Which parts of two steps agree."""

    meta: bool
    """whether they work on the same sub-problem"""
    query: bool
    """whether they answer the same question"""
    answer: bool
    """whether their answers are equal"""


class Aligner(Protocol):
    """Compares steps."""

    def align(self, pairs: Sequence[tuple[SolutionStep, SolutionStep]]) -> list[StepAgreement]:
        """What agrees in each pair of a student's step and a reference's step."""
        ...


class RuleAligner:
    """Queries agree if they have the same numbers and operators, answers if they have equal numbers
    (`3/4` is 0.75).

    After a wrong answer a text goes on with that number. Its later queries then still agree with the
    reference's if they have the same operators and numbers but for answers of earlier steps, which stand in
    the same places (`SolutionStep.form`). Such a step's answer agrees if its own equation is true: to compare
    it with the reference's would reward a second error that leads back to the reference's numbers.

    Two steps work on the same sub-problem if their queries or their answers agree. Parts without numbers
    agree if their texts are equal but for case and spacing.
    """

    def align(self, pairs: Sequence[tuple[SolutionStep, SolutionStep]]) -> list[StepAgreement]:
        """What agrees in each pair; the meta-reasoning itself is not read."""
        agreements = []
        for student, reference in pairs:
            is_same_query = _is_same_query(student.query, reference.query)
            is_carried_on = not is_same_query and _is_same_form(student.form, reference.form)
            is_true = is_result(student.answer, student.query) if is_carried_on else None
            answer = _is_same_answer(student.answer, reference.answer) if is_true is None else is_true
            query = is_same_query or is_carried_on
            agreements.append(StepAgreement(query or answer, query, answer))
        return agreements


def _is_same_query(left: str, right: str) -> bool:
    return _is_same(left, right) and _operators(left) == _operators(right)


def _is_same_form(left: str, right: str) -> bool:
    """Whether both are queries by the rule with the same operators, numbers and answers of earlier steps."""
    results = [Counter(RESULT.findall(form)) for form in (left, right)]
    if not results[0] or results[0] != results[1]:
        return False
    left, right = (RESULT.sub(" ", form) for form in (left, right))
    return numbers(normalise(left)) == numbers(normalise(right)) and _operators(left) == _operators(right)


def _is_same(left: str, right: str) -> bool:
    """Whether two texts have the same numbers, or the same words where neither has a number."""
    left, right = normalise(left), normalise(right)
    counts = numbers(left), numbers(right)
    if not any(counts):
        return left == right
    return counts[0] == counts[1]


def _is_same_answer(left: str, right: str) -> bool:
    """As `_is_same`, but that a quotient of two numbers is one number: `3/4` is 0.75."""
    values = result_value(left), result_value(right)
    return _is_same(left, right) if None in values else values[0] == values[1]


def _operators(text: str) -> Counter[str]:
    return operators(normalise(text))
