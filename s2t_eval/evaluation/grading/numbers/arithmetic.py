"""Exact evaluation of arithmetic expressions such as `2^5`, `4 \\times 5`, `\\binom{10}{3}`, `\\sqrt{16}`.

sympy's own parser is not used because it passes the text to `eval` and has no time limit: `9^{9^{9}}`
does not terminate. Sizes are bounded here, and expressions without a rational value (`3\\sqrt5`, `2\\pi`,
`x+1`) are rejected.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import comb, factorial, isqrt

from s2t_eval.evaluation.grading.numbers.parsing import DECIMAL, THIN_SEPARATOR, normalise_characters

MAX_LENGTH, MAX_DEPTH, MAX_EXPONENT, MAX_BITS = 400, 40, 2000, 8000
MAX_NUMBER_LENGTH = 400
TOKEN = re.compile(
    rf"\s*(?:(?P<number>{DECIMAL})|(?P<command>\\[a-zA-Z]+)|(?P<sign>\*\*|[-+*/^!(){{}}\[\]|]))\s*"
)
SPELLINGS = (
    (re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[ ,;:!]|\\displaystyle|~|[$]"), ""),
    (re.compile(r"\\[dtc]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-z])"), r"\\binom"),
    (re.compile(r"\\div(?![a-z])|÷"), "/"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-z])|[×·⋅∙]|(?<=[\d)])\s*x\s*(?=[\d(])"), "*"),
    (re.compile(r"√\s?(?=\()"), r"\\sqrt"),
    (re.compile(r"√\s?(\d+)"), r"\\sqrt{\1}"),
    (re.compile(r"\{\s*(\d+)\s*\\choose\s*(\d+)\s*\}"), r"\\binom{\1}{\2}"),
)


class NotArithmeticError(ValueError):
    """The text is not an arithmetic expression with a rational value, or exceeds a limit."""


def evaluate_arithmetic(text: str) -> Fraction | None:
    """Return the rational value of an arithmetic expression in LaTeX or plain text, otherwise None.

    Example:
        >>> evaluate_arithmetic(r"\\frac{3}{4} \\times 8")
        Fraction(6, 1)
    """
    if len(text) > MAX_LENGTH or not re.search(r"\d", text):
        return None
    text = THIN_SEPARATOR.sub("", normalise_characters(text.strip().rstrip(".")).replace("{,}", ""))
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    try:
        parser = _Parser(text)
        value = parser.sum()
        parser.expect_end()
        return value
    except NotArithmeticError:
        return None


class _Parser:
    """A recursive-descent parser with the levels sum, product, power and atom."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.position, self.depth = 0, 0
        start = 0
        while start < len(text):
            match = TOKEN.match(text, start)
            if match is None:
                raise NotArithmeticError(text)
            self.tokens.append(match[0].strip())
            start = match.end()

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def accept(self, *tokens: str) -> bool:
        if self.peek() in tokens and self.peek():
            self.position += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise NotArithmeticError(f"{token} expected")

    def expect_end(self) -> None:
        if self.position < len(self.tokens):
            raise NotArithmeticError(self.peek())

    def sum(self) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotArithmeticError("too deep")
        value = self.product()
        while (sign := self.peek()) in ("+", "-"):
            self.position += 1
            other = self.product()
            value = _check_size(value + other if sign == "+" else value - other)
        self.depth -= 1
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while True:
            if self.accept("*"):
                value = _check_size(value * self.signed())
            elif self.accept("/"):
                value = _quotient(value, self.signed())
            elif self.peek() == "\\frac" and self.tokens[self.position - 1].isdigit():
                value = self._mixed(value)
            elif self.peek() in ("(", "\\frac", "\\sqrt", "\\binom", "{", "["):
                value = _check_size(value * self.power())
            else:
                return value

    def signed(self) -> Fraction:
        is_negative = False
        while (sign := self.peek()) in ("+", "-"):
            is_negative ^= sign == "-"
            self.position += 1
        return -self.power() if is_negative else self.power()

    def power(self) -> Fraction:
        base = self.atom()
        while self.accept("!"):
            if base.denominator != 1 or not 0 <= base <= 300:
                raise NotArithmeticError("factorial")
            base = Fraction(factorial(base.numerator))
        if self.accept("^", "**"):
            self.depth += 1
            exponent = self.braced_sum() if self.peek() in ("{", "(") else self.signed()
            self.depth -= 1
            return _power(base, exponent)
        return base

    def braced_sum(self) -> Fraction:
        close = {"{": "}", "(": ")", "[": "]", "|": "|"}[self.peek()]
        self.position += 1
        value = self.sum()
        self.expect(close)
        return value

    def argument(self) -> Fraction:
        """A command's argument: a group in braces, or a single digit as in `\\frac12`."""
        token = self.peek()
        if token == "{":
            return self.braced_sum()
        if not token[:1].isdigit() or not token.isdigit():
            raise NotArithmeticError(token)
        self.tokens[self.position : self.position + 1] = [token[0], *([token[1:]] if token[1:] else [])]
        self.position += 1
        return Fraction(int(token[0]))

    def atom(self) -> Fraction:
        token = self.peek()
        if token[:1].isdigit() or token[:1] == ".":
            self.position += 1
            if len(token) > MAX_NUMBER_LENGTH:
                raise NotArithmeticError("too long")
            return Fraction(token.replace(",", ""))
        if token in ("(", "{", "["):
            return self.braced_sum()
        if token == "|":
            return abs(self.braced_sum())
        self.position += 1
        if token == "\\frac":
            return _quotient(self.argument(), self.argument())
        if token == "\\binom":
            return _binomial(self.argument(), self.argument())
        if token == "\\sqrt":
            degree = self.braced_sum() if self.peek() == "[" else Fraction(2)
            radicand = self.braced_sum() if self.peek() == "(" else self.argument()
            return _power(radicand, 1 / degree if degree > 0 else Fraction(0))
        raise NotArithmeticError(token)

    def _mixed(self, whole: Fraction) -> Fraction:
        """A mixed number: `3\\frac{1}{2}` is three and a half, not a product."""
        fraction = self.power()
        return whole + fraction if whole >= 0 else whole - fraction


def _check_size(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise NotArithmeticError("too large")
    return value


def _quotient(numerator: Fraction, denominator: Fraction) -> Fraction:
    if denominator == 0:
        raise NotArithmeticError("division by zero")
    return _check_size(numerator / denominator)


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= 1000:
        raise NotArithmeticError("binomial")
    return Fraction(comb(n.numerator, k.numerator))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """An exact power or root; an irrational root raises `NotArithmeticError`."""
    if base == 0 and exponent <= 0:
        raise NotArithmeticError("power of zero")
    root = exponent.denominator
    if root > 64 or abs(exponent.numerator) > MAX_EXPONENT:
        raise NotArithmeticError("power")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > MAX_BITS:
        raise NotArithmeticError("too large")
    if root == 1:
        return base**exponent.numerator
    if base < 0:
        raise NotArithmeticError("root of a negative number")
    numerator, denominator = _root(base.numerator, root), _root(base.denominator, root)
    return Fraction(numerator, denominator) ** exponent.numerator


def _root(number: int, degree: int) -> int:
    if degree == 2:
        root = isqrt(number)
    else:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
        root = low
    if root**degree != number:
        raise NotArithmeticError("no rational root")
    return root
