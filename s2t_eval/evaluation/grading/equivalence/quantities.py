"""Equivalence of single values with units, the smallest parts of an answer."""

from __future__ import annotations

import re
from typing import Any

import sympy

from s2t_eval.evaluation.grading.equivalence.numeric import close_values, equal_values
from s2t_eval.evaluation.grading.equivalence.parsing import parse_expression
from s2t_eval.evaluation.grading.equivalence.units import Quantity, parse_quantity

PLAIN_DECIMAL = re.compile(r"-?\d*\.(\d+)")
DECIMAL_NOTATION = re.compile(r"\d\.\d|\.\d|\d[eE][-+]?\d|10\s*\^")


def equivalent_quantities(gold: str, answer: str, tolerance: float) -> bool:
    """Return whether two single values are equal after conversion to the gold answer's unit.

    Args:
        gold: normal form of the gold value.
        answer: normal form of the extracted value.
        tolerance: relative tolerance for gold values in decimal notation.
    """
    gold_quantity = parse_quantity(gold)
    gold_value = parse_expression(gold_quantity.value.lstrip("+ "))
    if gold_value is None:
        return False
    answer_quantity = parse_quantity(answer, has_variables=bool(getattr(gold_value, "free_symbols", True)))
    answer_value = parse_expression(answer_quantity.value.lstrip("+ "))
    if answer_value is None or not _compatible_dimensions(gold_quantity.dimension, answer_quantity.dimension):
        return False
    if any(
        _equivalent_numbers(gold_value, number, gold, tolerance)
        for number in _values_in_gold_unit(gold_quantity, answer_quantity, gold_value, answer_value)
    ):
        return True
    if re.search(r"\\log(?!\s*_)", gold + answer):  # base 10 or e, depending on the problem
        natural = [re.sub(r"\\log(?!\s*_)(?![a-z])", r"\\ln", text) for text in (gold, answer)]
        return natural != [gold, answer] and equivalent_quantities(natural[0], natural[1], tolerance)
    return False


def _compatible_dimensions(gold_dimension: str | None, answer_dimension: str | None) -> bool:
    return (
        not (gold_dimension and answer_dimension)
        or gold_dimension == answer_dimension
        or {gold_dimension, answer_dimension} == {"degree", "radian"}
    )


def _values_in_gold_unit(
    gold_quantity: Quantity, answer_quantity: Quantity, gold_value: Any, answer_value: Any
) -> list[Any]:
    """The possible values of the answer in the gold answer's unit: a bare number may be a percentage."""
    answer_value = (
        answer_value * sympy.Rational(answer_quantity.multiplier, gold_quantity.multiplier)
        if answer_quantity.multiplier != gold_quantity.multiplier
        else answer_value
    )
    if gold_quantity.dimension == answer_quantity.dimension:
        factor = answer_quantity.scale / gold_quantity.scale
        return (
            [answer_value * sympy.Rational(factor.numerator, factor.denominator)]
            if factor != 1
            else [answer_value]
        )
    if "degree" in (gold_quantity.dimension, answer_quantity.dimension) and (
        answer_value if gold_quantity.dimension == "degree" else gold_value
    ).has(sympy.pi):
        return [
            answer_value,
            answer_value * 180 / sympy.pi
            if gold_quantity.dimension == "degree"
            else answer_value * sympy.pi / 180,
        ]
    if "percent" not in (gold_quantity.dimension, answer_quantity.dimension):
        return [answer_value]
    return [answer_value, answer_value * 100 if gold_quantity.dimension else answer_value / 100]


def _equivalent_numbers(gold: Any, answer: Any, gold_text: str, tolerance: float) -> bool:
    if equal_values(gold, answer, is_positive=tolerance > 0):  # physical quantities are positive
        return True
    return (
        tolerance > 0
        and DECIMAL_NOTATION.search(gold_text) is not None
        and close_values(gold, answer, tolerance)
    )


def is_rounded(text: str, exact: str) -> bool:
    """Return whether a decimal number is an exact value truncated or rounded to its number of digits."""
    decimal = PLAIN_DECIMAL.fullmatch(parse_quantity(text).value.rstrip(" ."))
    value = parse_expression(parse_quantity(exact).value)
    if decimal is None or not isinstance(value, sympy.Expr) or value.free_symbols:
        return False
    rounded, last_digit = sympy.Rational(decimal[0].strip()), sympy.Rational(1, 10 ** len(decimal[1]))
    distance = abs(rounded - value).evalf()
    if not distance.is_number or not distance.is_real:
        return False
    return bool(distance <= last_digit / 2 or (distance < last_digit and abs(rounded) < abs(value)))
