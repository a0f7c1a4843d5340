"""The structure of a solution: its steps, each of meta-reasoning, a query and an answer.

In RLKD a tuned 7B model divides a text into these parts. The rule needs no model: a step is an equation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from s2t_eval.training.written_arithmetic import NUMBER, SIGN, equations, normalise, value_of

END_OF_THOUGHT = "</think>"
MARKUP = re.compile(r"<<[^<>\n]*>>")
"""GSM8k's marks of an equation, which repeat what stands before them: `48/2 = <<48/2=24>>24`."""
TERM = re.compile(rf"{SIGN}?(?:{NUMBER.pattern})(?P<divisor>/(?:{NUMBER.pattern}))?(?:\s?%)?")
"""A number or a quotient of two numbers, with its sign and percent sign."""


class SolutionStep(NamedTuple):
    """One step of a solution."""

    meta: str
    """why this step is taken, without its answer"""
    query: str
    """the question that the step answers; by the rule, the left side of its equation"""
    answer: str
    """the answer; by the rule, the right side"""
    form: str = ""
    """by the rule, the query with #k in the place of a number that is the answer of the k-th step"""


class Structurer(Protocol):
    """Divides texts into steps."""

    def structure(self, questions: Sequence[str], texts: Sequence[str]) -> list[list[SolutionStep] | None]:
        """The steps of each text; None where the text could not be divided.

        Args:
            questions: the problem of each text.
            texts: solutions.
        """
        ...


class RuleStructurer:
    """A step is an equation; its meta-reasoning is what its line contains before it, without numbers."""

    def structure(self, questions: Sequence[str], texts: Sequence[str]) -> list[list[SolutionStep] | None]:
        """The steps of each text; a text without an equation has none."""
        return [equation_steps(text) for text in texts]


def equation_steps(text: str) -> list[SolutionStep]:
    """The equations of a text in their order; what follows the end of a thought does not count.

    Example:
        >>> equation_steps("She sold 48/2 = <<48/2=24>>24 clips.")
        [SolutionStep(meta='she sold', query='48/2', answer='24', form='48/2')]
    """
    steps: list[SolutionStep] = []
    reasoning, _, _ = text.partition(END_OF_THOUGHT)
    for raw_line in MARKUP.sub("", reasoning).splitlines():
        line, begin = normalise(raw_line), 0
        for equation in equations(line):
            meta = " ".join(NUMBER.sub(" ", line[begin : equation.begin]).split())
            query = equation.expression
            steps.append(SolutionStep(meta, query, equation.result, _form(query, steps)))
            begin = equation.end
    return steps


def _form(query: str, earlier: Sequence[SolutionStep]) -> str:
    """The query with the latest step that has a number as its answer in that number's place.

    A quotient of two numbers is one number where it is no whole one: `3/4` may be an answer, `48/2` is a
    calculation.
    """
    numbered = {value_of(step.answer): f"#{k}" for k, step in enumerate(earlier, 1)}

    def replaced(match: re.Match[str]) -> str:
        value = value_of(match[0])
        if match["divisor"] is None or (value in numbered and value is not None and value.denominator > 1):
            return numbered.get(value, match[0])
        return "/".join(numbered.get(value_of(part), part) for part in match[0].split("/"))

    return TERM.sub(replaced, query)
