"""Answers that are not expressions: words, letters of choices, numbers in another base."""

from __future__ import annotations

import re

TEXT_COMMAND = re.compile(r"\\text\{([^{}]*)\}")
WORDS = re.compile(r"[A-Za-z][\w' ,.\-/]*|\d{1,2}(?:st|nd|rd|th)?(?: of)? [A-Z][a-z]+(?:,? \d{4})?")
CHOICE_LETTER = re.compile(r"(?i:option|choice|answer)?\s*\(?\s*([A-J])\s*\)?")
LEADING_LETTER = re.compile(
    r"(?:(?i:option|choice|answer)\s*)?(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:]|([A-J]|[a-j])\s*$)(?P<rest>.*)",
    re.DOTALL,
)
SECOND_LETTER = re.compile(r"^\s*(?:or|and|,|;|/)\s*\(?\s*[A-J]\s*(?:\)|[,;]|$)")
"""A second letter, which shows that the answer is not a single choice."""
BASE_NAMES = {
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
"""Digits of a numeral; at least one is decimal, because `a_{12}` is a variable."""
BASE = re.compile(rf"{DIGITS}(?i:_(?:base)?|,?(?:in)?base)(?P<base>\d+|[a-zA-Z]+)")
BASE_BEFORE = re.compile(rf"(?i:(?:in)?base)(?P<base>\d+|[a-zA-Z]+)[:,]{DIGITS}")


def unwrap_text(text: str) -> str:
    """Replace text commands by their content."""
    return TEXT_COMMAND.sub(r" \1 ", text)


def normalise_words(text: str, is_text: bool = False) -> str | None:
    """Normalise an answer in words; None for mathematics.

    Letter case, articles, hyphens and ordinal endings are removed.

    Args:
        text: a normal form.
        is_text: whether the answer is known to be words; default False.
    """
    plain = re.sub(r"\s+", " ", unwrap_text(text)).strip(" .*()\"'")
    if "\\" in plain or WORDS.fullmatch(plain) is None:
        return None
    is_text = is_text or TEXT_COMMAND.search(text) is not None
    if not is_text and re.search(r"(?<![A-Za-z])[A-Za-z]{3}", plain) is None:
        return None
    plain = re.sub(r"[-,]", " ", plain.casefold())
    plain = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|\bof\b", "", plain)
    return re.sub(r"\s+", " ", re.sub(r"^(?:an?|the) (?=.)", "", plain)).strip()


def choice_letter(text: str) -> str | None:
    """The letter of an answer that is a choice in a text command or in brackets, `\\text{(C)}`; else None."""
    if not re.match(r"\s*\\text\{|\s*\(\s*[A-J]\s*\)", text):
        return None
    match = CHOICE_LETTER.fullmatch(unwrap_text(text).strip(" .*"))
    return match[1] if match else None


def leading_choice_letter(text: str) -> str | None:
    """The choice letter at the start of an answer, which may continue with the choice's text: `C) 5`."""
    match = LEADING_LETTER.match(re.split(r"\bis\b", unwrap_text(text))[-1].strip(" .*"))
    if match is None or SECOND_LETTER.search(match["rest"]):
        return None
    return (match[1] or match[2] or match[3]).upper()


def parse_in_base(text: str) -> tuple[str, int] | None:
    """Parse digits and base of `52_8`, `(52)_{(8)}`, `52_{\\text{eight}}`, `52 base 8`; None otherwise."""
    compact = re.sub(r"\\text|[{}()\s]", "", text)
    match = BASE.fullmatch(compact) or BASE_BEFORE.fullmatch(compact)
    if match is None:
        return None
    digits = match["digits"]
    base = int(match["base"]) if match["base"].isdigit() else BASE_NAMES.get(match["base"].lower(), 0)
    if not 2 <= base <= 36 or not all(int(digit, 36) < base for digit in digits):
        return None
    return digits.upper(), base


def equivalent_in_base(gold: str, last_side: str, answer: str) -> bool | None:
    """Whether numbers in a base agree; None if neither answer names a base.

    `40_9` matches `40`, since the problem may name the base, but not its decimal value 36.
    """
    gold_number = parse_in_base(gold)
    answer_number = parse_in_base(answer) or parse_in_base(last_side)
    if gold_number is None:
        return (
            answer_number is not None and re.sub(r"\s", "", gold) == answer_number[0]
            if answer_number
            else None
        )
    digits = re.sub(r"\s|\\text|[{}()]", "", last_side)
    return gold_number == answer_number if answer_number else gold_number[0] == digits.upper()
