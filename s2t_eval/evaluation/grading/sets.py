"""Sets of real numbers, as intervals, unions, conditions or in braces, compared by what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

from s2t_eval.evaluation.grading.equations import FLIPPED, ORDER, ORDERS
from s2t_eval.evaluation.grading.identity import equal
from s2t_eval.evaluation.grading.latex import AND, group_of, split, without_braces
from s2t_eval.evaluation.grading.values import read

SET = re.compile(
    r"\\(?:cup|cap|infty|setminus|emptyset|le|ge|ne|in)(?![a-zA-Z])|\\mathbb\{|[<>]|\\\{.*(?:[:|]|\\colon).*\\\}"
    r"|^\s*\]|\[\s*$|\\text\{all real"
)
BUILDER = re.compile(r"\\\{(?P<name>[^:|]*?)\s*(?::|\||\\colon)\s*(?P<condition>.*)\\\}")
ALL_REALS = re.compile(
    r"(?i)\\mathbb\{R\}|\\text\{(?:all|the set of(?: all)?|any)? ?reals?(?: numbers?)?\s*\.?\s*\}"
    r"|all real numbers"
)
FRENCH = re.compile(r"(?P<begin>[\][(])(?P<left>[^,;\][]*)[,;](?P<right>[^,;\][]*)(?P<end>[\][)])")


@dataclass(frozen=True)
class RealSet:
    """A set of reals and the name of the variable that was said to be in it."""

    values: Any
    name: str | None


def looks_like_set(text: str) -> bool:
    """Whether a normal form says by its signs that it is a set or a condition, not a tuple."""
    return SET.search(text) is not None


def same_set(gold: str, answer: str) -> bool | None:
    """Whether two sets of reals are equal; None where one of them cannot be read as such."""
    first = real_set(gold)
    second = real_set(answer) if first is not None else None
    if first is None or second is None:
        return None
    if first.name and second.name and first.name != second.name:
        return False
    return _pieces_agree(_pieces(first.values), _pieces(second.values))


def real_set(text: str) -> RealSet | None:
    """An interval, a union, a condition or `x \\in …` as a set of reals."""
    text = without_braces(text)
    text = re.sub(r",?\s*\\text\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])", r"\\cup ", text)
    for separator, join in (("\\cup", sympy.Union), ("\\cap", sympy.Intersection)):
        parts = split(text, (separator,))
        if len(parts) > 1:
            return _joined([real_set(part) for part in parts], join)
    membership = re.fullmatch(r"(?P<name>\\?[a-zA-Z]+)\s*\\in(?![a-z])\s*(?P<set>.+)", text)
    if membership:
        inner = real_set(membership["set"])
        return RealSet(inner.values, membership["name"]) if inner else None
    parts = split(AND.sub(",", text))
    if len(parts) > 1 and all(_has_order(part) for part in parts):
        return _conditions(parts)
    return _condition(text) if _has_order(text) and "\\{" not in text else _plain_set(text)


def _has_order(text: str) -> bool:
    return len(split(text, ORDERS)) > 1 or "\\ne" in text


def _joined(parts: list[RealSet | None], join: Any) -> RealSet | None:
    sets = [part for part in parts if part is not None]
    names = {part.name for part in sets if part.name}
    if len(sets) < len(parts) or len(names) > 1:
        return None
    return RealSet(join(*(part.values for part in sets)), next(iter(names), None))


def _conditions(parts: list[str]) -> RealSet | None:
    """Conditions in a list hold together; where they cannot, each is a case."""
    sets = [_condition(part) for part in parts]
    together = _joined(sets, sympy.Intersection)
    if together is not None and together.values == sympy.S.EmptySet:
        return _joined(sets, sympy.Union)
    return together


def _condition(text: str) -> RealSet | None:
    """`1 < x \\le 2`, `x \\ne 3` or an inequality in one variable."""
    terms = split(text, ORDERS)
    signs = ORDER.findall(text)
    if len(terms) != len(signs) + 1:
        return None
    sides = [read(term) for term in terms]
    if not all(isinstance(side, sympy.Expr) for side in sides):
        return None
    symbols = set().union(*(side.free_symbols for side in sides))  # type: ignore[union-attr]
    if len(symbols) != 1:
        return None
    symbol = symbols.pop()
    found: Any = sympy.S.Reals
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        solution = _solution(left, sign, right, symbol)
        if solution is None:
            return None
        found = sympy.Intersection(found, solution)
    return RealSet(found, str(symbol))


def _solution(left: Any, sign: str, right: Any, symbol: Any) -> Any | None:
    if left == symbol and not right.free_symbols:
        return _ray(sign, right)
    if right == symbol and not left.free_symbols:
        return _ray(FLIPPED[sign], left)
    relation = {"<": sympy.Lt, ">": sympy.Gt, "\\le": sympy.Le, "\\ge": sympy.Ge, "\\ne": sympy.Ne}[sign]
    try:
        return sympy.solve_univariate_inequality(relation(left, right), symbol, relational=False)
    except (NotImplementedError, ValueError, TypeError):
        return None


def _ray(sign: str, end: Any) -> Any:
    if sign == "\\ne":
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(end))
    if sign in ("<", "\\le"):
        return sympy.Interval(-sympy.oo, end, True, sign == "<")
    return sympy.Interval(end, sympy.oo, sign == ">", True)


def _plain_set(text: str) -> RealSet | None:
    if ALL_REALS.fullmatch(text):
        return RealSet(sympy.S.Reals, None)
    if text == "\\emptyset" or re.fullmatch(r"\\text\{(?:no solutions?|none|empty set)\}", text):
        return RealSet(sympy.S.EmptySet, None)
    difference = split(re.sub(r"^\\mathbb\{R\}\s*-", r"\\mathbb{R}\\setminus ", text), ("\\setminus",))
    if len(difference) == 2:
        whole, part = real_set(difference[0]), real_set(difference[1])
        return RealSet(sympy.Complement(whole.values, part.values), None) if whole and part else None
    if (builder := BUILDER.fullmatch(text)) is not None:
        name = re.sub(r"\\in(?![a-z]).*", "", builder["name"]).strip()
        inner = real_set(builder["condition"])
        return inner if inner and inner.name in (None, name.lstrip("\\")) else None
    group = group_of(text)
    if group is not None and group.begin == "\\{":
        values = [read(item) for item in group.items]
        numbers = [value for value in values if isinstance(value, sympy.Expr) and not value.free_symbols]
        return RealSet(sympy.FiniteSet(*numbers), None) if len(numbers) == len(values) else None
    return _interval(text)


def _interval(text: str) -> RealSet | None:
    """`(a, b]`, and `]a, b]` as the French write it."""
    found = FRENCH.fullmatch(text)
    if found is None:
        return None
    ends = [
        read(found["left"].replace("+\\infty", "\\infty")),
        read(found["right"].replace("+\\infty", "\\infty")),
    ]
    if not all(isinstance(end, sympy.Expr) and not end.free_symbols and end.is_extended_real for end in ends):
        return None
    try:
        return RealSet(sympy.Interval(*ends, found["begin"] in "(]", found["end"] in ")["), None)
    except (TypeError, ValueError):
        return None


def _pieces(values: Any) -> list[tuple[Any, Any, bool, bool]] | None:
    """The intervals and points of a set from left to right; None for any other set."""
    parts = values.args if isinstance(values, sympy.Union) else [values]
    found = []
    for part in parts:
        if part == sympy.S.Reals:
            part = sympy.Interval(-sympy.oo, sympy.oo)
        if isinstance(part, sympy.Interval):
            found.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, sympy.FiniteSet):
            found.extend((point, point, False, False) for point in part.args)
        elif part != sympy.S.EmptySet:
            return None
    return sorted(found, key=lambda piece: (float(piece[0]), float(piece[1])))


def _pieces_agree(gold: Any, answer: Any) -> bool | None:
    if gold is None or answer is None:
        return None
    return len(gold) == len(answer) and all(
        first[2:] == second[2:] and equal(first[0], second[0]) and equal(first[1], second[1])
        for first, second in zip(gold, answer, strict=True)
    )
