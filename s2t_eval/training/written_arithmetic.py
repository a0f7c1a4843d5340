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
TOKEN = re.compile(rf"{NUMBER.pattern}|{OPERATOR.pattern}|[()%]")
NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
    if value != 1  # it is a pronoun too
} | {"twice": 2, "double": 2, "triple": 3}
NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(NUMBER_WORDS)})\b")
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
    sides = (side.strip() for side in match.groups())
    return "/".join(side if NUMBER.fullmatch(side) else f"({side})" for side in sides)


def numbers(text: str) -> Counter[Fraction]:
    """The numbers of a normalised text by value, each with how often it occurs.

    A sign and a percent sign belong to the value. Numbers up to twenty may be words, but for "one".

    Example:
        >>> sorted(numbers("two of -3, and 50%"))
        [Fraction(-3, 1), Fraction(1, 2), Fraction(2, 1)]
    """
    counts = Counter(Fraction(NUMBER_WORDS[word]) for word in NUMBER_WORD.findall(text))
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
    """the number that it is said to be, with its sign and percent sign"""
    begin: int
    """where the expression begins"""
    end: int
    """where the result ends"""


def equations(text: str) -> list[Equation]:
    """The equations of a normalised text, in their order.

    In a run of equalities each calculation has the next number as its result. Where the next side is itself
    a calculation, its first number is the result if it is right (`5 + 3 = 8 - 2 = 6`); otherwise that side
    is the same calculation once more, and is no equation of its own (`4 * 2 * 2 = 8 * 2 = 16`).
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
            while place < len(sides) - 1 and not _begins_with_result(sides[place][0], expression):
                place += 1
            result = FIRST_NUMBER.search(run[0], sides[place].start())
            if result is not None:
                stated = re.sub(r"[$(\[\s]", "", result[0])
                begin, end = (run.start() + at for at in (side.start(), result.end()))
                found.append(Equation(expression, stated, begin, end))
    return found


def _begins_with_result(side: str, expression: str) -> bool:
    """Whether a side of an equality gives the result of an expression: it is a number, or begins with it."""
    first = FIRST_NUMBER.search(side)
    return first is not None and (not _is_calculation(side) or is_result(first[0], expression) is True)


def _is_calculation(side: str) -> bool:
    """Whether a side of an equality has more than one number."""
    return len(NUMBER.findall(side)) > 1


def canonical(expression: str) -> str:
    """An expression of a normalised text without units, currencies and spaces, with numbers by value."""
    plain = re.sub(r"[\s$]", "", _without_units(expression))
    return NUMBER.sub(lambda match: str(number(match[0])), OPERATOR.sub(_operator, plain))


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

    Words, currencies and brackets are skipped, `x` is `*`, and a percent sign divides by 100.

    Example:
        >>> value_of("$1,200 + 3 x 50%")
        Fraction(2403, 2)
    """
    text = _without_units(normalise(expression))
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
    value, stated = value_of(expression), value_of(answer)
    if value is None or stated is None:
        return None
    _, _, digits = answer.rstrip("% ").partition(".")
    half_unit = Fraction(1, 2 * 10 ** len(digits.strip())) / (100 if answer.rstrip().endswith("%") else 1)
    return value == stated or (value.denominator > 1 and abs(value - stated) <= half_unit)


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise SyntaxError(f"{type(node).__name__} is no sum or product of numbers")
