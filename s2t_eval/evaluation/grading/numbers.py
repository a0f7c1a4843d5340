"""Numbers as people write them: grouping, signs, currency, fractions, percent, multiples, units."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from s2t_eval.evaluation.grading.numerals import worded_number

MINUS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "＋": "+", "－": "-"})
MULTIPLES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
INDIAN = r"\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)"
DECIMAL = rf"(?:{GROUPED}|{INDIAN}|\d+)(?:\.\d+)?|\.\d+"
SLASHED = r"\d+\s{0,3}/\s{0,3}\d+"
TOKEN = re.compile(
    rf"(?<![\w.)])(?P<sign>[-+]\s?)?(?P<body>\d+\s{{1,3}}{SLASHED}|{SLASHED}|{DECIMAL})"
    rf"(?P<exponent>[eE][-+]?\d+)?(?:[\s-]{{1,3}}(?P<multiple>{'|'.join(MULTIPLES)})\b)?"
)
"""A number in running text. A minus after a digit or a letter is a hyphen or a subtraction."""
FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
POWER = re.compile(r"(?:\\times|\\cdot|\*|x|×)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
MODULUS = re.compile(r"\\p?mod\s*\{?\s*\d+\s*\}?|\\bmod\s*\{?\s*\d+\s*\}?|\(\s*mod\s+\d+\s*\)")
SPACES = re.compile(r"\\[ ,;:!]|~|\\q?quad\b|\{,\}|\\left|\\right")
WIDE = ("~", r"\ ", r"\quad", r"\qquad")
THIN = re.compile(r"(?<=\d)(?:\\[,;: ]|~|[\u00a0\u2006-\u2009\u202f'’])(?=\d{3}(?:\D|$))")
"""What stands between groups of three digits instead of a comma; after the first, so does the next."""
TEXT = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}(\^(?:\{\d+\}|\d))?"
)
UNIT = re.compile(
    r"\s*(?:\^\s*\\circ|\\circ|°|\\degree|%|[$€£₹¥])?\s*(?:[CFK]\b)?"
    r"(?:[A-Za-z][A-Za-z.'-]+(?:\s*\^\s*\d)?(?:\s+|/|$)|/)*\s*"
)
NO_UNITS = {"pi", "sqrt", "sin", "cos", "tan", "log", "ln", "or", "and", "to", "mod", "by"}
SMALLEST, LARGEST = -400, 400
"""Exponents beyond these are not numbers that anyone meant."""
LONGEST = 2000
"""Characters of the longest text that is one number with its unit."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
VULGAR = re.compile("(?:(?<=\\d)\\s?)?([¼½¾⅐-⅞])")
CURRENCY = r"(?:US|A|C)?[$€£₹¥]"
MONEY = re.compile(rf"(?<![\w)])([-+]?)\s?{CURRENCY}\s?([-+]?)(?=[\d.])")
ABBREVIATED = {"k": "thousand", "m": "million", "b": "billion"}
SHORT_MONEY = re.compile(rf"({CURRENCY}\s?\d[\d,]*(?:\.\d+)?)\s?([kKMB])(?![\w/^])")
"""`$70k`; without a sign of money it would be kelvin."""
HALVES = {"half": "1/2", "third": "1/3", "quarter": "1/4", "quarters": "3/4"}
MIXED_WORDS = re.compile(r"(?<=\d)\s+and\s+(?:(?:an?|one)\s+(half|third|quarter)|three\s+(quarters))\b", re.I)
NEGATIVE = re.compile(
    r"\bnegative\s+(?=\$?[\d.])|(?:^|(?<=is )|(?<=be )|(?<=: )|(?<== ))minus\s+(?=\$?[\d.])", re.I
)
UNIT_POWER = re.compile(r"(?<=[A-Za-z])\s?\^\s?(?:\{\s?-?\d+\s?\}|-?\d+)")


class Written(NamedTuple):
    """A number in a text; its value is None where it is none that anyone meant."""

    value: Fraction | None
    start: int
    end: int


def plain(text: str) -> str:
    """LaTeX of a number to running text: `\\$1{,}200 \\text{ cm}^2` -> `$1,200 cm`."""
    text = THIN.sub(",", spelled(text))
    text = SPACES.sub(lambda m: "," if m[0] == "{,}" else "  " if m[0] in WIDE else "", text)
    text = TEXT.sub(r" \1 ", text)
    text = MODULUS.sub(" ", text)
    text = FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
    text = re.sub(r"(?<=[-+])\s+(?=\d+/)", "", text)
    text = POWER.sub(lambda m: f"e{m[1] or m[2]}", text)
    text = re.sub(r"(?<=[\d.])\s+(?=e[-+]?\d)", "", text)
    return text.replace(r"\$", "$").replace(r"\%", "%").replace("{", " ").replace("}", " ")


def spelled(text: str) -> str:
    """Characters of numbers in their usual spelling: one minus, `½` as ` 1/2`, `m²` as `m^2`."""
    text = MIXED_WORDS.sub(lambda m: f" {HALVES[(m[1] or m[2]).lower()]}", text.translate(MINUS))
    text = SHORT_MONEY.sub(lambda m: f"{m[1]} {ABBREVIATED[m[2].lower()]}", text)
    if text.isascii():
        return text
    text = VULGAR.sub(_vulgar, text)
    text = RAISED.sub(lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    return re.sub(r"[０-９]", lambda m: str(unicodedata.digit(m[0])), text)


def running(text: str) -> str:
    """Running text whose numbers `written` finds: no currency, no powers of units, signs as signs."""
    text = NEGATIVE.sub("-", UNIT_POWER.sub("", plain(text)))
    return MONEY.sub(r" \1\2", text)


def written(text: str) -> list[Written]:
    """All numbers of a `running` text, in their order."""
    return [Written(_value(match), *match.span()) for match in TOKEN.finditer(text)]


def numbers_in(text: str) -> list[Fraction]:
    """The values of all numbers of a text, in their order."""
    return [number.value for number in written(running(text)) if number.value is not None]


def as_number(text: str) -> Fraction | None:
    """The value of a text that is one number with a unit at most, None of any other.

    A unit is text in LaTeX's sense, a degree or percent sign, or words; a letter is a variable.
    """
    if len(text) > LONGEST:
        return None
    if (worded := worded_number(text)) is not None:
        return worded
    text = TEXT.sub(
        lambda m: m[1] if re.search(r"\d", m[1]) or m[1].strip() in MULTIPLES else _unit(m[1]), spelled(text)
    )
    text = re.sub(r"^[\s$*]+|[\s$*]+$|(?<=[\w}%°])\s*\.$", "", plain(text))
    text = re.sub(r"^[a-zA-Z]\w*\s*=", "", text)
    text = NEGATIVE.sub("-", text.strip())
    text = re.sub(rf"^\s*([-+]?)\s*(?:{CURRENCY})?\s*([-+]?)\s*(?=[\d.])", r"\1\2", text)
    text = re.sub(r"(?<=\d),\s+(?=\d{3}\b)", ",", text)
    text = (
        re.sub(r"(?<=\d) (?=\d{3}\b)", ",", text)
        if re.match(r"[-+]?\d{1,3}(?: \d{3})+(?![\d/]|\s*/)", text)
        else text
    )
    number = TOKEN.match(text)
    value = _value(number) if number is not None else None
    if number is None or value is None:
        return None
    unit = UNIT.fullmatch(text, number.end())
    if unit is None or NO_UNITS & set(unit[0].lower().split()):
        return None
    return value


def write(value: Fraction) -> str:
    """`1200`, `0.5`, `1/3`: one text a value, decimal where the expansion ends within 12 digits."""
    if value.denominator == 1:
        return str(value.numerator)
    digits, rest = 0, value.denominator
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest //= 10 if rest % 10 == 0 else 5 if rest % 5 == 0 else 2
        digits += 1
    if rest != 1 or digits > 12:
        return f"{value.numerator}/{value.denominator}"
    text = f"{abs(value.numerator) * 10**digits // value.denominator:0{digits + 1}d}"
    sign = "-" if value < 0 else ""
    return sign + f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")


def _vulgar(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match[1])).limit_denominator(10)
    return f" {value.numerator}/{value.denominator} "


def _unit(text: str) -> str:
    """A unit that `UNIT` knows, with the multiple that stands before it: `\\text{ million dollars}`."""
    first = text.split()[:1]
    return f" {first[0]} unit " if first and first[0] in MULTIPLES else " unit "


def _value(match: re.Match[str]) -> Fraction | None:
    body, exponent = match["body"].replace(",", ""), match["exponent"] or ""
    if len(body) > 1000 or len(exponent) > 5 or not SMALLEST <= int(exponent[1:] or 0) <= LARGEST:
        return None
    whole, _, part = body.rpartition(" ") if re.match(r"\d+\s+\d+\s*/", body) else ("0", "", body)
    if "/" in body:
        mixed = re.fullmatch(r"(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)", body)
        assert mixed is not None
        if int(mixed[3]) == 0:
            return None
        value = int(mixed[1] or 0) + Fraction(int(mixed[2]), int(mixed[3]))
    else:
        value = int(whole) + Fraction(part)
    value *= Fraction(10) ** int(exponent[1:] or 0)
    value *= MULTIPLES.get(match["multiple"] or "", 1)
    return -value if (match["sign"] or "").strip() == "-" else value
