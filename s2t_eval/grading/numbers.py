"""Numbers as people write them: commas, signs, currency, fractions, percent, units."""

from __future__ import annotations

import re
from fractions import Fraction

MINUS = str.maketrans({"−": "-", "–": "-", "‐": "-", "﹣": "-", "＋": "+"})
GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)"
DECIMAL = rf"(?:{GROUPED}|\d+)(?:\.\d+)?|\.\d+"
SLASHED = r"\d+\s*/\s*\d+"
TOKEN = re.compile(
    rf"(?<![\w.)])(?P<sign>[-+]\s?)?(?P<body>\d+\s+{SLASHED}|{SLASHED}|{DECIMAL})(?P<exponent>[eE][-+]?\d+)?"
)
"""A number in running text. A minus after a digit or a letter is a hyphen or a subtraction."""
FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
POWER = re.compile(r"(?:\\times|\\cdot|\*|x|×)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
MODULUS = re.compile(r"\\p?mod\s*\{?\s*\d+\s*\}?|\\bmod\s*\{?\s*\d+\s*\}?|\(\s*mod\s+\d+\s*\)")
SPACES = re.compile(r"\\[ ,;:!]|~|\\q?quad\b|\{,\}|\\left|\\right")
TEXT = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}(\^(?:\{\d+\}|\d))?"
)
MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
UNIT = re.compile(
    rf"\s*(?P<multiple>{'|'.join(MULTIPLES)})?\s*"
    r"(?:\^\s*\\circ|\\circ|°|\\degree|%|[$€£])?\s*(?:[CFK]\b)?(?:[A-Za-z][A-Za-z.'-]+(?:\s*\^\s*\d)?(?:\s+|/|$)|/)*\s*"
)
NO_UNITS = {"pi", "sqrt", "sin", "cos", "tan", "log", "ln", "or", "and", "to", "mod", "by"}
SMALLEST, LARGEST = -400, 400
"""Exponents beyond these are not numbers that anyone meant."""


def plain(text: str) -> str:
    """LaTeX of a number to running text: `\\$1{,}200 \\text{ cm}^2` -> `$1,200 cm`."""
    text = text.translate(MINUS)
    text = SPACES.sub(lambda m: "," if m[0] == "{,}" else " " if m[0] in ("~", r"\ ") else "", text)
    text = TEXT.sub(r" \1 ", text)
    text = MODULUS.sub(" ", text)
    text = FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
    text = re.sub(r"(?<=[-+])\s+(?=\d+/)", "", text)
    text = POWER.sub(lambda m: f"e{m[1] or m[2]}", text)
    text = re.sub(r"(?<=[\d.])\s+(?=e[-+]?\d)", "", text)
    return text.replace(r"\$", "$").replace(r"\%", "%").replace("{", " ").replace("}", " ")


def numbers_in(text: str) -> list[Fraction]:
    """All numbers of a text, in their order."""
    text = re.sub(r"(?<![\w)])([-+]?)\s*[$€£]\s*([-+]?)(?=[\d.])", r" \1\2", plain(text))
    found = []
    for match in TOKEN.finditer(text):
        value = _value(match)
        if value is not None:
            found.append(value)
    return found


def as_number(text: str) -> Fraction | None:
    """The value of a text that is one number with a unit at most, None of any other.

    A unit is text in LaTeX's sense, a degree or percent sign, or words; a letter is a variable.
    """
    text = TEXT.sub(lambda m: m[1] if re.search(r"\d", m[1]) else " unit ", text.translate(MINUS))
    text = re.sub(r"^[\s$*]+|[\s$*]+$|(?<=[\w}%°])\s*\.$", "", plain(text))
    text = re.sub(r"^[a-zA-Z]\w*\s*=", "", text)
    text = re.sub(r"^\s*([-+]?)\s*[$€£]?\s*([-+]?)\s*(?=[\d.])", r"\1\2", text)
    text = re.sub(r"(?<=\d),\s+(?=\d{3}\b)", ",", text)
    number = TOKEN.match(text)
    value = _value(number) if number is not None else None
    if number is None or value is None:
        return None
    unit = UNIT.fullmatch(text, number.end())
    if unit is None or NO_UNITS & set(unit[0].lower().split()):
        return None
    return value * MULTIPLES.get(unit["multiple"] or "", 1)


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


def _value(match: re.Match[str]) -> Fraction | None:
    body = match["body"].replace(",", "")
    exponent = int(match["exponent"][1:]) if match["exponent"] else 0
    if not SMALLEST <= exponent <= LARGEST or len(body) > 1000:
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
    value *= Fraction(10) ** exponent
    return -value if (match["sign"] or "").strip() == "-" else value
