"""Answer rules: for each kind of answer, its extraction from a response and its equivalence relation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s2t_eval.evaluation.grading.extraction.choice_letter import extract_choice_letter
from s2t_eval.evaluation.grading.extraction.math_answer import extract_expression
from s2t_eval.evaluation.grading.extraction.number_answer import extract_integer, extract_last_number
from s2t_eval.evaluation.grading.extraction.reply import extract_answer
from s2t_eval.evaluation.grading.grader import shared_grader
from s2t_eval.evaluation.grading.numbers.parsing import parse_number


@dataclass(frozen=True)
class AnswerRule:
    """One kind of answer.

    Args:
        name: name in results and messages.
        extract: function from a response to its answer, or None if there is none.
        is_equivalent: function from (gold, answer) to the verdict; None if the comparison exceeded its
            time limit.

    Example:
        >>> NUMBER.extract("The total is $1,200.")
        '1200'
        >>> NUMBER.is_equivalent("1,200", "1200")
        True
    """

    name: str
    extract: Callable[[str], str | None]
    is_equivalent: Callable[[str, str], bool | None]

    def equivalence_classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """For each answer the index of the first equivalent one; None for a missing answer."""
        classes: list[int | None] = []
        for index, answer in enumerate(answers):
            firsts = [i for i, first in enumerate(classes) if first == i]
            classes.append(None if answer is None else index)
            for first in firsts:
                earlier = answers[first]
                if answer is not None and earlier is not None and self._equal(earlier, answer):
                    classes[index] = first
                    break
        return classes

    def _equal(self, first: str, second: str) -> bool:
        return (
            first == second
            or bool(self.is_equivalent(first, second))
            or bool(self.is_equivalent(second, first))
        )


def extract_number(text: str) -> str | None:
    """Return the last boxed number, otherwise the last stated one, otherwise a response's last number."""
    return extract_answer(text, extract_last_number)


def extract_integer_answer(text: str) -> str | None:
    """Return a boxed or stated number, otherwise that of the last sentence of an untruncated response."""
    return extract_answer(text, extract_integer)


def extract_letter(text: str) -> str | None:
    """Return the letter of a choice, "A" to "J"; None if there is none."""
    return extract_answer(text, extract_choice_letter)


def extract_math(text: str) -> str | None:
    """Return the last box, otherwise the last statement, otherwise the end of the last sentence.

    The last sentence of a truncated response does not count.
    """
    return extract_answer(text, extract_expression)


def equal_numbers(gold: str, answer: str) -> bool:
    """Whether two numbers have equal values; a text that is not a number equals nothing."""
    gold_value, answer_value = parse_number(gold), parse_number(answer)
    return gold_value is not None and gold_value == answer_value


def equal_letters(gold: str, answer: str) -> bool:
    """Whether two letters are equal, ignoring case."""
    return gold.strip().upper() == answer.strip().upper()


def equivalent_expressions(gold: str, answer: str) -> bool | None:
    """Whether two expressions are equivalent; None if the comparison exceeded its time limit."""
    return shared_grader().is_equivalent(gold, answer)


def equivalent_quantities(gold: str, answer: str) -> bool | None:
    """Like `equivalent_expressions`, with a tolerance of 1 % for decimal numbers as in Minerva."""
    return shared_grader().is_equivalent(gold, answer, 0.01)


NUMBER = AnswerRule("number", extract_number, equal_numbers)
INTEGER = AnswerRule("integer", extract_integer_answer, equal_numbers)
LETTER = AnswerRule("letter", extract_letter, equal_letters)
EXPRESSION = AnswerRule("expression", extract_math, equivalent_expressions)
QUANTITY = AnswerRule("quantity", extract_math, equivalent_quantities)
