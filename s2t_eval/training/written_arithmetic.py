"""Numbers and equations in the texts of models: as they are written, and what they are worth.

R2R's rules compare the numbers and equations of two sentences, and RLKD's rule divides a solution into its
equations. Both read texts with Markdown, LaTeX, currencies and units.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from s2t_eval.training.number_words import numbers_in_words

SPACING = re.compile(r"\\[,;:! ()\[\]]|\\q?quad\b|~|\\left|\\right")
OPERATORS = {"×": "*", "·": "*", "÷": "/", "−": "-", "\\times": "*", "\\cdot": "*", "\\div": "/"}
BOLD = re.compile(r"(?<![\w)*])\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)")
WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mathbf|mbox|boxed|fbox)\s*\{([^{}]*)\}")
FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
MIXED = re.compile(r"(\d+)\s*\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
NESTED = 4
"""How deep LaTeX commands may lie in each other."""
OF = re.compile(r"(%|\b\d+/\d+)\s+of\s+(?=[$(]*\d)")
TIGHT = {r"(?<=\d) ?/ ?(?=\d)": "/", r"(?<=[(\[]) ": "", r" (?=[)\]])": ""}
"""Spaces that are left out."""
NUMBER = re.compile(r"\d{1,40}(?:,\d{3}){0,10}(?:\.\d{1,40})?|(?<![\w.])\.\d{1,40}")
"""Of a length that every number of a problem has; a model that repeats a digit writes several."""
SIGN = r"(?:(?<![\w)\]%])(?<![\d)\]%] )-(?=[$.\d])|(?<==)-\s|(?<== )-\s)"
"""A minus that is no operator: no number that it could subtract from stands before it."""
SIGNED = re.compile(rf"(?P<sign>{SIGN}?)\$?(?P<number>{NUMBER.pattern})(?P<percent>\s?%)?")
QUOTIENT = re.compile(rf"({NUMBER.pattern})/({NUMBER.pattern})")
OPERATOR = re.compile(r"[-+*/]|(?<![a-z])x(?![a-z])")
_WORD = r"(?!x\b|of [$(]?\d)[a-z]+"
_UNIT = rf"(?:\s?/\s?[a-z]+|\s{_WORD}(?:[ /-]{_WORD}){{0,5}})?(?:\s\([a-z][a-z ]{{0,60}}\))?"
_OPEN, _CLOSE = r"[$(\[]{0,4}", r"[)\]]{0,4}"
_OPERAND = rf"{_OPEN}(?:{SIGN}{_OPEN})?(?:{NUMBER.pattern})(?:\s?%)?{_UNIT}{_CLOSE}"
_EXPRESSION = rf"{_OPERAND}(?:\s*(?:{OPERATOR.pattern})\s*{_OPERAND}){{0,40}}"
EQUALITIES = re.compile(rf"{_EXPRESSION}(?:\s*=\s*{_EXPRESSION}){{1,20}}")
"""Bounded, so that the time of a search grows with the length of a text and not with its square."""
FIRST_NUMBER = re.compile(rf"{SIGN}?{_OPEN}(?:{NUMBER.pattern})(?:\s?%)?")
UNIT = re.compile(rf"(?<=[\d%]){_UNIT}")
_QUOTIENT = rf"(?:{NUMBER.pattern})/-?(?:{NUMBER.pattern})"
FRACTION_RESULT = re.compile(rf"-?(?:{_QUOTIENT}|\((?:{NUMBER.pattern})\+{_QUOTIENT}\))%?")
"""A quotient of two numbers or a mixed number, without spaces, units and other brackets."""
LEADING_QUOTIENT = re.compile(rf"\s*{SIGN}?{_OPEN}{_QUOTIENT}")
DIVISOR = re.compile(rf"(?:{NUMBER.pattern})(?:\s?%)?[)\]]*")
DIVIDES = ("/", "÷", "\\div")
TOKEN = re.compile(rf"{NUMBER.pattern}|{OPERATOR.pattern}|[()%]")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def normalise(text: str) -> str:
    """A text without differences of case, spacing, bold print, LaTeX and spelling of operators.

    Example:
        >>> normalise(r"So \\[ \\frac{60}{2} \\text{ eggs} \\times 3 = **90** \\]")
        'so 60/2 eggs * 3 = 90'
    """
    text = text.replace("{,}", ",").replace(r"\$", "$").replace(r"\%", "%")
    for _ in range(NESTED):
        text = WRAPPED.sub(r" \1 ", FRACTION.sub(_fraction, MIXED.sub(r"(\1+\2/\3)", text)))
    text = BOLD.sub(r"\1", SPACING.sub(" ", text))
    for spelling, sign in OPERATORS.items():
        text = text.replace(spelling, sign)
    text = " ".join(text.lower().split())
    for pattern, plain in TIGHT.items():
        text = re.sub(pattern, plain, text)
    return OF.sub(r"\1 * ", text)


def _fraction(match: re.Match[str]) -> str:
    """A LaTeX fraction as a quotient, in brackets where it is a divisor or a percentage."""
    sides = (side.strip() for side in match.groups())
    quotient = "/".join(side if NUMBER.fullmatch(side) else f"({side})" for side in sides)
    before = match.string[max(0, match.start() - 20) : match.start()].rstrip(" $~{,:;!\\")
    is_whole = before.endswith(DIVIDES) or match.string[match.end() : match.end() + 4].lstrip().startswith(
        "%"
    )
    return f"({quotient})" if is_whole else quotient


def numbers(text: str) -> Counter[Fraction]:
    """The numbers of a normalised text by value, each with how often it occurs.

    A sign and a percent sign belong to the value. Numbers may be words, but for "one" alone.

    Example:
        >>> sorted(numbers("two of -3, and 50%, and thirty-five"))
        [Fraction(-3, 1), Fraction(1, 2), Fraction(2, 1), Fraction(35, 1)]
    """
    counts = Counter(numbers_in_words(text))
    counts.update(signed_value(match) for match in SIGNED.finditer(text))
    return counts


def signed_value(match: re.Match[str]) -> Fraction:
    """The value of a match of `SIGNED`."""
    value = number(match["number"]) / (100 if match["percent"] else 1)
    return -value if match["sign"] else value


def number(text: str) -> Fraction:
    """The value of digits with or without separators of thousands."""
    return Fraction(text.replace(",", ""))


class Equation(NamedTuple):
    """A calculation and its result, in a normalised text."""

    expression: str
    """its left side, of at least two numbers"""
    result: str
    """the number or quotient of two numbers that it is said to be, with its sign and percent sign"""
    begin: int
    """where the expression begins"""
    end: int
    """where the result ends"""


def equations(text: str) -> list[Equation]:
    """The equations of a normalised text, in their order.

    In a run of equalities each calculation has the next number as its result. Where the next side is itself
    a calculation, the number or quotient at its beginning is the result if it is right (`5 + 3 = 8 - 2 = 6`);
    otherwise that side is the same calculation once more, and is no equation of its own
    (`4 * 2 * 2 = 8 * 2 = 16`). A quotient of two numbers is a result where nothing follows it
    (`1/2 + 1/4 = 3/4`), and otherwise the same calculation once more (`1/2 + 1/4 = 3/4 = 0.75`).
    """
    found = []
    for run in EQUALITIES.finditer(text):
        sides = list(re.finditer("[^=]+", run[0]))
        place = 0
        while place < len(sides) - 1:
            side, expression = sides[place], sides[place][0].strip()
            place += 1
            if not _is_calculation(expression):
                continue
            while place < len(sides) - 1 and _result_within(sides[place], expression) is None:
                place += 1
            is_last = place == len(sides) - 1
            result = _last_result(sides[place]) if is_last else _result_within(sides[place], expression)
            if result is not None:
                begin, end = (run.start() + at for at in (side.start(), result.end))
                found.append(Equation(expression, result.text, begin, end))
    return found


class _Result(NamedTuple):
    """What a side of a run of equalities gives as the result of an expression."""

    text: str
    end: int
    """where it ends in the run"""


def _last_result(side: re.Match[str]) -> _Result | None:
    """The result in the last side of a run: its quotient of two numbers, or its first number."""
    fraction = _plain_fraction(side[0])
    if fraction is None:
        return _first_number(side)
    *_, last = DIVISOR.finditer(side.string, *side.span())
    return _Result(fraction, last.end())


def _result_within(side: re.Match[str], expression: str) -> _Result | None:
    """The result in a side that others follow; None if the side is the same calculation once more."""
    first = _first_number(side)
    if first is None or not _is_calculation(side[0]):
        return first
    quotient = LEADING_QUOTIENT.match(side.string, *side.span())
    if quotient is not None:
        text = _bare(quotient[0])
        value = value_of(text)
        if value is not None and value == value_of(expression):
            return None if _plain_fraction(side[0]) else _Result(text, quotient.end())
    return first if is_result(first.text, expression) else None


def _first_number(side: re.Match[str]) -> _Result | None:
    first = FIRST_NUMBER.search(side.string, *side.span())
    return None if first is None else _Result(_bare(first[0]), first.end())


def _plain_fraction(text: str) -> str | None:
    """A quotient of two numbers, or a mixed number, without spaces and units; None for any other text."""
    plain = _compact(text)
    if len(NUMBER.findall(plain)) < len(NUMBER.findall(text)):
        return None  # numbers that only words or spaces separate
    for spelling in (plain, re.sub("[()]", "", plain)):
        if FRACTION_RESULT.fullmatch(spelling):
            return spelling
    return None


def _bare(number_text: str) -> str:
    return re.sub(r"[$(\[\s]", "", number_text)


def _is_calculation(side: str) -> bool:
    """Whether a side of an equality has more than one number."""
    return len(NUMBER.findall(side)) > 1


def canonical(expression: str) -> str:
    """An expression of a normalised text without units, currencies and spaces, with numbers by value."""
    return NUMBER.sub(lambda match: str(number(match[0])), OPERATOR.sub(_operator, _compact(expression)))


def _compact(expression: str) -> str:
    """A normalised expression without units, currencies and spaces."""
    return re.sub(r"[\s$]", "", _without_units(expression))


def operators(text: str) -> Counter[str]:
    """The operators of a normalised text, each with how often it occurs; `x` is `*`."""
    return Counter(map(_operator, OPERATOR.finditer(UNIT.sub("", text))))


def _operator(match: re.Match[str]) -> str:
    return "*" if match[0] == "x" else match[0]


def _without_units(expression: str) -> str:
    """A normalised expression without units, in round brackets alone."""
    return UNIT.sub("", expression.replace("[", "(").replace("]", ")"))


def value_of(expression: str) -> Fraction | None:
    """The value of sums and products of numbers; None for any other text, and for a division by 0.

    Words and currencies are skipped, and `x` is `*`. Before any other operation, a percent sign divides the
    number or bracket before it by 100.

    Example:
        >>> value_of("$1,200 + 3 x 50%")
        Fraction(2403, 2)
    """
    text = _without_units(normalise(expression))
    try:
        return _value(ast.parse("".join(map(_python, TOKEN.findall(text))), mode="eval").body)
    except (SyntaxError, ZeroDivisionError):  # no expression, such as one bracket alone, or no value
        return None


def _python(token: str) -> str:
    """A token in Python; a percent sign is an attribute, since those bind before all operators."""
    if token[0].isdigit():
        return token.replace(",", "").lstrip("0") or "0"
    return {"x": "*", "%": " .percent"}.get(token, token)


def result_value(text: str) -> Fraction | None:
    """The value of a text that is one number or one quotient of two numbers; None for any other text.

    Example:
        >>> result_value("$3/4"), result_value("0.75"), result_value("3 and 4")
        (Fraction(3, 4), Fraction(3, 4), None)
    """
    plain = normalise(text)
    fraction = _plain_fraction(plain)
    if fraction is not None:
        return value_of(fraction)
    match = None if _is_calculation(plain) else SIGNED.fullmatch(_compact(plain))
    return None if match is None else signed_value(match)


def is_result(answer: str, expression: str) -> bool | None:
    """Whether a number is the value of an expression, rounded to the digits that the number has.

    A quotient of two numbers is not rounded.

    Returns:
        None where either has no value.
    """
    value, stated = value_of(expression), value_of(answer)
    if value is None or stated is None:
        return None
    if _is_calculation(normalise(answer)):
        return value == stated
    _, _, digits = answer.rstrip("% ").partition(".")
    half_unit = Fraction(1, 2 * 10 ** len(digits.strip())) / (100 if answer.rstrip().endswith("%") else 1)
    return value == stated or (value.denominator > 1 and abs(value - stated) <= half_unit)


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.Attribute):  # the percent sign
        return _value(node.value) / 100
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise SyntaxError(f"{type(node).__name__} is no sum or product of numbers")
