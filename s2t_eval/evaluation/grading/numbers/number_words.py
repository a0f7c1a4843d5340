"""Parsing of numbers in words: `eighteen`, `two hundred and five dollars`, `three and a half`."""

from __future__ import annotations

import re
from fractions import Fraction

ONES = {
    name: value
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen".split()
    )
}
TENS = {
    name: 10 * value
    for value, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "crore": 10**7,
}
FRACTION_WORDS = {"half": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
         "fifth": 5, "fifths": 5, "halves": 2}  # fmt: skip
WORD = "|".join([*ONES, *TENS, *SCALES, *FRACTION_WORDS, "hundred"])
NUMBER_WORDS = re.compile(
    rf"(?P<sign>(?:minus|negative)\s+)?(?P<words>(?:an?\s+)?(?:{WORD})(?:(?:\s+and\s+(?:an?\s+)?|[\s-]+)(?:{WORD}))*)"
    r"(?:\s+(?P<unit>(?!(?:of|or|and|to|more|less|is|times|over|plus|minus|by|way|thing|hand)\b)[a-z]{2,}))?",
    re.IGNORECASE,
)
"""A whole text of number words, optionally followed by one word for the unit."""
MAX_LENGTH = 120


def parse_number_words(text: str) -> Fraction | None:
    """Return the value of a text that is one number in words, optionally with a unit; otherwise None.

    Example:
        >>> parse_number_words("three and a half")
        Fraction(7, 2)
    """
    if len(text) > MAX_LENGTH or re.search(r"[a-zA-Z]{3}", text) is None:
        return None
    plain = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{|[{}$*_]", " ", text).strip(" .!\n\t")
    match = NUMBER_WORDS.fullmatch(plain)
    if match is None:
        return None
    value = _value(re.findall(r"[a-z]+", match["words"].lower()))
    return value if value is None or match["sign"] is None else -value


def _value(words: list[str]) -> Fraction | None:
    """The value of number words; None if they are not one number, such as `five six`."""
    if words[-1] in FRACTION_WORDS:
        return _with_fraction(words)
    total, group = 0, 0
    for word in (word for word in words if word not in ("and", "a", "an")):
        if word in ONES or word in TENS:
            value = ONES.get(word) or TENS.get(word, 0)
            if group % (10 if word in ONES and value < 10 else 100):
                return None
            group += value
        elif word == "hundred" and group < 100:
            group = max(group, 1) * 100
        elif word in SCALES and (group or not total):
            total, group = total + max(group, 1) * SCALES[word], 0
        else:
            return None
    return Fraction(total + group)


def _with_fraction(words: list[str]) -> Fraction | None:
    """The value of words that end in a fraction: `half`, `two thirds`, `three and a half`."""
    denominator = FRACTION_WORDS[words[-1]]
    whole, count = words[:-1], ["one"]
    if "and" in whole:
        index = len(whole) - 1 - whole[::-1].index("and")
        whole, count = whole[:index], whole[index + 1 :]
    else:
        whole, count = [], whole
    numerator = _value(count) if count not in ([], ["a"], ["an"]) else Fraction(1)
    whole_value = _value(whole) if whole else Fraction(0)
    return None if numerator is None or whole_value is None else whole_value + numerator / denominator
