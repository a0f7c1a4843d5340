"""Formulas that stand in the place of a number and are none: `10\\pi`, `3\\sqrt{10}`, `x > 10`, `\\pm 10`."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.formulas import looks_mathematical
from s2t_eval.evaluation.grading.extraction.number_patterns import EQUALS_SIGN
from s2t_eval.evaluation.grading.extraction.number_phrases import has_number, last_number, read_number
from s2t_eval.evaluation.grading.extraction.spans import MARKUP_CHARACTERS, Span, display_value, math_spans
from s2t_eval.evaluation.grading.numbers.parsing import TEXT_COMMAND

RELATION = r"[<>≤≥≠±∓∞]|\\(?:[lg]e(?:q(?:slant|q)?)?|[lg]t|neq?|pm|mp|in|infty)(?![a-zA-Z])"
IRRATIONAL = (
    r"[π√]|\\(?:pi|sqrt|ln|log|exp|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|alpha|beta|theta|phi)(?![a-zA-Z])"
)
OTHER_TERM = re.compile(rf"{RELATION}|{IRRATIONAL}|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
"""A part of a formula that is not a number: a relation, two signs, a function, π, or a variable."""
OTHER_TERM_OUTSIDE_MATH = re.compile(
    rf"{RELATION}|{IRRATIONAL}|\d[inxyz](?![A-Za-z])|\d\s*[-+*/^]\s*[a-z](?![A-Za-z.])|(?<![A-Za-z])[a-z]\s*[-+*/^]\s*\d"
)
"""The same without delimiters, where a single letter behind a number may be a unit: `50p`, `7 p.m.`"""
SYMBOLIC_NUMBER = re.compile(
    r"(?:[-±]\s?)?(?:\d[\d.,/]*\s?)?(?:π|√\s?\(?\d+\)?)(?:/\d+)?(?![\w(])|±\s?\d(?:[\d.,/]*\d)?"
)
"""A multiple of π or of a root, or two signs, in running text: `The area is 18π square units.`"""
SAME_VALUE = re.compile(rf"[-=]+>|→|{EQUALS_SIGN.pattern}|\\equiv(?![a-zA-Z])|≡")
PLACEHOLDER = "987654321987"
"""A number that stands in for the formula, to see whether the number of a text is read where it stands."""


def formula_instead_of_number(text: str) -> str | None:
    """Return the formula of a phrase or sentence that stands where its last number would be read.

    Args:
        text: a phrase behind "the answer is", or a sentence.

    Returns:
        The formula without delimiters; None if a number stands there, with or without a unit, or if the
        formula belongs to an explanation: `18, since $x > 10$`.

    Example:
        >>> formula_instead_of_number(r"Therefore, the area is $10\\pi$ cm")
        '10\\\\pi'
        >>> formula_instead_of_number("Therefore, $x = 10$") is None
        True
    """
    formula = _last_formula(text)
    if formula is None:
        return None
    reading = last_number(f"{text[: formula.start]} {PLACEHOLDER} {text[formula.end :]}")
    return formula.content if reading is not None and reading.answer == PLACEHOLDER else None


def _last_formula(text: str) -> Span | None:
    """The last formula with a number, if it is not a number."""
    if spans := math_spans(text):
        content = display_value(spans[-1].content)
        return spans[-1]._replace(content=content) if _is_other_formula(content, OTHER_TERM) else None
    whole = text.strip(MARKUP_CHARACTERS)
    if looks_mathematical(whole):
        is_other = _is_other_formula(whole, OTHER_TERM_OUTSIDE_MATH)
        return Span(0, len(text), whole) if is_other else None
    symbolic = list(SYMBOLIC_NUMBER.finditer(text))
    if symbolic and has_number(symbolic[-1][0]) and _is_other_formula(symbolic[-1][0], OTHER_TERM):
        return Span(*symbolic[-1].span(), symbolic[-1][0].strip())
    return None


def _is_other_formula(content: str, other_term: re.Pattern[str]) -> bool:
    """Whether a formula with a number has no number as its value; units and words do not count."""
    if not has_number(content):
        return False
    reading = read_number(content, is_boxed=True)
    value = TEXT_COMMAND.sub(" ", SAME_VALUE.split(content)[-1])
    return (reading is None or not reading.is_number) and other_term.search(value) is not None
