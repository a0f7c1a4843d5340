"""Single expressions, read exactly by math-verify's LaTeX grammar.

Only the grammar is math-verify's (latex2sympy2_extended); its comparison is not used, see
`identity.py`, nor its other parser, which hands the text to eval.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from s2t_eval.evaluation.grading.symbols import encoded

ANGLES = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
DERIVED = re.compile(r"[\d)]\s*'")
"""A prime that belongs to no name: the grammar drops it."""
DEEPEST = 40
"""Brackets inside each other that are still read; the grammar is slow where they do not close."""
LONGEST_NUMBER = 4000
"""Python refuses to read integers of more than 4,300 digits."""
PLAIN = re.compile(r"([-+]?)\s*(\d+(?:\.\d+)?|\.\d+)")
FRACTION = re.compile(r"([-+]?)\s*\\frac\{([-+]?\d+)\}\{(\d+)\}")
MIXED = re.compile(r"(?<![\d.\w}^)])(\d+)\s*\\frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}")
SLASHED = re.compile(r"(?<![\d.\w}^)])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
PRODUCT = re.compile(
    r"(?P<argument>\\(?:sum|prod|int|lim)\s*_\s*\{[^{}]*\}(?:\s*\^\s*\{[^{}]*\})?\s*(?=\()"
    r"|\\(?:text|(?:log|ln|exp|sin|cos|tan|cot|sec|csc|sinh|cosh|tanh)\s*[_^])\s*\{[^{}]*\}\s*(?=\())"
    r"|[\d)}]\s*(?=\()|\\pi\s*(?=\()|\)\s*(?=\d)"
)
"""The grammar adds what stands side by side where both are numbers: (2)(3) is 5 to it."""
GROUPED = re.compile(r"(?<![\d.,(\[])\d{1,3}(?:,\s?\d{3})+(?![\d,)\]])")


@functools.lru_cache(4096)
def read(text: str, bare_derivatives: bool = False) -> Any | None:
    """A normal form as an exact sympy expression; None where it is not one."""
    text = text.strip()
    if (
        len(max(re.findall(r"\d+", text), key=len, default="")) > LONGEST_NUMBER
        or _depth(text) > DEEPEST
        or DERIVED.search(text)
    ):
        return None
    if (number := PLAIN.fullmatch(text)) is not None:
        return sympy.Rational(number[1] + number[2])
    if (fraction := FRACTION.fullmatch(text)) is not None and int(fraction[3]):
        return sympy.Rational(int(fraction[1] + "1") * int(fraction[2]), int(fraction[3]))
    expression = _parsed(_prepared(text, bare_derivatives))
    if expression is None:
        return None
    return sympy.Integer(expression) if isinstance(expression, int) else _exact(expression)


def _prepared(text: str, bare_derivatives: bool) -> str:
    """The text as the grammar reads it rightly."""
    text = GROUPED.sub(lambda m: re.sub(r"[,\s]", "", m[0]), text)
    text = re.sub(r"(?<=[\d.])[eE]([-+]?\d+)(?![\d.]*[a-zA-Z])", r"\\cdot 10^{\1}", text)
    text = MIXED.sub(_mixed, SLASHED.sub(_mixed, text))
    angle = r"\\frac{(\1)\\cdot \\pi }{180}" if ANGLES.search(text) else r"\1"
    text = re.sub(r"(\d+(?:\.\d+)?|\\?[a-zA-Z]+|\([^()]*\))\s*\^\s*\\circ", rf"({angle})", text)
    text = encoded(re.sub(r"\\lg(?![a-zA-Z])", r"\\log_{10}", text), bare_derivatives)
    text = re.sub(r"\\(exp|sin|cos|tan|ln|log|arcsin|arccos|arctan)\s*\{([^{}]*)\}", r"\\\1(\2)", text)
    text = PRODUCT.sub(lambda m: m[0] if m["argument"] else m[0] + r"\cdot ", text)
    text = re.sub(r"(?<=\d)\s*(?=\\(?:frac|binom)\{)", r"\\cdot ", text)
    return text.replace("$", "").replace("%", "")


def _depth(text: str) -> int:
    depths = itertools.accumulate((char in "([{") - (char in ")]}") for char in text)
    return max(depths, key=abs, default=0)


def _mixed(match: re.Match[str]) -> str:
    """`3\\frac12` is three and a half; `2\\frac43` is a product."""
    whole, above, below = match.groups()
    sign = "+" if int(above) < int(below) else "\\cdot "
    return rf"({whole}{sign}\frac{{{above}}}{{{below}}})"


def grammar() -> tuple[Any, Any]:
    """math-verify's LaTeX grammar and its settings; never its other parser, which hands the text to eval.

    Raises:
        ImportError: it is not installed, or not with a version of antlr that it has tables for.
    """
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    return latex2sympy, ConversionConfig


def _parsed(text: str) -> Any | None:
    latex2sympy, configuration = grammar()
    config = configuration(interpret_as_mixed_fractions=False, lowercase_symbols=False)
    try:
        return latex2sympy(text, is_real=True, normalization_config=None, conversion_config=config)
    except (
        Exception
    ):  # the grammar raises Exception itself, and sympy what it likes, for what is no expression
        return None


def _exact(expression: Any) -> Any | None:
    """Decimals as fractions, i as the imaginary unit, functions of a name as names."""
    if not isinstance(expression, sympy.Expr):
        return expression if isinstance(expression, sympy.MatrixBase) else None
    changes: dict[Any, Any] = {
        number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)
    }
    for applied in expression.atoms(AppliedUndef):
        name = applied.func.__name__.removeprefix("\\text{").removesuffix("}").removeprefix("\\")
        is_of_name = all(argument.is_Symbol for argument in applied.args)
        changes[applied] = sympy.Symbol(name if is_of_name else f"{name}{applied.args}", real=True)
    expression = expression.xreplace(changes)
    return expression.subs(sympy.Symbol("i", real=True), sympy.I)
