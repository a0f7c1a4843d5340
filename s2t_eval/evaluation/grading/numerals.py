"""Numbers that are written in words: `eighteen`, `two hundred and five dollars`, `three and a half`."""

from __future__ import annotations

import re
from fractions import Fraction

SMALL = {
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
LARGE = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "crore": 10**7,
}
PARTS = {"half": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
         "fifth": 5, "fifths": 5, "halves": 2}  # fmt: skip
WORD = "|".join([*SMALL, *TENS, *LARGE, *PARTS, "hundred"])
WORDED = re.compile(
    rf"(?P<sign>(?:minus|negative)\s+)?(?P<words>(?:an?\s+)?(?:{WORD})(?:(?:\s+and\s+(?:an?\s+)?|[\s-]+)(?:{WORD}))*)"
    r"(?:\s+(?P<unit>(?!(?:of|or|and|to|more|less|is|times|over|plus|minus|by|way|thing|hand)\b)[a-z]{2,}))?",
    re.IGNORECASE,
)
"""All of a text: number words with one word for a unit at most."""
LONGEST = 120


def worded_number(text: str) -> Fraction | None:
    """The value of a text that is one number in words with a unit at most; None of any other."""
    if len(text) > LONGEST or re.search(r"[a-zA-Z]{3}", text) is None:
        return None
    bare = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{|[{}$*_]", " ", text).strip(" .!\n\t")
    found = WORDED.fullmatch(bare)
    if found is None:
        return None
    value = _value(re.findall(r"[a-z]+", found["words"].lower()))
    return value if value is None or found["sign"] is None else -value


def _value(said: list[str]) -> Fraction | None:
    """The value of number words; None where they are no one number, as `five six` is not."""
    if said[-1] in PARTS:
        return _with_part(said)
    total, group = 0, 0
    for word in (word for word in said if word not in ("and", "a", "an")):
        if word in SMALL or word in TENS:
            value = SMALL.get(word) or TENS.get(word, 0)
            if group % (10 if word in SMALL and value < 10 else 100):
                return None
            group += value
        elif word == "hundred" and group < 100:
            group = max(group, 1) * 100
        elif word in LARGE and (group or not total):
            total, group = total + max(group, 1) * LARGE[word], 0
        else:
            return None
    return Fraction(total + group)


def _with_part(said: list[str]) -> Fraction | None:
    """`half`, `two thirds`, `three and a half`."""
    size = PARTS[said[-1]]
    whole, count = said[:-1], ["one"]
    if "and" in whole:
        place = len(whole) - 1 - whole[::-1].index("and")
        whole, count = whole[:place], whole[place + 1 :]
    else:
        whole, count = [], whole
    above = _value(count) if count not in ([], ["a"], ["an"]) else Fraction(1)
    base = _value(whole) if whole else Fraction(0)
    return None if above is None or base is None else base + above / size
