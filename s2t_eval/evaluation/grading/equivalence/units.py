"""Parsing of quantities: a value with currency, percent, degrees, units with powers, or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

SCALES: dict[str, tuple[str, Fraction]] = {
    name: (kind, Fraction(factor))
    for kind, names in {
        "percent": {"percent percents percentage %": "1/100"},
        "degree": {"degree degrees deg circ": "1"}, "radian": {"radian radians rad": "1"},
        "length": {
            "m meter meters metre metres": "1", "cm centimeter centimeters centimetre centimetres": "1/100",
            "mm millimeter millimeters": "1/1000", "km kilometer kilometers kilometre kilometres": "1000",
            "nm nanometer nanometers": "1/1000000000", "in inch inches": "254/10000",
            "ft foot feet": "3048/10000", "yd yard yards": "9144/10000", "mi mile miles": "1609344/1000",
        },
        "time": {
            "s sec second seconds": "1", "min minute minutes": "60", "h hr hour hours": "3600",
            "day days": "86400", "week weeks": "604800", "ms millisecond milliseconds": "1/1000",
        },
        "money": {"cent cents": "1/100", "dollar dollars $ usd": "1"},
        "mass": {
            "g gram grams": "1", "kg kilogram kilograms": "1000", "mg milligram milligrams": "1/1000",
            "lb lbs pound pounds": "45359237/100000", "oz ounce ounces": "28349523125/1000000000",
        },
        "length^3": {
            "liter liters litre litres": "1/1000",
            "ml milliliter milliliters millilitre millilitres": "1/1000000",
            "gallon gallons": "3785411784/1000000000000",
        },
        "length/time": {"mph": "1609344/3600000", "kph kmh": "1000/3600"},
        "euro": {"€ euro euros": "1"}, "pound": {"£": "1"},
        "half day am": {"am AM": "1"}, "half day pm": {"pm PM": "1"},
    }.items()
    for spellings, factor in names.items()
    for name in spellings.split()
}  # fmt: skip
"""Units that are converted or distinguished, with dimension and size; all other units are ignored."""
MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
POWER = r"(?:\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d))?"
UNIT_NAMES = "|".join(
    sorted((name for name in SCALES | MULTIPLES if name.isalpha() and len(name) > 1), key=len, reverse=True)
)
NOT_A_UNIT = rf"(?!(?:and|or|base|mod|to|by|if|for|where|is)(?![a-zA-Z]))(?!in(?![a-zA-Z])(?!{POWER}\s*$))"
"""Words that are no units; `in` is one only at the end."""
PLAIN_UNIT = (
    rf"(?<=[\d}})\s]){NOT_A_UNIT}(?:(?:{UNIT_NAMES})(?![a-zA-Z_(\\])|(?<=\s)[a-zA-Z]{{3,}}(?![a-zA-Z_^(\\]))"
)
NOT_UNIT_WORDS = r"(?![^{}]*\b(?:not|or|and|more|less|fewer|greater|least|most|wrong|incorrect)\b)"
UNIT_WORDS = rf"\\text\s*\{{{NOT_UNIT_WORDS}(?:[^{{}}]|\{{[^{{}}]*\}})*\}}"
UNIT_SYMBOLS = (
    r"Å|\\(?:mathring|overset\s*\{\s*\\circ\s*\})\s*\{\s*A\s*\}|\\(?:AA|Omega|ohm|textmu|celsius|micro)(?![a-zA-Z])|\\mu\s*(?:\\text\s*\{[a-zA-Z]{1,3}\}|[a-zA-Z](?![a-zA-Z]))"
    r"|(?:[MLR]|\\text\{[MLR]\})\s*_\s*\{?\s*\\odot\s*\}?"
)
"""Units with a symbol; if the gold answer has variables, they are variables too."""
TRAILING_SYMBOL = re.compile(rf"(?<=[\d}})])\s*(?:{UNIT_SYMBOLS})(?:\s*\^\s*(?:\{{\s*-?\d+\s*\}}|-?\d))?\s*$")
UNIT = rf"(?:{UNIT_WORDS}|\^\s*\\circ(?:\s*[CFK](?![a-zA-Z]))?|%|[$€£]|{PLAIN_UNIT})"
TRAILING_UNIT = re.compile(rf"(?:\s*{UNIT}{POWER}(?:\s*(?:/|\\cdot)\s*(?=\\text|[a-zA-Z]))?)+\s*$")
TRAILING_LETTERS = re.compile(
    r"(?<=[\d})])\s+[mgshLNJVWKAC](?:\s*/\s*(?:[a-zA-Z]{1,3}))?"
    + POWER
    + r"\s*$|(?<=[\d})])\s*[a-zA-Z]{1,3}\s*/\s*[a-zA-Z]{1,3}"
    + POWER
    + r"\s*$"
)
"""A unit in plain letters: `5 m`, `60 km/h`; if the gold answer has variables, a factor instead."""
LEADING_CURRENCY = re.compile(r"^\s*([-+]?)\s*(?:[$€£]|\\text\{\s*(?:Rs\.?|USD|EUR)\s*\})\s*(?=[-+\d.\\(])")
UNIT_RATIO = re.compile(
    rf"\\frac\s*\{{\s*\\text\{{([^{{}}]*)\}}({POWER})\s*\}}\{{\s*\\text\{{([^{{}}]*)\}}({POWER})\s*\}}"
)
APPROXIMATE = re.compile(
    r"^\s*(?:\\text\{\s*)?(?:about|approximately|roughly|around)(?:\s*\})?\s*(?=[-\d\\])"
)


@dataclass(frozen=True)
class Quantity:
    """A value with its unit.

    Args:
        value: normal form without the unit.
        dimension: dimension of the unit with its power; None (default) without a unit, or for one that is
            not in the table.
        scale: size of the unit in base units; default 1.
        multiplier: value of a scale word such as `million`; default 1.
    """

    value: str
    dimension: str | None = None
    scale: Fraction = Fraction(1)
    multiplier: int = 1


def parse_quantity(text: str, has_variables: bool = True) -> Quantity:
    """Separate a normal form into value and unit.

    Args:
        text: a normal form.
        has_variables: whether the gold answer has variables, so that single letters are variables and not
            units; default True.

    Example:
        >>> parse_quantity(r"5 \\text{ cm}").scale
        Fraction(1, 100)
    """
    text = UNIT_RATIO.sub(r"\\text{\1/\3}\4", APPROXIMATE.sub("", text))
    currency = LEADING_CURRENCY.match(text)
    value = f"{currency[1]}{text[currency.end() :]}" if currency else text
    unit = ""
    match = TRAILING_UNIT.search(value)
    if not has_variables:
        match = TRAILING_SYMBOL.search(value) or match or TRAILING_LETTERS.search(value)
    if match is not None and value[: match.start()].strip(" -+") and not _is_angle(value, match[0]):
        value, unit = value[: match.start()].strip(), match[0]
    multiplier = 1
    words = re.findall(r"[A-Za-z]+|%|[$€£]", unit.replace("\\text", " ").replace(".", ""))
    for word in words:
        multiplier *= MULTIPLES.get(word.lower(), 1)
    unit_names = [word for word in words if word in SCALES or word.lower() in SCALES]
    if currency and not unit_names:
        sign = re.search(r"[$€£]", currency[0])
        unit_names = [sign[0]] if sign else []
    if len(unit_names) > 2 or not unit_names or (len(unit_names) == 2) != ("/" in unit):
        return Quantity(value.strip(), multiplier=multiplier)
    units = [SCALES.get(name) or SCALES[name.lower()] for name in unit_names]
    power = _power(unit)
    dimension, scale = units[-1][0] if power == 1 else f"{units[-1][0]}^{power}", units[-1][1] ** power
    if len(units) == 2:
        dimension, scale = f"{units[0][0]}/{dimension}", units[0][1] / scale
    return Quantity(value.strip(), dimension, scale, multiplier)


def _is_angle(value: str, unit: str) -> bool:
    """Whether the degree sign belongs to a function's argument: `\\sin 10^\\circ`."""
    return (
        "circ" in unit and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])[^+)]*$", value) is not None
    )


def _power(unit: str) -> int:
    match = re.search(r"\^\s*\{?\s*(-?\d)", unit)
    if match:
        return int(match[1])
    return 2 if re.search(r"\bsq(?:uared?)?\b", unit) else 3 if re.search(r"\bcu(?:bic|bed)?\b", unit) else 1
