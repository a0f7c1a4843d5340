"""Exact parsing of single expressions with math-verify's LaTeX grammar.

Only the grammar (latex2sympy2_extended) is used: not math-verify's comparison (see `numeric.py`), and not
its other parser, which passes the text to `eval`.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from s2t_eval.evaluation.grading.equivalence.symbols import encode_symbols

TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
DERIVATIVE_MARK = re.compile(r"[\d)]\s*'")
"""A prime after a digit or bracket, which the grammar silently drops."""
MAX_DEPTH = 40
"""Maximum nesting of brackets; the grammar is slow on deep nesting that is not closed."""
MAX_DIGITS = 4000
"""Maximum number of digits; Python rejects integers of more than 4,300."""
PLAIN_NUMBER = re.compile(r"([-+]?)\s*(\d+(?:\.\d+)?|\.\d+)")
FRACTION = re.compile(r"([-+]?)\s*\\frac\{([-+]?\d+)\}\{(\d+)\}")
MIXED_NUMBER = re.compile(r"(?<![\d.\w}^)])(\d+)\s*\\frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}")
MIXED_NUMBER_SLASH = re.compile(r"(?<![\d.\w}^)])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
IMPLICIT_PRODUCT = re.compile(
    r"(?P<argument>\\(?:sum|prod|int|lim)\s*_\s*\{[^{}]*\}(?:\s*\^\s*\{[^{}]*\})?\s*(?=\()"
    r"|\\(?:text|(?:log|ln|exp|sin|cos|tan|cot|sec|csc|sinh|cosh|tanh)\s*[_^])\s*\{[^{}]*\}\s*(?=\())"
    r"|[\d)}]\s*(?=\()|\\pi\s*(?=\()|\)\s*(?=\d)"
)
"""Implicit products of numbers, which the grammar would add: it reads (2)(3) as 5."""
SYMBOL = r"(?:\\text\{[a-zA-Z]+\}|\\(?!text|frac|sqrt|cdot|times|pm|div|left|right)[a-zA-Z]+|[a-zA-Z])"
DIVIDED_FUNCTION = re.compile(
    r"(?P<function>\\(?:(?P<trigonometric>sin|cos|tan|cot|sec|csc)|sinh|cosh|tanh|ln|log)"
    r"(?:\s*[_^]\s*\{[^{}]*\}){0,2})(?![a-zA-Z])\s*"
    rf"(?P<argument>(?:\d+(?:\.\d+)?(?:\s*{SYMBOL})?|{SYMBOL}|\\sqrt\{{[^{{}}]*\}}|\\frac\{{[^{{}}]*\}}\{{[^{{}}]*\}})"
    r"(?:\s*\^\s*\{[^{}]*\})?)(?=\s*/)"
)
"""A function of an argument without brackets that is divided, `\\ln 3/\\ln 2`, which the grammar reads as
`\\ln(3/\\ln 2)`."""
ANGLE = re.compile(r"(?:\d+\s*)?\\pi")
"""A multiple of π; `\\cos\\pi/3` is the cosine of π/3, since nobody would write cos π for -1."""
GROUPED_DIGITS = re.compile(r"(?<![\d.,(\[])\d{1,3}(?:,\s?\d{3})+(?![\d,)\]])")


@functools.lru_cache(4096)
def parse_expression(text: str, bare_derivatives: bool = False) -> Any | None:
    """Parse a normal form to an exact sympy expression.

    Args:
        text: a normal form (see `normalise`).
        bare_derivatives: see `encode_symbols`; default False.

    Returns:
        The expression or matrix; None if the text is neither.

    Example:
        >>> parse_expression("0.5")
        1/2
    """
    text = text.strip()
    if (
        len(max(re.findall(r"\d+", text), key=len, default="")) > MAX_DIGITS
        or _depth(text) > MAX_DEPTH
        or DERIVATIVE_MARK.search(text)
    ):
        return None
    if (number := PLAIN_NUMBER.fullmatch(text)) is not None:
        return sympy.Rational(number[1] + number[2])
    if (fraction := FRACTION.fullmatch(text)) is not None and int(fraction[3]):
        return sympy.Rational(int(fraction[1] + "1") * int(fraction[2]), int(fraction[3]))
    expression = _parse_latex(_prepare_for_grammar(text, bare_derivatives))
    if expression is None:
        return None
    return sympy.Integer(expression) if isinstance(expression, int) else _make_exact(expression)


def _prepare_for_grammar(text: str, bare_derivatives: bool) -> str:
    """Rewrite constructs that the grammar would misread."""
    text = GROUPED_DIGITS.sub(lambda m: re.sub(r"[,\s]", "", m[0]), text)
    text = re.sub(r"(?<=[\d.])[eE]([-+]?\d+)(?![\d.]*[a-zA-Z])", r"\\cdot 10^{\1}", text)
    text = MIXED_NUMBER.sub(_expand_mixed_number, MIXED_NUMBER_SLASH.sub(_expand_mixed_number, text))
    angle = r"\\frac{(\1)\\cdot \\pi }{180}" if TRIGONOMETRIC.search(text) else r"\1"
    text = re.sub(r"(\d+(?:\.\d+)?|\\?[a-zA-Z]+|\([^()]*\))\s*\^\s*\\circ", rf"({angle})", text)
    text = encode_symbols(re.sub(r"\\lg(?![a-zA-Z])", r"\\log_{10}", text), bare_derivatives)
    text = re.sub(r"\\(exp|sin|cos|tan|ln|log|arcsin|arccos|arctan)\s*\{([^{}]*)\}", r"\\\1(\2)", text)
    text = DIVIDED_FUNCTION.sub(_bracket_argument, text)
    text = IMPLICIT_PRODUCT.sub(lambda m: m[0] if m["argument"] else m[0] + r"\cdot ", text)
    text = re.sub(r"(?<=\d)\s*(?=\\(?:frac|binom)\{)", r"\\cdot ", text)
    return text.replace("$", "").replace("%", "")


def _depth(text: str) -> int:
    depths = itertools.accumulate((char in "([{") - (char in ")]}") for char in text)
    return max(depths, key=abs, default=0)


def _bracket_argument(match: re.Match[str]) -> str:
    """Bracket the argument of a divided function: `\\ln 3/\\ln 2` is `\\ln(3)/\\ln 2`."""
    if match["trigonometric"] and ANGLE.fullmatch(match["argument"]):
        return match[0]
    return f"{match['function']}({match['argument']})"


def _expand_mixed_number(match: re.Match[str]) -> str:
    """Make the operation explicit: `3\\frac12` is three and a half, `2\\frac43` is a product."""
    whole, numerator, denominator = match.groups()
    sign = "+" if int(numerator) < int(denominator) else "\\cdot "
    return rf"({whole}{sign}\frac{{{numerator}}}{{{denominator}}})"


def load_grammar() -> tuple[Any, Any]:
    """Import math-verify's LaTeX grammar and its settings class.

    math-verify's other parser is never used: it passes the text to `eval`.

    Raises:
        ImportError: it is not installed, or no supported version of antlr is.
    """
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    return latex2sympy, ConversionConfig


def _parse_latex(text: str) -> Any | None:
    latex2sympy, configuration = load_grammar()
    config = configuration(interpret_as_mixed_fractions=False, lowercase_symbols=False)
    try:
        return latex2sympy(text, is_real=True, normalization_config=None, conversion_config=config)
    except Exception:  # the grammar raises plain `Exception`, and sympy various types, for invalid input
        return None


def _make_exact(expression: Any) -> Any | None:
    """Replace decimals by fractions, `i` by the imaginary unit, and functions of a variable by symbols."""
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
