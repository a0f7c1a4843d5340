"""Alternative forms of an answer with an approximation, an explanation, a condition or a remark."""

from __future__ import annotations

import re

EXPLANATION = re.compile(
    r"\s*,?\s*[(\[]?\s*(?:\\text\{\s*[,(]*\s*|(?<![a-zA-Z\\])(?=[a-z]+ ))"
    r"(?:for (?:all|any|every|each|some)|for(?=\s*[\}$a-z\\])|where|if|when"
    r"|since|because|as (?:required|desired|needed)|with|provided|by|from|which|so|thus|hence|i\.e\."
    r"|assuming|given|per)(?![a-z]).*$",
    re.DOTALL,
)
"""A condition or an explanation after an answer."""
RESTRICTION = re.compile(r",\s*(?:\\(?:quad|text\{\s*\})\s*)?[a-z]\s*\\neq?(?![a-z]).*$", re.DOTALL)
"""A restriction of the domain after an answer: `\\frac{1}{x}, x \\neq 0`."""
PARENTHESIS = re.compile(
    r"(?P<answer>.+?)\s*(?:\\text\{\s*\(\s*(?:or|i\.e\.|about|approximately|that is)?,?\s*\}"
    r"|\(\s*(?:\\text\{\s*)?(?:or|i\.e\.|about|approximately|that is|=|\\approx)\s*\}?)"
    r"\s*(?P<other>.+?)\s*(?:\)|\\text\{\s*\)\s*\})"
)
LEADING_SENTENCE = re.compile(
    r"^[^,;]*\\text\{(?![^{}]*\b(?i:not|no)\b)[^{}]*\b(?:(?:is|are|equals?|has|have|gives|be)\b[^{}]*|:\s*)\}\s*(?=.)"
    r"|^(?:\\text\{(?!\s*(?i:not|no)\b)[^{}]*[A-Za-z]{3}[^{}]*\}|(?!(?i:not|no)\b)[A-Za-z]{3,}"
    r"(?: [a-z]+){0,3})\s*:\s*(?=.*\d)",
    re.DOTALL,
)
"""`\\triangle ABC \\text{ has area } 6`, `\\text{Total}: 12`: words before the value."""


def answer_forms(answer: str) -> list[str]:
    """Return the forms of an answer: both sides of an approximation, each with and without explanation.

    Example:
        >>> answer_forms("2 \\\\approx 1.99")
        ['2 ', ' 1.99', '2', '1.99']
    """
    answer = re.sub(r"^\s*\\sim(?![a-z])\s*", "", answer)
    sides = [part for part in re.split(r"\\approx(?![a-z])", answer) if part.strip()] or [answer]
    sides = [*sides, *(_without_explanation(part) for part in sides)]
    return list(dict.fromkeys([*sides, *(LEADING_SENTENCE.sub("", part).strip() or part for part in sides)]))


def _without_explanation(text: str) -> str:
    """The answer without the condition or explanation after it."""
    shortened = RESTRICTION.sub("", EXPLANATION.sub("", text)).strip(" ,")
    return shortened or text
