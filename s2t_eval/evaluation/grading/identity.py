"""Whether two expressions have the same value: exactly, to the last digit, or at every point tried.

math-verify's own comparison is not used: it rounds to six decimals as soon as one side has a decimal
point and takes every difference below 1e-15 for nothing, so that 1/2004! equals 1/2006! and 0.333333
is a third. Here rationals are compared exactly and everything else relatively, to the unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mpmath
import sympy

DIGITS, AGREEING = 60, 40
MOST_DIGITS = 20_000
POINTS = ("0.37", "1.83", "3.19", "7.71", "21.3")
WHOLE_POINTS = range(2, 12)
COUNTING = set("ijklmnpqrsNMK")
"""Names of whole numbers by habit."""


def equal(gold: Any, answer: Any, is_positive: bool = False) -> bool:
    """Whether two expressions have the same value, whatever their variables are; or positive ones."""
    if gold == answer:
        return True
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        return False
    answer = _with_names_of(gold, answer)
    if gold.free_symbols or answer.free_symbols:
        return gold == answer or _identical(gold, answer, is_positive)
    return close(gold, answer, None)


def close(gold: Any, answer: Any, tolerance: float | None) -> bool:
    """Whether two numbers agree relatively: within the tolerance, or None for the same number."""
    if gold.free_symbols or answer.free_symbols:
        return False
    if gold.is_Rational and answer.is_Rational:
        return bool(abs(gold - answer) <= sympy.Rational(str(tolerance or 0)) * abs(gold))
    wanted, given = _number(gold, {}), _number(answer, {})
    if wanted is None or given is None:
        return False
    if tolerance is None:
        return _same_to_the_unit(gold, answer, {}, wanted, given)
    return bool(abs(wanted - given) <= tolerance * abs(wanted))


def _same_to_the_unit(gold: Any, answer: Any, point: dict[Any, Any], wanted: Any, given: Any) -> bool:
    """Numbers that agree in their first digits agree in all digits before the point and twenty behind."""
    if not _agree(wanted, given):
        return False
    if not point and gold.is_rational and answer.is_rational:
        return bool(gold.doit() == answer.doit())
    digits = int(mpmath.log10(abs(wanted))) if wanted else 0
    if digits < AGREEING // 2:
        return True
    if digits > MOST_DIGITS:
        return bool(gold.subs(point).doit() == answer.subs(point).doit())
    wanted, given = _number(gold, point, digits + DIGITS), _number(answer, point, digits + DIGITS)
    return wanted is not None and given is not None and _agree(wanted, given, digits + AGREEING)


def _identical(gold: Any, answer: Any, only_positive: bool) -> bool:
    """Equal at every point tried: an identity, for everything people write as an answer.

    Evaluation to sixty digits proves what `simplify` cannot and takes milliseconds. Where variables
    are negative only real values count: `\\ln x^2` is `2 \\ln x` wherever both are defined.
    """
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    compared = 0
    for point, is_positive in _points(symbols, _counts(gold, answer, symbols)):
        wanted, given = _number(gold, point), _number(answer, point)
        if wanted is None or given is None or (only_positive and not is_positive):
            continue
        if not is_positive and not (wanted.imag == given.imag == 0 and _is_real(gold + answer, point)):
            continue
        if not _same_to_the_unit(gold, answer, point, wanted, given):
            return False
        compared += 1
    return compared >= 3


def _is_real(expression: Any, point: dict[Any, Any]) -> bool:
    """Whether no root or logarithm in the expression is of a negative number."""
    inner = [
        power.base
        for power in expression.atoms(sympy.Pow)
        if power.exp.is_Rational and not power.exp.is_Integer
    ]
    inner += [logarithm.args[0] for logarithm in expression.atoms(sympy.log)]
    values = [_number(base, point) for base in inner]
    return all(value is not None and value.imag == 0 and value.real >= 0 for value in values)


def _counts(gold: Any, answer: Any, symbols: list[Any]) -> bool:
    """Whether the variables are whole numbers: by habitual names, in functions of whole numbers."""
    heads = (sympy.floor, sympy.ceiling, sympy.factorial, sympy.binomial, sympy.Mod, sympy.Sum, sympy.Product)
    powers = [power for side in (gold, answer) for power in side.atoms(sympy.Pow)]
    return all(str(symbol) in COUNTING for symbol in symbols) and (
        gold.has(*heads)
        or answer.has(*heads)
        or any(power.base.is_negative and power.exp.free_symbols for power in powers)
    )


def _points(symbols: list[Any], is_whole: bool) -> Iterator[tuple[dict[Any, Any], bool]]:
    """Values of the variables, and whether all are positive."""
    if is_whole:
        for number in WHOLE_POINTS:
            yield {symbol: sympy.Integer(number + 3 * place) for place, symbol in enumerate(symbols)}, True
            yield (
                {symbol: sympy.Integer(number + 40 - 7 * place) for place, symbol in enumerate(symbols)},
                True,
            )
        return
    for turn in range(len(POINTS)):
        values = [sympy.Rational(POINTS[(turn + 2 * place) % 5]) + place for place in range(len(symbols))]
        yield dict(zip(symbols, values, strict=True)), True
        for flips in (-1, 1 if turn % 2 else -1):
            signs = [-1 if place % 2 == (turn % 2) or flips < 0 else 1 for place in range(len(symbols))]
            yield {s: v * sign for s, v, sign in zip(symbols, values, signs, strict=True)}, False


def _number(expression: Any, point: dict[Any, Any], digits: int = DIGITS) -> Any | None:
    """The value at a point to sixty digits, None where there is none."""
    try:
        value = expression.subs(point) if point else expression
        # An unevaluated power is evaluated as a float: 9^{9^9} exactly has 370 million digits.
        value = (value.doit() if value.has(*_lazy_heads()) else value).evalf(digits)
        real, imaginary = value.as_real_imag()
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    with mpmath.workdps(digits + 10):
        return mpmath.mpc(_settled(real, digits), _settled(imaginary, digits))


def _lazy_heads() -> tuple[Any, ...]:
    """What has a value only once it is worked out."""
    return (
        sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative, sympy.UnevaluatedExpr,
        sympy.factorial, sympy.binomial, sympy.Mod, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min,
    )  # fmt: skip


def _settled(number: Any, digits: int) -> Any:
    """Zero for what evaluation cannot tell from zero: sympy marks it by a precision of one bit."""
    bits = int((digits + 10) * 3.33)
    return mpmath.mpf(0) if getattr(number, "_prec", bits) == 1 else mpmath.mpf(number._to_mpmath(bits))


def _agree(first: Any, second: Any, digits: int = AGREEING) -> bool:
    with mpmath.workdps(digits + 20):
        return bool(abs(first - second) <= mpmath.mpf(10) ** -digits * max(abs(first), abs(second)))


def _with_names_of(gold: Any, answer: Any) -> Any:
    """The answer with the gold's capital letters where a name is otherwise the same."""
    names = {str(symbol).casefold(): symbol for symbol in gold.free_symbols}
    own = {str(symbol).casefold() for symbol in answer.free_symbols}
    if len(names) < len(gold.free_symbols) or len(own) < len(answer.free_symbols) or own - set(names):
        return answer
    return answer.xreplace({symbol: names[str(symbol).casefold()] for symbol in answer.free_symbols})
