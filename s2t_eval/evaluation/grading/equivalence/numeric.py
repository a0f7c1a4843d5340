"""Equality of expressions: exact for rationals, otherwise numeric with high precision.

math-verify's own comparison is not used: it rounds to six decimals if one side has a decimal point and
ignores differences below 1e-15, so that 1/2004! equals 1/2006! and 0.333333 equals 1/3. Here rationals are
compared exactly, and all other values relatively and with all digits before the decimal point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mpmath
import sympy

WORKING_DIGITS, AGREEING_DIGITS = 60, 40
MAX_DIGITS = 20_000
POINTS = ("0.37", "1.83", "3.19", "7.71", "21.3")
INTEGER_POINTS = range(2, 12)
INTEGER_NAMES = set("ijklmnpqrsNMK")
"""Variable names that conventionally denote integers."""


def equal_values(gold: Any, answer: Any, is_positive: bool = False) -> bool:
    """Return whether two expressions are equal for all values of their variables.

    Args:
        gold: a sympy expression or matrix.
        answer: a sympy expression or matrix.
        is_positive: whether only positive values of the variables are considered; default False.
    """
    if gold == answer:
        return True
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        return False
    answer = _match_letter_case(gold, answer)
    if gold.free_symbols or answer.free_symbols:
        return gold == answer or _equal_at_points(gold, answer, is_positive)
    return close_values(gold, answer, None)


def close_values(gold: Any, answer: Any, tolerance: float | None) -> bool:
    """Return whether two numbers agree within a relative tolerance; None requires the same number."""
    if gold.free_symbols or answer.free_symbols:
        return False
    if gold.is_Rational and answer.is_Rational:
        return bool(abs(gold - answer) <= sympy.Rational(str(tolerance or 0)) * abs(gold))
    gold_value, answer_value = _evaluate(gold, {}), _evaluate(answer, {})
    if gold_value is None or answer_value is None:
        return False
    if tolerance is None:
        return _equal_to_the_last_digit(gold, answer, {}, gold_value, answer_value)
    return bool(abs(gold_value - answer_value) <= tolerance * abs(gold_value))


def _equal_to_the_last_digit(
    gold: Any, answer: Any, point: dict[Any, Any], gold_value: Any, answer_value: Any
) -> bool:
    """Whether two numbers that agree in their first digits also agree up to 20 digits after the point."""
    if not _agree(gold_value, answer_value):
        return False
    if not point and gold.is_rational and answer.is_rational:
        return bool(gold.doit() == answer.doit())
    digits = int(mpmath.log10(abs(gold_value))) if gold_value else 0
    if digits < AGREEING_DIGITS // 2:
        return True
    if digits > MAX_DIGITS:
        return bool(gold.subs(point).doit() == answer.subs(point).doit())
    gold_value, answer_value = (
        _evaluate(gold, point, digits + WORKING_DIGITS),
        _evaluate(answer, point, digits + WORKING_DIGITS),
    )
    return (
        gold_value is not None
        and answer_value is not None
        and _agree(gold_value, answer_value, digits + AGREEING_DIGITS)
    )


def _equal_at_points(gold: Any, answer: Any, only_positive: bool) -> bool:
    """Whether two expressions are equal at every evaluation point, and at least at three.

    Evaluation with sixty digits takes milliseconds and decides cases that `simplify` cannot. At points with
    negative variables only real values count: `\\ln x^2` equals `2 \\ln x` where both are defined.
    """
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    compared = 0
    for point, is_positive in _points(symbols, _are_integer_variables(gold, answer, symbols)):
        gold_value, answer_value = _evaluate(gold, point), _evaluate(answer, point)
        if gold_value is None or answer_value is None or (only_positive and not is_positive):
            continue
        if not is_positive and not (
            gold_value.imag == answer_value.imag == 0 and _is_real(gold + answer, point)
        ):
            continue
        if not _equal_to_the_last_digit(gold, answer, point, gold_value, answer_value):
            return False
        compared += 1
    return compared >= 3


def _is_real(expression: Any, point: dict[Any, Any]) -> bool:
    """Whether every argument of a root or logarithm in the expression is non-negative."""
    inner = [
        power.base
        for power in expression.atoms(sympy.Pow)
        if power.exp.is_Rational and not power.exp.is_Integer
    ]
    inner += [logarithm.args[0] for logarithm in expression.atoms(sympy.log)]
    values = [_evaluate(base, point) for base in inner]
    return all(value is not None and value.imag == 0 and value.real >= 0 for value in values)


def _are_integer_variables(gold: Any, answer: Any, symbols: list[Any]) -> bool:
    """Whether the variables are integers: conventional names inside functions of integers."""
    integer_functions = (
        sympy.floor,
        sympy.ceiling,
        sympy.factorial,
        sympy.binomial,
        sympy.Mod,
        sympy.Sum,
        sympy.Product,
    )
    powers = [power for side in (gold, answer) for power in side.atoms(sympy.Pow)]
    return all(str(symbol) in INTEGER_NAMES for symbol in symbols) and (
        gold.has(*integer_functions)
        or answer.has(*integer_functions)
        or any(power.base.is_negative and power.exp.free_symbols for power in powers)
    )


def _points(symbols: list[Any], are_integers: bool) -> Iterator[tuple[dict[Any, Any], bool]]:
    """Yield evaluation points, and whether all their values are positive."""
    if are_integers:
        for number in INTEGER_POINTS:
            yield {symbol: sympy.Integer(number + 3 * index) for index, symbol in enumerate(symbols)}, True
            yield (
                {symbol: sympy.Integer(number + 40 - 7 * index) for index, symbol in enumerate(symbols)},
                True,
            )
        return
    for shift, point in enumerate(positive_points(symbols)):
        yield point, True
        for flips in (-1, 1 if shift % 2 else -1):
            signs = [-1 if index % 2 == (shift % 2) or flips < 0 else 1 for index in range(len(symbols))]
            yield {s: v * sign for (s, v), sign in zip(point.items(), signs, strict=True)}, False


def positive_points(symbols: Sequence[Any]) -> Iterator[dict[Any, Any]]:
    """Yield points at which every variable has a positive value of its own."""
    for shift in range(len(POINTS)):
        values = [sympy.Rational(POINTS[(shift + 2 * index) % 5]) + index for index in range(len(symbols))]
        yield dict(zip(symbols, values, strict=True))


def _evaluate(expression: Any, point: dict[Any, Any], digits: int = WORKING_DIGITS) -> Any | None:
    """The complex value at a point with `digits` digits; None if it is undefined."""
    try:
        value = expression.subs(point) if point else expression
        # Powers are evaluated as floats, not with `doit`: 9^{9^9} has 370 million digits.
        value = (value.doit() if value.has(*_unevaluated_types()) else value).evalf(digits)
        real, imaginary = value.as_real_imag()
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    with mpmath.workdps(digits + 10):
        return mpmath.mpc(_to_mpf(real, digits), _to_mpf(imaginary, digits))


def _unevaluated_types() -> tuple[Any, ...]:
    """Types of expressions that `evalf` does not evaluate without `doit`."""
    return (
        sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative, sympy.UnevaluatedExpr,
        sympy.factorial, sympy.binomial, sympy.Mod, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min,
    )  # fmt: skip


def _to_mpf(number: Any, digits: int) -> Any:
    """Convert a sympy number; a precision of one bit marks a value indistinguishable from zero."""
    bits = int((digits + 10) * 3.33)
    return mpmath.mpf(0) if getattr(number, "_prec", bits) == 1 else mpmath.mpf(number._to_mpmath(bits))


def _agree(first: Any, second: Any, digits: int = AGREEING_DIGITS) -> bool:
    with mpmath.workdps(digits + 20):
        return bool(abs(first - second) <= mpmath.mpf(10) ** -digits * max(abs(first), abs(second)))


def _match_letter_case(gold: Any, answer: Any) -> Any:
    """The answer with variables renamed to those of the gold answer that differ only in letter case."""
    names = {str(symbol).casefold(): symbol for symbol in gold.free_symbols}
    answer_names = {str(symbol).casefold() for symbol in answer.free_symbols}
    if (
        len(names) < len(gold.free_symbols)
        or len(answer_names) < len(answer.free_symbols)
        or answer_names - set(names)
    ):
        return answer
    return answer.xreplace({symbol: names[str(symbol).casefold()] for symbol in answer.free_symbols})
