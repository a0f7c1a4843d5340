"""What stands around a value: currency, percent, degrees, units with powers, words."""

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
"""Units that must not be mixed up, each with its kind and its size; others are taken as decoration."""
MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
POWER = r"(?:\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d))?"
NAMES = "|".join(
    sorted((name for name in SCALES | MULTIPLES if name.isalpha() and len(name) > 1), key=len, reverse=True)
)
NO_UNIT = r"(?!(?:and|or|base|in|mod|to|by|if|for|where|is)(?![a-zA-Z]))"
PLAIN = rf"(?<=[\d}})\s]){NO_UNIT}(?:(?:{NAMES})(?![a-zA-Z_(\\])|(?<=\s)[a-zA-Z]{{3,}}(?![a-zA-Z_^(\\]))"
NO_WORDS = r"(?![^{}]*\b(?:not|or|and|more|less|fewer|greater|least|most|wrong|incorrect)\b)"
WORDS = rf"\\text\s*\{{{NO_WORDS}(?:[^{{}}]|\{{[^{{}}]*\}})*\}}"
SYMBOLS = (
    r"\\(?:AA|Omega|ohm|textmu|celsius|micro)(?![a-zA-Z])|\\mu\s*(?:\\text\s*\{[a-zA-Z]{1,3}\}|[a-zA-Z](?![a-zA-Z]))"
    r"|(?:[MLR]|\\text\{[MLR]\})\s*_\s*\{?\s*\\odot\s*\}?"
)
"""Units that are written with a symbol; variables where the gold answer has letters."""
SYMBOL = re.compile(rf"(?<=[\d}})])\s*(?:{SYMBOLS})(?:\s*\^\s*(?:\{{\s*-?\d+\s*\}}|-?\d))?\s*$")
UNIT = rf"(?:{WORDS}|\^\s*\\circ(?:\s*[CFK](?![a-zA-Z]))?|%|[$€£]|{PLAIN})"
BEHIND = re.compile(rf"(?:\s*{UNIT}{POWER}(?:\s*(?:/|\\cdot)\s*(?=\\text|[a-zA-Z]))?)+\s*$")
LETTER = re.compile(
    r"(?<=[\d})])\s+[mgshLNJVWKAC](?:\s*/\s*(?:[a-zA-Z]{1,3}))?"
    + POWER
    + r"\s*$|(?<=[\d})])\s*[a-zA-Z]{1,3}\s*/\s*[a-zA-Z]{1,3}"
    + POWER
    + r"\s*$"
)
"""A unit without any mark: `5 m`, `60 km/h`; a variable times a number where the gold answer has letters."""
BEFORE = re.compile(r"^\s*([-+]?)\s*(?:[$€£]|\\text\{\s*(?:Rs\.?|USD|EUR)\s*\})\s*(?=[-+\d.\\(])")
RATIO = re.compile(
    rf"\\frac\s*\{{\s*\\text\{{([^{{}}]*)\}}({POWER})\s*\}}\{{\s*\\text\{{([^{{}}]*)\}}({POWER})\s*\}}"
)
APPROXIMATE = re.compile(
    r"^\s*(?:\\text\{\s*)?(?:about|approximately|roughly|around)(?:\s*\})?\s*(?=[-\d\\])"
)


@dataclass(frozen=True)
class Measured:
    """A value and the unit it was given in.

    Args:
        value: the normal form without its unit.
        kind: what the unit measures with its power; None for no unit or one that is not in the table.
        scale: the unit in base units.
        times: words of number behind the value, `million`.
    """

    value: str
    kind: str | None = None
    scale: Fraction = Fraction(1)
    times: int = 1


def measured(text: str, is_lettered: bool = True) -> Measured:
    """A normal form without what stands around its value.

    Args:
        text: a normal form.
        is_lettered: whether the gold answer has variables, which a single letter then is.
    """
    text = RATIO.sub(r"\\text{\1/\3}\4", APPROXIMATE.sub("", text))
    money = BEFORE.match(text)
    value = f"{money[1]}{text[money.end() :]}" if money else text
    unit = ""
    behind = BEHIND.search(value)
    if not is_lettered:
        behind = SYMBOL.search(value) or behind or LETTER.search(value)
    if behind is not None and value[: behind.start()].strip(" -+") and not _is_angle(value, behind[0]):
        value, unit = value[: behind.start()].strip(), behind[0]
    times = 1
    words = re.findall(r"[A-Za-z]+|%|[$€£]", unit.replace("\\text", " ").replace(".", ""))
    for word in words:
        times *= MULTIPLES.get(word.lower(), 1)
    known = [word for word in words if word in SCALES or word.lower() in SCALES]
    if money and not known:
        sign = re.search(r"[$€£]", money[0])
        known = [sign[0]] if sign else []
    if len(known) > 2 or not known or (len(known) == 2) != ("/" in unit):
        return Measured(value.strip(), times=times)
    kinds = [SCALES.get(name) or SCALES[name.lower()] for name in known]
    power = _power(unit)
    kind, scale = kinds[-1][0] if power == 1 else f"{kinds[-1][0]}^{power}", kinds[-1][1] ** power
    if len(kinds) == 2:
        kind, scale = f"{kinds[0][0]}/{kind}", kinds[0][1] / scale
    return Measured(value.strip(), kind, scale, times)


def _is_angle(value: str, unit: str) -> bool:
    """Whether the degree sign belongs to the argument of a function: `\\sin 10^\\circ`."""
    return (
        "circ" in unit and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])[^+)]*$", value) is not None
    )


def _power(unit: str) -> int:
    found = re.search(r"\^\s*\{?\s*(-?\d)", unit)
    if found:
        return int(found[1])
    return 2 if re.search(r"\bsq(?:uare)?\b", unit) else 3 if re.search(r"\bcu(?:bic)?\b", unit) else 1
