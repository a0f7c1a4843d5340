"""Equations and inequalities in several variables: the same where one is the other, moved about."""

from __future__ import annotations

import re
from typing import Any

import sympy

from s2t_eval.evaluation.grading.identity import POINTS, equal
from s2t_eval.evaluation.grading.latex import split
from s2t_eval.evaluation.grading.values import read

ORDERS = ("<", ">", "\\le", "\\ge", "\\ne")
ORDER = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def same_equation(gold: str, answer: str) -> bool:
    """Whether two equations have the same solutions: one is the other, moved about.

    Both sides are brought to one, over one denominator; then one has to be a constant times the
    other. So an equation may be solved for another of its names, and `xy = 0` is not `x = 0`.
    """
    is_bare = any(re.search(r"'|\\prime|\\d?dot", text) for text in (gold, answer))
    first, second = _one_side(gold, is_bare), _one_side(answer, is_bare)
    if first is None or second is None or first.free_symbols != second.free_symbols:
        return False
    return _is_constant_ratio(first, second) or _same_solved(first, second)


def _one_side(text: str, is_bare: bool) -> Any | None:
    """The numerator of left minus right."""
    sides = split(text, ("=",))
    left, right = read(sides[0], is_bare), read(sides[-1], is_bare)
    if len(sides) < 2 or not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    numerator = sympy.fraction(sympy.together((left - right).doit()))[0]
    return numerator if numerator.free_symbols else None


def _same_solved(first: Any, second: Any) -> bool:
    """Whether both have the same one solution for a name: `\\ln y = 2x` and `y = e^{2x}`."""
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
            return len(solutions) == 1 and equal(symbol - side / slope, solutions[0])
    return False


def _is_constant_ratio(first: Any, second: Any, is_positive: bool = False) -> bool:
    """Whether one is a constant, not zero, times the other: their ratio is the same at every point tried."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    ratios = []
    for turn in range(len(POINTS)):
        values = [sympy.Rational(POINTS[(turn + 2 * place) % 5]) + place for place in range(len(symbols))]
        ratio = (first / second).subs(dict(zip(symbols, values, strict=True))).evalf(30)
        if ratio.is_number and ratio.is_finite:
            ratios.append(ratio)
    if len(ratios) < 3 or ratios[0].is_zero is not False:
        return False
    if is_positive and ratios[0].is_positive is not True:
        return False
    return all(abs(ratio - ratios[0]) <= abs(ratios[0]) * sympy.Float("1e-18") for ratio in ratios)


def same_inequality(gold: str, answer: str) -> bool:
    """Whether two inequalities in several variables are the same one, moved about."""
    sides = []
    for text in (gold, answer):
        terms = split(text, ORDERS)
        signs = ORDER.findall(text)
        if len(terms) != 2 or len(signs) != 1:
            return False
        left, right = read(terms[0]), read(terms[1])
        if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
            return False
        difference = left - right
        sign = signs[0]
        if sign in (">", "\\ge"):
            difference, sign = -difference, FLIPPED[sign]
        sides.append((difference, sign))
    (first, sign), (second, other) = sides
    return sign == other and _is_constant_ratio(first, second, is_positive=sign != "\\ne")
