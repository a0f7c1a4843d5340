"""Which mismatches of student and teacher are divergent: the rules, as functions of two sentences or numbers.

At a mismatch the teacher's token and the student's both begin a continuation by the teacher. In R2R
a 72B model compares the two sentences (section 3.2 of the paper); these rules need no model beyond the
teacher.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from s2t_eval.training.written_arithmetic import (
    NUMBER,
    QUOTIENT,
    canonical,
    equations,
    normalise,
    number,
    numbers,
    value_of,
)

IDENTICAL, NEUTRAL, DIVERGENT, UNSCORED = 0, 1, 2, 3
"""Verdicts on a student's token: it is the teacher's; it is another, and the text keeps its meaning; it is
another, and the text changes its meaning; the rule gives no verdict."""

WORD = re.compile(rf"{NUMBER.pattern}|\w+|[^\w\s]")


# ---------------------------------------------------------------- reconverge


@dataclass(frozen=True)
class Sentence:
    """A sentence and what follows it.

    Args:
        text: from the sentence's beginning, which both sides share, to its end.
        next_id: the first token of the next sentence; -1 where the whole text ends; None where it is
            unknown, because the sentence was cut off at its limit or was not continued further.
    """

    text: str
    next_id: int | None


def is_neutral(teacher: Sentence, student: Sentence, max_edit: float) -> bool | None:
    """The rule `reconverge`: whether two continuations count as having the same meaning.

    They do if (i) the same numbers, quotients of two numbers and equations `a op b = c` occur in both, each
    as often, and (ii) their words differ by an edit distance of at most `max_edit` of the longer one's, or
    both sentences are followed by the same token (or both texts end).

    Returns:
        None where (ii) depends on a next token that is not known yet.
    """
    teacher_text, student_text = normalise(teacher.text), normalise(student.text)
    if teacher_text == student_text:
        return True
    if any(count(teacher_text) != count(student_text) for count in (numbers, quotients, calculations)):
        return False
    if is_close(words(teacher_text), words(student_text), max_edit):
        return True
    if teacher.next_id is None:
        return False
    return None if student.next_id is None else teacher.next_id == student.next_id


def words(text: str) -> list[str]:
    """Words, numbers and marks of a normalised text; numbers of one value are the same word."""
    tokens = WORD.findall(text)
    return [str(number(word)) if NUMBER.fullmatch(word) else word for word in tokens]


def quotients(text: str) -> Counter[tuple[Fraction, Fraction]]:
    """The quotients `a/b` of two numbers in a normalised text, each with how often it occurs."""
    return Counter((number(a), number(b)) for a, b in QUOTIENT.findall(text))


def calculations(text: str) -> Counter[tuple[str, Fraction | None]]:
    """The equations of a normalised text without units, each with how often it occurs."""
    return Counter((canonical(one.expression), value_of(one.result)) for one in equations(text))


def is_close(left: Sequence[str], right: Sequence[str], max_edit: float) -> bool:
    """Whether the edit distance of two sequences is at most this share of the longer one's length."""
    return edit_distance(left, right) <= max_edit * max(len(left), len(right))


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Least number of insertions, deletions and replacements between two sequences (Levenshtein).

    It is written here because the libraries that have it for sequences are compiled or slow to load.
    """
    previous_row = list(range(len(right) + 1))
    for i, left_word in enumerate(left, 1):
        row = [i]
        for j, right_word in enumerate(right, 1):
            row.append(min(previous_row[j] + 1, row[-1] + 1, previous_row[j - 1] + (left_word != right_word)))
        previous_row = row
    return previous_row[-1]
