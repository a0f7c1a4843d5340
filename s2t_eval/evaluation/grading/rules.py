"""How each kind of benchmark reads an answer out of a text, and when two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s2t_eval.evaluation.grading.expressions import read_expression
from s2t_eval.evaluation.grading.grader import shared_grader
from s2t_eval.evaluation.grading.letters import read_letter
from s2t_eval.evaluation.grading.numbers import as_number
from s2t_eval.evaluation.grading.numeric import read_integer, read_last_number
from s2t_eval.evaluation.grading.reply import answer_of


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
    return answer_of(text, read_last_number)


def integer_of(text: str) -> str | None:
    """A number from a box or a statement, or else from the last sentence of an unbroken text."""
    return answer_of(text, read_integer)


def letter_of(text: str) -> str | None:
    """The letter of a choice, "A" to "J"; None where the text gives none."""
    return answer_of(text, read_letter)


def expression_of(text: str) -> str | None:
    """The last box, or else the last statement, or else the end of an unbroken text's last sentence."""
    return answer_of(text, read_expression)


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
