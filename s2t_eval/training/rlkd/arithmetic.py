"""Whether an equation is true: the value of its left side, without evaluating it as a program."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from s2t_eval.training.r2r.rules import NUMBER, normalise

TOKEN = re.compile(rf"{NUMBER.pattern}|[-+*/()%]|(?<![a-z])x(?![a-z])")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def value_of(expression: str) -> Fraction | None:
    """The value of sums and products of numbers; None for any other text, and for a division by 0.

    Words, currencies and brackets are skipped, `x` is `*`, and a percent sign divides by 100.

    Example:
        >>> value_of("$1,200 + 3 x 50%")
        Fraction(2403, 2)
    """
    text = normalise(expression).replace("[", "(").replace("]", ")")
    words = [word.replace(",", "").replace("x", "*").replace("%", "/100") for word in TOKEN.findall(text)]
    try:
        return _value(ast.parse("".join(words), mode="eval").body)
    except (SyntaxError, ZeroDivisionError):  # no expression, such as one bracket alone, or no value
        return None


def is_result(answer: str, expression: str) -> bool | None:
    """Whether a number is the value of an expression, rounded to the digits that the number has.

    Returns:
        None where either has no value.
    """
    value, number = value_of(expression), value_of(answer)
    if value is None or number is None:
        return None
    _, _, digits = answer.partition(".")
    half_unit = Fraction(1, 2 * 10 ** len(digits.strip()))
    return value == number or (value.denominator > 1 and abs(value - number) <= half_unit)


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise SyntaxError(f"{type(node).__name__} is no sum or product of numbers")
