"""What is read from a phrase that may state a number."""

from __future__ import annotations

from typing import NamedTuple


class NumberReading(NamedTuple):
    """An answer extracted from a phrase.

    Args:
        answer: the number in canonical form, or the phrase itself if it is an answer but not one number.
        is_number: whether it is one number.
        is_whole: whether the phrase consists of nothing else.
        is_first: whether the phrase begins with it; default True.
    """

    answer: str
    is_number: bool
    is_whole: bool
    is_first: bool = True
