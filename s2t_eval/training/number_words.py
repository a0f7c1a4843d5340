"""Numbers in words anywhere in a text: `thirty-five apples`, `two thirds of them`, `half a dozen`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from s2t_eval.evaluation.grading.numbers.number_words import (
    FRACTION_WORDS,
    ONES,
    SCALES,
    TENS,
    parse_number_words,
)

DOZEN = "dozen"
MULTIPLES = {"twice": 2, "double": 2, "triple": 3}
ARTICLES = ("a", "an")
PRONOUN = "one"
_LARGE = ("hundred", *SCALES)
_WORD = "|".join([*ONES, *TENS, *_LARGE, *FRACTION_WORDS, *MULTIPLES, DOZEN])
RUN = re.compile(rf"\b(?:{_WORD})\b(?:(?:[ -]| and (?:an? )?| an? )(?:{_WORD})\b){{0,20}}")
LONGEST = 10
"""Words of one number, `and` and articles included."""


def numbers_in_words(text: str) -> Iterator[Fraction]:
    """The numbers in words of a lower-case text with single spaces, in their order.

    Words that are one number together count once: `two hundred and five` is 205, `two and three` are two
    numbers. A "one" alone is left out, since it is a pronoun too.

    Example:
        >>> [str(value) for value in numbers_in_words("half of the thirty-five, and two dozen")]
        ['1/2', '35', '24']
    """
    for run in RUN.finditer(text):
        words = re.findall("[a-z]+", run[0])
        begin = 0
        while begin < len(words):
            for end in range(min(len(words), begin + LONGEST), begin, -1):
                value = _one_number(words[begin:end])
                if value is not None:
                    break
            if value is not None and words[begin:end] != [PRONOUN]:
                yield value
            begin = end


def _one_number(words: Sequence[str]) -> Fraction | None:
    """The value of words that are one number; None for all others."""
    *before, last = words
    if words[0] in ("and", *ARTICLES) or last in ("and", *ARTICLES):
        return None
    if last in MULTIPLES:
        return None if before else Fraction(MULTIPLES[last])
    if last == DOZEN:
        count = before[:-1] if before and before[-1] in ARTICLES else before
        value = _one_number(count) if count else Fraction(1)
        return None if value is None else 12 * value
    if any(word in FRACTION_WORDS for word in before):
        return None
    for i, word in enumerate(words):
        if word in ARTICLES and words[i - 1] != "and":
            return None
        is_before_fraction = last in FRACTION_WORDS and i < len(words) - 2
        if word == "and" and words[i - 1] not in _LARGE and not is_before_fraction:
            return None
    return parse_number_words(" ".join(words))
