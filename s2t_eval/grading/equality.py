"""Whether two written answers are the same, as a careful reader would say.

Structure is compared here, because it decides: order matters in a tuple and not in a list of
solutions, an open end of an interval is not a closed one, words are words. What is left, single
expressions, is math-verify's. Runs in `worker.py`: comparing expressions may take for ever.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import chain
from typing import Any

from s2t_eval.grading.latex import (
    group_of,
    items,
    normal,
    rows_of,
    split,
    squeezed,
    without_braces,
)
from s2t_eval.grading.numbers import TEXT, as_number

NAME = r"(?:\\?[a-zA-Z]+(?:_\{?\w+\}?)?|[a-zA-Z]\s*\(\s*\\?[a-zA-Z]+\s*\))'*"
ASSIGNED = re.compile(rf"^\s*({NAME})\s*(?:=|\\in(?![a-z]))\s*(?=\S)")
WORDS = re.compile(r"\(?(?:[A-Za-z][A-Za-z' -]+|[A-J])\)?")
BASE = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
UNITS = {
    "percent": "%", "percents": "%", "%": "%",
    "degree": "degree", "degrees": "degree", "circ": "degree",
    "cm": "cm", "centimeter": "cm", "centimeters": "cm", "m": "m", "meter": "m", "meters": "m",
    "km": "km", "kilometer": "km", "kilometers": "km", "inch": "inch", "inches": "inch", "in": "inch",
    "foot": "foot", "feet": "foot", "ft": "foot", "mile": "mile", "miles": "mile",
    "second": "s", "seconds": "s", "s": "s", "minute": "min", "minutes": "min", "min": "min",
    "hour": "h", "hours": "h", "h": "h", "day": "day", "days": "day", "week": "week", "weeks": "week",
    "cent": "cent", "cents": "cent", "dollar": "dollar", "dollars": "dollar",
    "gram": "g", "grams": "g", "g": "g", "kg": "kg", "kilogram": "kg", "kilograms": "kg",
}  # fmt: skip
"""Spellings of units that must not be mixed up; others are taken as decoration."""


def same(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """Whether an answer is the gold answer.

    Args:
        gold: the reference, LaTeX or plain.
        answer: what was extracted.
        tolerance: relative, for gold answers that are decimal numbers.
    """
    return any(_same(gold, form, tolerance) for form in forms(answer))


def forms(answer: str) -> list[str]:
    """The answer, and where it gives an approximation both sides of that."""
    parts = re.split(r"\\approx|≈|\\simeq", answer)
    return [answer] if len(parts) == 1 else [part for part in parts if part.strip()]


def _same(gold: str, answer: str, tolerance: float) -> bool:
    if squeezed(gold) == squeezed(answer) or _untexted(gold) == _untexted(answer):
        return True
    if (words := _words(gold)) is not None:
        return words == _words(answer, is_text=True)
    mine, theirs = ASSIGNED.match(normal(gold)), ASSIGNED.match(normal(answer))
    if mine and theirs and squeezed(mine[1]) != squeezed(theirs[1]):
        return _same_equation(normal(gold), normal(answer))
    value = as_number(gold)
    if value is not None and (given := as_number(_last_side(answer))) is not None:
        return _same_number(value, given, gold, answer, tolerance)
    return _same_shape(without_braces(normal(gold)), without_braces(normal(answer)), tolerance)


def _same_shape(gold: str, answer: str, tolerance: float) -> bool:
    golds, answers = items(gold), items(answer)
    if len(pieces := split(gold, ("\\cup",))) > 1 and len(answers) > 1:
        return _same_items(pieces, answers, tolerance)
    if len(golds) > 1 or len(answers) > 1:
        return _same_items(golds, answers, tolerance) or _same_assigned(gold, answer, tolerance)
    if ASSIGNED.match(gold) or ("=" in answer and "=" not in gold) or ASSIGNED.match(answer):
        return _same_assigned(gold, answer, tolerance)
    if BASE.fullmatch(gold) or BASE.fullmatch(answer):
        return _same_in_base(gold, answer)
    others = split(answer, ("\\cup",))
    if len(pieces) > 1 or len(others) > 1:
        return _same_items(pieces, others, tolerance)
    if (rows := rows_of(gold)) is not None:
        return _same_rows(rows, rows_of(answer), tolerance)
    group, other = group_of(gold), group_of(answer)
    if group is not None and other is not None and max(len(group.items), len(other.items)) > 1:
        return (
            (group.begin, group.end, len(group.items)) == (other.begin, other.end, len(other.items))
            and all(_same(a, b, tolerance) for a, b in zip(group.items, other.items, strict=True))
        )  # fmt: skip
    return _same_expression(gold, answer, tolerance)


def _same_items(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """Whether each item has its equal, in any order."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        match = next((item for item in left if _same(gold, item, tolerance)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_assigned(gold: str, answer: str, tolerance: float) -> bool:
    """`x = 5` is 5 and not `y = 5`; an equation is any multiple of itself."""
    mine, theirs = ASSIGNED.match(gold), ASSIGNED.match(answer)
    if mine is None and theirs is None and "=" in gold:
        return _same_equation(gold, answer)
    bare_gold = gold[mine.end() :] if mine else gold
    if mine and theirs is None and "=" in answer:
        return _same_equation(gold, answer)
    bare = answer[theirs.end() :] if theirs else answer
    if (bare_gold, _last_side(bare)) == (gold, answer):
        return False
    return _same(bare_gold, _last_side(bare), tolerance)


def _last_side(text: str) -> str:
    """What stands behind the last equals sign."""
    return re.split(r"(?<![<>!\\])=", text)[-1]


def _same_in_base(gold: str, answer: str) -> bool:
    """`40_9` is written `40` where the problem names the base, and never 36."""
    mine, theirs = BASE.fullmatch(squeezed(gold)), BASE.fullmatch(squeezed(answer))
    digits = mine[1] if mine else squeezed(gold)
    other = theirs[1] if theirs else squeezed(answer)
    return digits == other and (not (mine and theirs) or mine[2] == theirs[2])


def _same_rows(rows: list[list[str]], others: list[list[str]] | None, tolerance: float) -> bool:
    if others is None or [len(row) for row in rows] != [len(row) for row in others]:
        return False
    pairs = zip(chain(*rows), chain(*others), strict=True)
    return all(_same(a, b, tolerance) for a, b in pairs)


def _same_number(value: Fraction, given: Fraction, gold: str, answer: str, tolerance: float) -> bool:
    mine, theirs = _units(gold), _units(answer)
    allowed = {value, value / 100} if "%" in mine else {value}
    if "%" in theirs and "%" not in mine:
        allowed = {value, value * 100}
    elif "%" in theirs:
        allowed = {value}
    if {"%"} ^ (mine | {"%"}) and {"%"} ^ (theirs | {"%"}) and not mine & theirs:
        return False
    margin = Fraction(tolerance) if _is_decimal(gold) else Fraction(0)
    return any(abs(given - wanted) <= margin * abs(wanted) for wanted in allowed)


def _is_decimal(text: str) -> bool:
    return re.search(r"\d\.\d|\.\d|\de[-+]?\d|10\s*\^", text) is not None


def _units(text: str) -> set[str]:
    words = re.findall(r"[A-Za-z]+|%|°", TEXT.sub(r" \1 ", text).replace("°", " circ "))
    return {UNITS[word.lower()] for word in words if word.lower() in UNITS}


def _words(text: str, is_text: bool = False) -> str | None:
    """An answer in words, or a choice's letter, without case, brackets and text commands."""
    is_text = is_text or TEXT.fullmatch(text.strip(" $.")) is not None
    bare = TEXT.sub(r"\1", text).strip(" $.*")
    if WORDS.fullmatch(bare) is None or (not is_text and re.fullmatch(r"[A-Za-z]{1,2}", bare)):
        return None
    return re.sub(r"^(?:an?|the) (?=.)", "", bare.strip("()").strip().casefold())


def _untexted(text: str) -> str:
    return squeezed(TEXT.sub(r"\1", text))


# ---------------------------------------------------------------- math-verify


def _same_expression(gold: str, answer: str, tolerance: float) -> bool:
    from math_verify import verify

    mine, theirs = _parse(gold), _parse(answer)
    if not mine or not theirs:
        return False
    if verify(mine, theirs, strict=True, allow_set_relation_comp=True, timeout_seconds=None):
        return True
    return tolerance > 0 and _is_decimal(gold) and _close(mine[0], theirs[0], tolerance)


def _parse(text: str) -> list[Any]:
    """math-verify's reading. Only its LaTeX parser: the other one hands the text to eval."""
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=-1)
    return parse(f"${text}$", [config], parsing_timeout=None, fallback_mode="no_fallback")


def _close(gold: Any, answer: Any, tolerance: float) -> bool:
    try:
        wanted, given = complex(gold.evalf()), complex(answer.evalf())
    except (TypeError, ValueError, AttributeError):
        return False  # not a number
    return abs(given - wanted) <= tolerance * abs(wanted)


def _same_equation(gold: str, answer: str) -> bool:
    """Whether two equations have the same solutions because one is a multiple of the other."""
    import sympy

    sides = []
    for text in (gold, answer):
        parts = re.split(r"(?<![<>!\\])=", text)
        if len(parts) != 2:
            return False
        left, right = _parse(parts[0]), _parse(parts[1])
        if not left or not right:
            return False
        try:
            sides.append(left[0] - right[0])
        except TypeError:
            return False
    if sides[1] == 0:
        return False
    ratio = sympy.simplify(sides[0] / sides[1])
    return bool(ratio.is_number and ratio.is_nonzero and ratio.is_finite)
