"""The value of closed arithmetic: `2^5`, `4 \\times 5`, `\\binom{10}{3}`, `\\sqrt{16}`; exact and bounded.

Own code where sympy has a parser, because sympy's hands text to `eval` and has no bound of time:
`9^{9^{9}}` stalls it. What has no rational value here (`3\\sqrt5`, `2\\pi`, `x+1`) has none at all.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import comb, factorial, isqrt

from s2t_eval.evaluation.grading.numbers import DECIMAL, THIN, spelled

LONGEST, DEEPEST, LARGEST_POWER, LARGEST_BITS = 400, 40, 2000, 8000
LONGEST_NUMBER = 400
TOKENS = re.compile(
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


class NotClosedError(ValueError):
    """The text is no closed arithmetic with a rational value, or too large."""


def closed_value(text: str) -> Fraction | None:
    """The rational value of closed arithmetic, LaTeX or plain; None of everything else."""
    if len(text) > LONGEST or not re.search(r"\d", text):
        return None
    text = THIN.sub("", spelled(text.strip().rstrip(".")).replace("{,}", ""))
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    try:
        parser = _Parser(text)
        value = parser.sum()
        parser.finish()
        return value
    except NotClosedError:
        return None


class _Parser:
    """Recursive descent over sums, products, powers and atoms."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.place, self.depth = 0, 0
        begin = 0
        while begin < len(text):
            found = TOKENS.match(text, begin)
            if found is None:
                raise NotClosedError(text)
            self.tokens.append(found[0].strip())
            begin = found.end()

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> bool:
        if self.peek() in wanted and self.peek():
            self.place += 1
            return True
        return False

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise NotClosedError(f"{wanted} expected")

    def finish(self) -> None:
        if self.place < len(self.tokens):
            raise NotClosedError(self.peek())

    def sum(self) -> Fraction:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotClosedError("too deep")
        value = self.product()
        while (sign := self.peek()) in ("+", "-"):
            self.place += 1
            other = self.product()
            value = _bounded(value + other if sign == "+" else value - other)
        self.depth -= 1
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while True:
            if self.take("*"):
                value = _bounded(value * self.signed())
            elif self.take("/"):
                value = _quotient(value, self.signed())
            elif self.peek() == "\\frac" and self.tokens[self.place - 1].isdigit():
                value = self._mixed(value)
            elif self.peek() in ("(", "\\frac", "\\sqrt", "\\binom", "{", "["):
                value = _bounded(value * self.power())
            else:
                return value

    def signed(self) -> Fraction:
        negative = False
        while (sign := self.peek()) in ("+", "-"):
            negative ^= sign == "-"
            self.place += 1
        return -self.power() if negative else self.power()

    def power(self) -> Fraction:
        base = self.atom()
        while self.take("!"):
            if base.denominator != 1 or not 0 <= base <= 300:
                raise NotClosedError("factorial")
            base = Fraction(factorial(base.numerator))
        if self.take("^", "**"):
            self.depth += 1
            exponent = self.braced_sum() if self.peek() in ("{", "(") else self.signed()
            self.depth -= 1
            return _power(base, exponent)
        return base

    def braced_sum(self) -> Fraction:
        close = {"{": "}", "(": ")", "[": "]", "|": "|"}[self.peek()]
        self.place += 1
        value = self.sum()
        self.need(close)
        return value

    def argument(self) -> Fraction:
        """`{12}`, or the single digit that LaTeX takes: `\\frac12`."""
        token = self.peek()
        if token == "{":
            return self.braced_sum()
        if not token[:1].isdigit() or not token.isdigit():
            raise NotClosedError(token)
        self.tokens[self.place : self.place + 1] = [token[0], *([token[1:]] if token[1:] else [])]
        self.place += 1
        return Fraction(int(token[0]))

    def atom(self) -> Fraction:
        token = self.peek()
        if token[:1].isdigit() or token[:1] == ".":
            self.place += 1
            if len(token) > LONGEST_NUMBER:
                raise NotClosedError("too long")
            return Fraction(token.replace(",", ""))
        if token in ("(", "{", "["):
            return self.braced_sum()
        if token == "|":
            return abs(self.braced_sum())
        self.place += 1
        if token == "\\frac":
            return _quotient(self.argument(), self.argument())
        if token == "\\binom":
            return _binomial(self.argument(), self.argument())
        if token == "\\sqrt":
            degree = self.braced_sum() if self.peek() == "[" else Fraction(2)
            radicand = self.braced_sum() if self.peek() == "(" else self.argument()
            return _power(radicand, 1 / degree if degree > 0 else Fraction(0))
        raise NotClosedError(token)

    def _mixed(self, whole: Fraction) -> Fraction:
        """`3\\frac{1}{2}` is three and a half."""
        part = self.power()
        return whole + part if whole >= 0 else whole - part


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > LARGEST_BITS:
        raise NotClosedError("too large")
    return value


def _quotient(above: Fraction, below: Fraction) -> Fraction:
    if below == 0:
        raise NotClosedError("division by zero")
    return _bounded(above / below)


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= 1000:
        raise NotClosedError("binomial")
    return Fraction(comb(n.numerator, k.numerator))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """Exact powers and roots; a root that is no rational number is none at all."""
    if base == 0 and exponent <= 0:
        raise NotClosedError("power of zero")
    root = exponent.denominator
    if root > 64 or abs(exponent.numerator) > LARGEST_POWER:
        raise NotClosedError("power")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > LARGEST_BITS:
        raise NotClosedError("too large")
    if root == 1:
        return base**exponent.numerator
    if base < 0:
        raise NotClosedError("root of a negative number")
    above, below = _root(base.numerator, root), _root(base.denominator, root)
    return Fraction(above, below) ** exponent.numerator


def _root(number: int, degree: int) -> int:
    if degree == 2:
        found = isqrt(number)
    else:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
        found = low
    if found**degree != number:
        raise NotClosedError("no rational root")
    return found
