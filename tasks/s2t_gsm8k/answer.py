"""The number that a solution of a GSM8k problem ends in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
INVALID = "[invalid]"


def last_number(responses: Sequence[Sequence[str]], docs: Sequence[object]) -> list[list[str]]:
    """The last boxed number of each response, or else its last number, in plain decimal form."""
    return [[answer_of(text) for text in texts] for texts in responses]


def answer_of(text: str) -> str:
    """ "so \\boxed{1,200.0} eggs" -> "1200"; "[invalid]" where there is no number."""
    boxed = [found for box in BOXED.findall(text) for found in NUMBER.findall(box)]
    numbers = boxed or NUMBER.findall(text)
    if not numbers:
        return INVALID
    value = Decimal(numbers[-1].replace(",", ""))
    return format(value.normalize() + 0, "f")
