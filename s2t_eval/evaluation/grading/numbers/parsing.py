"""Parsing and formatting of numbers with grouping, signs, currency, fractions, percent, scales and units."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from s2t_eval.evaluation.grading.numbers.number_words import parse_number_words

MINUS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "＋": "+", "－": "-"})
MULTIPLES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
INDIAN = r"\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)"
DECIMAL = rf"(?:{GROUPED}|{INDIAN}|\d+)(?:\.\d+)?|\.\d+"
SLASHED = r"\d+\s{0,3}/\s{0,3}\d+"
NUMBER = re.compile(
    rf"(?<![\w.)])(?P<sign>[-+]\s?)?(?P<body>\d+\s{{1,3}}{SLASHED}|{SLASHED}|{DECIMAL})"
    rf"(?P<exponent>[eE][-+]?\d+)?(?:[\s-]{{1,3}}(?P<multiple>{'|'.join(MULTIPLES)})\b)?"
)
"""A number in running text; a minus after a digit or a letter is a hyphen or a subtraction, not a sign."""
FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
POWER = re.compile(r"(?:\\times|\\cdot|\*|x|×)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
MODULUS = re.compile(r"\\p?mod\s*\{?\s*\d+\s*\}?|\\bmod\s*\{?\s*\d+\s*\}?|\(\s*mod\s+\d+\s*\)")
SPACING = re.compile(r"\\[ ,;:!]|~|\\q?quad\b|\{,\}|\\left|\\right")
WIDE_SPACES = ("~", r"\ ", r"\quad", r"\qquad")
THIN_SEPARATOR = re.compile(r"(?<=\d)(?:\\[,;: ]|~|[\u00a0\u2006-\u2009\u202f'’])(?=\d{3}(?:\D|$))")
"""Separators of groups of three digits that are used instead of a comma."""
TEXT_COMMAND = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}(\^(?:\{\d+\}|\d))?"
)
UNIT = re.compile(
    r"\s*(?:\^\s*\\circ|\\circ|°|\\degree|%|[$€£₹¥])?\s*(?:[CFK]\b)?"
    r"(?:[A-Za-z][A-Za-z.'-]+(?:\s*\^\s*\d)?(?:\s+|/|$)|/)*\s*"
)
NOT_UNITS = {"pi", "sqrt", "sin", "cos", "tan", "log", "ln", "or", "and", "to", "mod", "by"}
MIN_EXPONENT, MAX_EXPONENT = -400, 400
"""Range of decimal exponents; numbers beyond it are not parsed."""
MAX_LENGTH = 2000
"""Maximum length in characters of a text that is one number with its unit."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
VULGAR_FRACTION = re.compile("(?:(?<=\\d)\\s?)?([¼½¾⅐-⅞])")
CURRENCY = r"(?:US|A|C)?[$€£₹¥]"
CURRENCY_SIGN = re.compile(rf"(?<![\w)])([-+]?)\s?{CURRENCY}\s?([-+]?)(?=[\d.])")
ABBREVIATIONS = {"k": "thousand", "m": "million", "b": "billion"}
DOLLARS_AND_CENTS = re.compile(
    r"(?<![\w.])(?:\$?(\d[\d,]*) dollars?|\$(\d[\d,]*)) and (\d{1,2}) cents?\b", re.I
)
EUROPEAN = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3})+),(\d{2})(?![\d,]|\.\d)")
"""`1.200,00`, with points between groups of digits and a decimal comma."""
CURRENCY_BEHIND = (
    r"(?:[$€£₹¥]|(?:dollars|euros|dólares|francs|francos|reais|pesos|kronor|kroner"
    r"|(?-i:Euro|EUR|Dollar|zł)|руб\w*)\b)"
)
"""A currency behind an amount; `2 500 dollar bills` are two 500-dollar bills."""
SPACED_MONEY = re.compile(
    rf"(?<![\w.,])(?P<sign>{CURRENCY}\s?)?(?<!\d\s)(?P<digits>\d{{1,3}}(?: \d{{3}})+)(?![\d/]|[.,]\d)"
    rf"(?(sign)|(?=\s?{CURRENCY_BEHIND}))",
    re.I,
)
"""Money with spaces between groups of digits: `$43 500`, `70 000 dollars`; without currency, two numbers."""
COMMA_MONEY = re.compile(
    r"(?<![\w.,])(?P<sign>[€£₹¥]\s?)?(?P<whole>\d+),(?P<cents>\d\d)(?![\w,]|\.\d|\s?\$)"
    rf"(?(sign)|(?=\s?{CURRENCY_BEHIND}))",
    re.I,
)
"""Money with a decimal comma: `12,50 €`; without currency, two numbers."""
SHORT_MONEY = re.compile(rf"({CURRENCY}\s?\d[\d,]*(?:\.\d+)?)\s?([kKMB])(?![\w/^])")
"""`$70k`; without the currency sign `k` could be kelvin."""
FRACTION_WORDS = {"half": "1/2", "third": "1/3", "quarter": "1/4", "quarters": "3/4"}
MIXED_NUMBER_WORDS = re.compile(
    r"(?<=\d)\s+and\s+(?:(?:an?|one)\s+(half|third|quarter)|three\s+(quarters))\b", re.I
)
NEGATIVE = re.compile(
    r"\bnegative\s+(?=\$?[\d.])|(?:^|(?<=is )|(?<=be )|(?<=: )|(?<== ))minus\s+(?=\$?[\d.])", re.I
)
ORDINAL_ENDING = re.compile(
    r"(?P<digits>\d)\s?\^\s?(?:\{\s?)?\\(?:text|mathrm|textrm|mbox)\s?\{?\s?(?:st|nd|rd|th)\b\s?\}?(?:\s?\})?"
    r"|(?P<first>(?<!1)1)\s?\^\s?\{\s?st\s?\}|(?P<third>(?<!1)3)\s?\^\s?\{\s?rd\s?\}"
    r"|(?P<other>1[1-3]|[04-9])\s?\^\s?\{\s?th\s?\}"
)
"""A raised ordinal ending, `13^{\\text{th}}` or `13^{th}`; without text command, `2^{nd}` may be a power."""
UNIT_POWER = re.compile(r"(?<=[A-Za-z])\s?\^\s?(?:\{\s?-?\d+\s?\}|-?\d+)")


class WrittenNumber(NamedTuple):
    """A number in a text with its position; the value is None if it is out of range or divides by zero."""

    value: Fraction | None
    start: int
    end: int


def latex_to_plain(text: str) -> str:
    """Convert the LaTeX of a number to plain text: `\\$1{,}200 \\text{ cm}^2` -> `$1,200 cm`."""
    text = THIN_SEPARATOR.sub(",", normalise_characters(text))
    text = SPACING.sub(lambda m: "," if m[0] == "{,}" else "  " if m[0] in WIDE_SPACES else "", text)
    text = TEXT_COMMAND.sub(r" \1 ", text)
    text = MODULUS.sub(" ", text)
    text = FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
    text = re.sub(r"(?<=[-+])\s+(?=\d+/)", "", text)
    text = POWER.sub(lambda m: f"e{m[1] or m[2]}", text)
    text = re.sub(r"(?<=[\d.])\s+(?=e[-+]?\d)", "", text)
    return text.replace(r"\$", "$").replace(r"\%", "%").replace("{", " ").replace("}", " ")


def normalise_characters(text: str) -> str:
    """Replace typographic variants of number characters: one minus sign, `½` as ` 1/2`, `m²` as `m^2`."""
    text = MIXED_NUMBER_WORDS.sub(
        lambda m: f" {FRACTION_WORDS[(m[1] or m[2]).lower()]}", text.translate(MINUS)
    )
    text = DOLLARS_AND_CENTS.sub(lambda m: f"${m[1] or m[2]}.{int(m[3]):02}", text)
    text = without_ordinal_endings(text)
    text = EUROPEAN.sub(lambda m: m[1].replace(".", "") + f".{m[2]}", text)
    text = SPACED_MONEY.sub(lambda m: (m["sign"] or "") + m["digits"].replace(" ", ","), text)
    text = COMMA_MONEY.sub(r"\g<sign>\g<whole>.\g<cents>", text)
    text = SHORT_MONEY.sub(lambda m: f"{m[1]} {ABBREVIATIONS[m[2].lower()]}", text)
    if text.isascii():
        return text
    text = VULGAR_FRACTION.sub(_expand_vulgar_fraction, text)
    text = SUPERSCRIPT.sub(lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    return re.sub(r"[０-９]", lambda m: str(unicodedata.digit(m[0])), text)


def without_ordinal_endings(text: str) -> str:
    """Remove raised ordinal endings: `13^{\\text{th}}` -> `13`."""
    return ORDINAL_ENDING.sub(lambda m: m["digits"] or m["first"] or m["third"] or m["other"], text)


def to_running_text(text: str) -> str:
    """Convert a text to the form `find_numbers` expects: no currency, no powers of units, explicit signs."""
    text = NEGATIVE.sub("-", UNIT_POWER.sub("", latex_to_plain(text)))
    return CURRENCY_SIGN.sub(r" \1\2", text)


def find_numbers(text: str) -> list[WrittenNumber]:
    """All numbers of a text converted by `to_running_text`, in order."""
    return [WrittenNumber(_number_value(match), *match.span()) for match in NUMBER.finditer(text)]


def number_values(text: str) -> list[Fraction]:
    """The values of all numbers of a text, in order."""
    return [number.value for number in find_numbers(to_running_text(text)) if number.value is not None]


def parse_number(text: str) -> Fraction | None:
    """Return the value of a text that is one number, optionally with a unit; otherwise None.

    A unit is a `\\\\text` command, a degree or percent sign, or words; a single letter is a variable.

    Example:
        >>> parse_number("$1,200 per week")
        Fraction(1200, 1)
    """
    if len(text) > MAX_LENGTH:
        return None
    if (worded := parse_number_words(text)) is not None:
        return worded
    text = TEXT_COMMAND.sub(
        lambda m: m[1] if re.search(r"\d", m[1]) or m[1].strip() in MULTIPLES else _unit_placeholder(m[1]),
        normalise_characters(text),
    )
    text = re.sub(r"^[\s$*]+|[\s$*]+$|(?<=[\w}%°])\s*\.$", "", latex_to_plain(text))
    text = re.sub(r"^[a-zA-Z]\w*\s*=", "", text)
    text = NEGATIVE.sub("-", text.strip())
    text = re.sub(rf"^\s*([-+]?)\s*(?:{CURRENCY})?\s*([-+]?)\s*(?=[\d.])", r"\1\2", text)
    text = re.sub(r"(?<=\d),\s+(?=\d{3}\b)", ",", text)
    text = (
        re.sub(r"(?<=\d) (?=\d{3}\b)", ",", text)
        if re.match(r"[-+]?\d{1,3}(?: \d{3})+(?![\d/]|\s*/)", text)
        else text
    )
    number = NUMBER.match(text)
    value = _number_value(number) if number is not None else None
    if number is None or value is None:
        return None
    unit = UNIT.fullmatch(text, number.end())
    if unit is None or NOT_UNITS & set(unit[0].lower().split()):
        return None
    return value


def format_number(value: Fraction) -> str:
    """Format a value canonically: `1200`, `0.5`, `1/3`; decimal if at most 12 decimal places are enough."""
    if value.denominator == 1:
        return str(value.numerator)
    digits, denominator = 0, value.denominator
    while denominator % 10 == 0 or denominator % 5 == 0 or denominator % 2 == 0:
        denominator //= 10 if denominator % 10 == 0 else 5 if denominator % 5 == 0 else 2
        digits += 1
    if denominator != 1 or digits > 12:
        return f"{value.numerator}/{value.denominator}"
    text = f"{abs(value.numerator) * 10**digits // value.denominator:0{digits + 1}d}"
    sign = "-" if value < 0 else ""
    return sign + f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")


def _expand_vulgar_fraction(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match[1])).limit_denominator(10)
    return f" {value.numerator}/{value.denominator} "


def _unit_placeholder(text: str) -> str:
    """A placeholder for the unit in a text command; a scale before it is kept: `\\text{ million dollars}`."""
    first = text.split()[:1]
    return f" {first[0]} unit " if first and first[0] in MULTIPLES else " unit "


def _number_value(match: re.Match[str]) -> Fraction | None:
    body, exponent = match["body"].replace(",", ""), match["exponent"] or ""
    if len(body) > 1000 or len(exponent) > 5 or not MIN_EXPONENT <= int(exponent[1:] or 0) <= MAX_EXPONENT:
        return None
    whole, _, fraction = body.rpartition(" ") if re.match(r"\d+\s+\d+\s*/", body) else ("0", "", body)
    if "/" in body:
        parts = re.fullmatch(r"(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)", body)
        assert parts is not None
        if int(parts[3]) == 0:
            return None
        value = int(parts[1] or 0) + Fraction(int(parts[2]), int(parts[3]))
    else:
        value = int(whole) + Fraction(fraction)
    value *= Fraction(10) ** int(exponent[1:] or 0)
    value *= MULTIPLES.get(match["multiple"] or "", 1)
    return -value if (match["sign"] or "").strip() == "-" else value
