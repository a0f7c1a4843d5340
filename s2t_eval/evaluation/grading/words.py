"""Answers that are no expressions: words, a choice's letter, numerals of another base."""

from __future__ import annotations

import re

TEXT = re.compile(r"\\text\{([^{}]*)\}")
WORDS = re.compile(r"[A-Za-z][\w' ,.\-/]*|\d{1,2}(?:st|nd|rd|th)?(?: of)? [A-Z][a-z]+(?:,? \d{4})?")
CHOICE = re.compile(r"(?i:option|choice|answer)?\s*\(?\s*([A-J])\s*\)?")
LETTERED = re.compile(
    r"(?:(?i:option|choice|answer)\s*)?(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:]|([A-J]|[a-j])\s*$)(?P<rest>.*)",
    re.DOTALL,
)
SECOND = re.compile(r"^\s*(?:or|and|,|;|/)\s*\(?\s*[A-J]\s*(?:\)|[,;]|$)")
"""Two letters are no choice."""
NUMERALS = {
    name: base
    for base, names in enumerate(
        (
            "", "", "two binary", "three ternary", "four", "five", "six", "seven", "eight octal", "nine",
            "ten decimal", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen hexadecimal hex",
        )
    )
    for name in names.split()
}  # fmt: skip
DIGITS = r"(?P<digits>[A-Z]*\d[0-9A-Z]*?)"
"""At least one is a digit: `a_{12}` is a name."""
BASE = re.compile(rf"{DIGITS}(?i:_(?:base)?|,?(?:in)?base)(?P<base>\d+|[a-zA-Z]+)")
BASE_BEFORE = re.compile(rf"(?i:(?:in)?base)(?P<base>\d+|[a-zA-Z]+)[:,]{DIGITS}")


def without_text(text: str) -> str:
    """A normal form with what its text commands say in their place."""
    return TEXT.sub(r" \1 ", text)


def words(text: str, is_text: bool = False) -> str | None:
    """An answer in words without case, articles, hyphens and ordinal endings; None for mathematics."""
    bare = re.sub(r"\s+", " ", without_text(text)).strip(" .*()\"'")
    if "\\" in bare or WORDS.fullmatch(bare) is None:
        return None
    is_text = is_text or TEXT.search(text) is not None
    if not is_text and re.search(r"(?<![A-Za-z])[A-Za-z]{3}", bare) is None:
        return None
    bare = re.sub(r"[-,]", " ", bare.casefold())
    bare = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|\bof\b", "", bare)
    return re.sub(r"\s+", " ", re.sub(r"^(?:an?|the) (?=.)", "", bare)).strip()


def choice(text: str) -> str | None:
    """The letter where the answer is a choice's letter in text or in brackets: `\\text{(C)}`."""
    if not re.match(r"\s*\\text\{|\s*\(\s*[A-J]\s*\)", text):
        return None
    found = CHOICE.fullmatch(without_text(text).strip(" .*"))
    return found[1] if found else None


def chosen(text: str) -> str | None:
    """The letter that an answer begins with, whatever the choice says behind it: `C) 5`."""
    found = LETTERED.match(re.split(r"\bis\b", without_text(text))[-1].strip(" .*"))
    if found is None or SECOND.search(found["rest"]):
        return None
    return (found[1] or found[2] or found[3]).upper()


def in_base(text: str) -> tuple[str, int] | None:
    """Digits and base of `52_8`, `(52)_{(8)}`, `52_{\\text{eight}}`, `52 base 8`."""
    flat = re.sub(r"\\text|[{}()\s]", "", text)
    found = BASE.fullmatch(flat) or BASE_BEFORE.fullmatch(flat)
    if found is None:
        return None
    digits = found["digits"]
    base = int(found["base"]) if found["base"].isdigit() else NUMERALS.get(found["base"].lower(), 0)
    if not 2 <= base <= 36 or not all(int(digit, 36) < base for digit in digits):
        return None
    return digits.upper(), base


def same_in_base(gold: str, last_side: str, answer: str) -> bool | None:
    """`40_9` is written `40` where the problem names the base, and never 36."""
    wanted = in_base(gold)
    given = in_base(answer) or in_base(last_side)
    if wanted is None:
        return given is not None and re.sub(r"\s", "", gold) == given[0] if given else None
    bare = re.sub(r"\s|\\text|[{}()]", "", last_side)
    return wanted == given if given else wanted[0] == bare.upper()
