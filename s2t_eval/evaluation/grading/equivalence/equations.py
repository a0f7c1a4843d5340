"""Equivalence of equations and inequalities in several variables, up to rearrangement."""

from __future__ import annotations

import re
from typing import Any

import sympy

from s2t_eval.evaluation.grading.equivalence.numeric import equal_values, positive_points
from s2t_eval.evaluation.grading.equivalence.parsing import parse_expression
from s2t_eval.evaluation.grading.equivalence.structure import split_top_level

RELATIONS = ("<", ">", "\\le", "\\ge", "\\ne")
RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
REVERSED_RELATION = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def equivalent_equations(gold: str, answer: str) -> bool:
    """Return whether one equation is a rearrangement of the other.

    Each equation is converted to the numerator of left minus right side. The equations are equivalent if
    one numerator is a constant multiple of the other, or if both have the same unique solution for a
    variable. `y = 2x` matches `x = y/2`, but `xy = 0` does not match `x = 0`.
    """
    bare_derivatives = any(re.search(r"'|\\prime|\\d?dot", text) for text in (gold, answer))
    first, second = _zero_form(gold, bare_derivatives), _zero_form(answer, bare_derivatives)
    if first is None or second is None or first.free_symbols != second.free_symbols:
        return False
    return _is_constant_ratio(first, second) or _same_solution(first, second)


def _zero_form(text: str, bare_derivatives: bool) -> Any | None:
    """The numerator of the left minus the right side over a common denominator; None if not parsable."""
    sides = split_top_level(text, ("=",))
    left, right = parse_expression(sides[0], bare_derivatives), parse_expression(sides[-1], bare_derivatives)
    if len(sides) < 2 or not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    numerator = sympy.fraction(sympy.together((left - right).doit()))[0]
    return numerator if numerator.free_symbols else None


def _same_solution(first: Any, second: Any) -> bool:
    """Whether both have the same unique solution for a variable: `\\ln y = 2x` and `y = e^{2x}`."""
    if not (first.has(sympy.exp, sympy.log) or second.has(sympy.exp, sympy.log)):
        return False
    for symbol in first.free_symbols:
        for side, other in ((first, second), (second, first)):
            slope = side.diff(symbol)
            if not slope.is_number or slope.is_zero:
                continue
            try:
                solutions = sympy.solve(other, symbol)
            except NotImplementedError:
                continue
            return len(solutions) == 1 and equal_values(symbol - side / slope, solutions[0])
    return False


def _is_constant_ratio(first: Any, second: Any, is_positive: bool = False) -> bool:
    """Whether the ratio of two expressions is the same non-zero number at every evaluation point."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    ratios = []
    for point in positive_points(symbols):
        ratio = (first / second).subs(point).evalf(30)
        if ratio.is_number and ratio.is_finite:
            ratios.append(ratio)
    if len(ratios) < 3 or ratios[0].is_zero is not False:
        return False
    if is_positive and ratios[0].is_positive is not True:
        return False
    return all(abs(ratio - ratios[0]) <= abs(ratios[0]) * sympy.Float("1e-18") for ratio in ratios)


def equivalent_inequalities(gold: str, answer: str) -> bool:
    """Return whether one inequality in several variables is a rearrangement of the other."""
    sides = []
    for text in (gold, answer):
        terms = split_top_level(text, RELATIONS)
        signs = RELATION.findall(text)
        if len(terms) != 2 or len(signs) != 1:
            return False
        left, right = parse_expression(terms[0]), parse_expression(terms[1])
        if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
            return False
        difference = left - right
        sign = signs[0]
        if sign in (">", "\\ge"):
            difference, sign = -difference, REVERSED_RELATION[sign]
        sides.append((difference, sign))
    (first, sign), (second, other) = sides
    return sign == other and _is_constant_ratio(first, second, is_positive=sign != "\\ne")
