"""How each kind of benchmark reads an answer out of a text, and when two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from s2t_eval.generated import was_truncated
from s2t_eval.grading.grader import shared_grader
from s2t_eval.grading.latex import split
from s2t_eval.grading.letters import letter_of
from s2t_eval.grading.numbers import as_number, numbers_in, write
from s2t_eval.grading.text import boxes, last_sentence, math_segments, statements

LONGEST_WORDS = 6
"""Words that an answer in words has at most; what is longer is talk."""


@dataclass(frozen=True)
class AnswerRule:
    """One kind of answer.

    Args:
        name: for results and messages.
        extract: text -> the answer, None where it gives none.
        same: (gold, answer) -> whether they are equal; None where nobody could tell in time.
    """

    name: str
    extract: Callable[[str], str | None]
    same: Callable[[str, str], bool | None]

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """For each answer the place of the first one equal to it; None for none."""
        found: list[int | None] = []
        for place, answer in enumerate(answers):
            firsts = [i for i, first in enumerate(found) if first == i]
            found.append(None if answer is None else place)
            for first in firsts:
                earlier = answers[first]
                if answer is not None and earlier is not None and self._equal(earlier, answer):
                    found[place] = first
                    break
        return found

    def _equal(self, first: str, second: str) -> bool:
        return first == second or bool(self.same(first, second)) or bool(self.same(second, first))


def number_of(text: str) -> str | None:
    """The last boxed number, or else the last stated one, or else the last number of the text."""
    for box in reversed(boxes(text)):
        if numbers_in(box):
            return _number(box, last=True)
    for said in reversed(statements(text)):
        if numbers_in(said):
            return _number(said, last=False)
    found = numbers_in(text)
    return write(found[-1]) if found else None


def integer_of(text: str) -> str | None:
    """A whole number from a box or a statement, or else from the last sentence of an unbroken text."""
    pieces = [*reversed(boxes(text)), *reversed(statements(text))]
    if not pieces and not was_truncated(text):
        pieces = [last_sentence(text)]
    for piece in pieces:
        if numbers_in(piece):
            answer = _number(piece, last=True)
            return answer
    return None


def expression_of(text: str) -> str | None:
    """The last box, or else the last statement, or else the end of an unbroken text's last sentence."""
    if found := boxes(text):
        return found[-1]
    for said in reversed(statements(text)):
        if (answer := _expression(said)) is not None:
            return answer
    if was_truncated(text):
        return None
    said = last_sentence(text)
    segments = math_segments(said)
    if segments:
        return segments[-1]
    if as_number(said.split("=")[-1]) is not None:
        return said.split("=")[-1].strip()
    values = numbers_in(said)
    return write(values[-1]) if values else None


def same_number(gold: str, answer: str) -> bool:
    """Equal values; what is no number equals nothing."""
    mine, theirs = as_number(gold), as_number(answer)
    return mine is not None and mine == theirs


def same_letter(gold: str, answer: str) -> bool:
    """The same choice."""
    return gold.strip().upper() == answer.strip().upper()


def same_expression(gold: str, answer: str) -> bool | None:
    """Equal as mathematics, compared in a process with a time limit."""
    return shared_grader().same(gold, answer)


def same_quantity(gold: str, answer: str) -> bool | None:
    """Equal as mathematics; decimal numbers within one percent, as Minerva counts them."""
    return shared_grader().same(gold, answer, 0.01)


NUMBER = AnswerRule("number", number_of, same_number)
INTEGER = AnswerRule("integer", integer_of, same_number)
LETTER = AnswerRule("letter", letter_of, same_letter)
EXPRESSION = AnswerRule("expression", expression_of, same_expression)
QUANTITY = AnswerRule("quantity", expression_of, same_quantity)


def _number(piece: str, last: bool) -> str:
    """The number that a box or a statement means."""
    whole: Fraction | None = as_number(piece)
    if whole is not None:
        return write(whole)
    side = piece.rsplit("=", 1)[-1]
    found = numbers_in(side) or numbers_in(piece)
    if len(found) > 1 and len(split(side)) == len(found):
        return side.strip()  # a list of numbers is not one of them
    return write(found[-1] if last else found[0])


def _expression(said: str) -> str | None:
    segments = math_segments(said)
    if segments:
        return segments[-1]
    if as_number(said) is not None or "\\" in said or len(said.split()) <= LONGEST_WORDS:
        return said
    values = numbers_in(said)
    return write(values[0]) if len(values) == 1 else None
