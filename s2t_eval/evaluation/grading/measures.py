"""Single values with their units: the leaves of every answer."""

from __future__ import annotations

import re
from typing import Any

import sympy

from s2t_eval.evaluation.grading.identity import close, equal
from s2t_eval.evaluation.grading.units import Measured, measured
from s2t_eval.evaluation.grading.values import read

DECIMAL = re.compile(r"-?\d*\.(\d+)")
WRITTEN_DECIMAL = re.compile(r"\d\.\d|\.\d|\d[eE][-+]?\d|10\s*\^")


def same_value(gold: str, answer: str, tolerance: float) -> bool:
    """Whether two single values are the same in the gold answer's unit."""
    wanted = measured(gold)
    value = read(wanted.value.lstrip("+ "))
    if value is None:
        return False
    given = measured(answer, is_lettered=bool(getattr(value, "free_symbols", True)))
    other = read(given.value.lstrip("+ "))
    if other is None or not _compatible(wanted.kind, given.kind):
        return False
    if any(
        _same_number(value, number, gold, tolerance) for number in _in_units_of(wanted, given, value, other)
    ):
        return True
    if re.search(r"\\log(?!\s*_)", gold + answer):  # of base ten or e: the problem says which
        natural = [re.sub(r"\\log(?!\s*_)(?![a-z])", r"\\ln", text) for text in (gold, answer)]
        return natural != [gold, answer] and same_value(natural[0], natural[1], tolerance)
    return False


def _compatible(kind: str | None, other: str | None) -> bool:
    return not (kind and other) or kind == other or {kind, other} == {"degree", "radian"}


def _in_units_of(wanted: Measured, given: Measured, value: Any, other: Any) -> list[Any]:
    """What the answer may mean, in the gold answer's unit."""
    other = other * sympy.Rational(given.times, wanted.times) if given.times != wanted.times else other
    if wanted.kind == given.kind:
        factor = given.scale / wanted.scale
        return [other * sympy.Rational(factor.numerator, factor.denominator)] if factor != 1 else [other]
    if "degree" in (wanted.kind, given.kind) and (other if wanted.kind == "degree" else value).has(sympy.pi):
        return [other, other * 180 / sympy.pi if wanted.kind == "degree" else other * sympy.pi / 180]
    if "percent" not in (wanted.kind, given.kind):
        return [other]
    return [other, other * 100 if wanted.kind else other / 100]


def _same_number(gold: Any, answer: Any, written: str, tolerance: float) -> bool:
    if equal(gold, answer, is_positive=tolerance > 0):  # quantities of physics are positive
        return True
    return tolerance > 0 and WRITTEN_DECIMAL.search(written) is not None and close(gold, answer, tolerance)


def is_rounded(text: str, exact: str) -> bool:
    """Whether a decimal number is another value cut or rounded to its digits."""
    decimal = DECIMAL.fullmatch(measured(text).value.rstrip(" ."))
    value = read(measured(exact).value)
    if decimal is None or not isinstance(value, sympy.Expr) or value.free_symbols:
        return False
    written, unit = sympy.Rational(decimal[0].strip()), sympy.Rational(1, 10 ** len(decimal[1]))
    distance = abs(written - value).evalf()
    if not distance.is_number or not distance.is_real:
        return False
    return bool(distance <= unit / 2 or (distance < unit and abs(written) < abs(value)))
