"""Equality of sets of real numbers: intervals, unions, conditions and explicit sets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

from s2t_eval.evaluation.grading.equivalence.equations import RELATION, RELATIONS, REVERSED_RELATION
from s2t_eval.evaluation.grading.equivalence.numeric import equal_values
from s2t_eval.evaluation.grading.equivalence.parsing import parse_expression
from s2t_eval.evaluation.grading.equivalence.structure import (
    CONJUNCTION,
    parse_group,
    split_top_level,
    strip_outer_brackets,
)

SET_NOTATION = re.compile(
    r"\\(?:cup|cap|infty|setminus|emptyset|le|ge|ne|in)(?![a-zA-Z])|\\mathbb\{|[<>]|\\\{.*(?:[:|]|\\colon).*\\\}"
    r"|^\s*\]|\[\s*$|\\text\{all real"
)
BUILDER = re.compile(r"\\\{(?P<name>[^:|]*?)\s*(?::|\||\\colon)\s*(?P<condition>.*)\\\}")
ALL_REALS = re.compile(
    r"(?i)\\mathbb\{R\}|\\text\{(?:all|the set of(?: all)?|any)? ?reals?(?: numbers?)?\s*\.?\s*\}"
    r"|all real numbers"
)
INTERVAL = re.compile(r"(?P<begin>[\][(])(?P<left>[^,;\][]*)[,;](?P<right>[^,;\][]*)(?P<end>[\][)])")


@dataclass(frozen=True)
class RealSet:
    """A set of reals, and the variable that ranges over it; None if no variable is named."""

    values: Any
    name: str | None


def looks_like_set(text: str) -> bool:
    """Whether a normal form contains set notation or a relation, in contrast to a tuple."""
    return SET_NOTATION.search(text) is not None


def equivalent_sets(gold: str, answer: str) -> bool | None:
    """Return whether two sets of reals are equal; None if one of them is not parsable as such a set."""
    gold_set = parse_real_set(gold)
    answer_set = parse_real_set(answer) if gold_set is not None else None
    if gold_set is None or answer_set is None:
        return None
    if gold_set.name and answer_set.name and gold_set.name != answer_set.name:
        return False
    return _equal_pieces(_pieces(gold_set.values), _pieces(answer_set.values))


def parse_real_set(text: str) -> RealSet | None:
    """Parse an interval, a union, a condition or `x \\in …`; None if it is none of these."""
    text = strip_outer_brackets(text)
    text = re.sub(r",?\s*\\text\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])", r"\\cup ", text)
    for separator, operation in (("\\cup", sympy.Union), ("\\cap", sympy.Intersection)):
        parts = split_top_level(text, (separator,))
        if len(parts) > 1:
            return _combine([parse_real_set(part) for part in parts], operation)
    membership = re.fullmatch(r"(?P<name>\\?[a-zA-Z]+)\s*\\in(?![a-z])\s*(?P<set>.+)", text)
    if membership:
        inner = parse_real_set(membership["set"])
        return RealSet(inner.values, membership["name"]) if inner else None
    parts = split_top_level(CONJUNCTION.sub(",", text))
    if len(parts) > 1 and all(_has_relation(part) for part in parts):
        return _combine_conditions(parts)
    return _parse_condition(text) if _has_relation(text) and "\\{" not in text else _parse_plain_set(text)


def _has_relation(text: str) -> bool:
    return len(split_top_level(text, RELATIONS)) > 1 or "\\ne" in text


def _combine(parts: list[RealSet | None], operation: Any) -> RealSet | None:
    sets = [part for part in parts if part is not None]
    names = {part.name for part in sets if part.name}
    if len(sets) < len(parts) or len(names) > 1:
        return None
    return RealSet(operation(*(part.values for part in sets)), next(iter(names), None))


def _combine_conditions(parts: list[str]) -> RealSet | None:
    """The intersection of listed conditions; if it is empty, the conditions are alternatives."""
    sets = [_parse_condition(part) for part in parts]
    together = _combine(sets, sympy.Intersection)
    if together is not None and together.values == sympy.S.EmptySet:
        return _combine(sets, sympy.Union)
    return together


def _parse_condition(text: str) -> RealSet | None:
    """Parse `1 < x \\le 2`, `x \\ne 3` or an inequality in one variable."""
    terms = split_top_level(text, RELATIONS)
    signs = RELATION.findall(text)
    if len(terms) != len(signs) + 1:
        return None
    sides = [parse_expression(term) for term in terms]
    if not all(isinstance(side, sympy.Expr) for side in sides):
        return None
    symbols = set().union(*(side.free_symbols for side in sides))  # type: ignore[union-attr]
    if len(symbols) != 1:
        return None
    symbol = symbols.pop()
    solutions: Any = sympy.S.Reals
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        solution = _solve_relation(left, sign, right, symbol)
        if solution is None:
            return None
        solutions = sympy.Intersection(solutions, solution)
    return RealSet(solutions, str(symbol))


def _solve_relation(left: Any, sign: str, right: Any, symbol: Any) -> Any | None:
    if left == symbol and not right.free_symbols:
        return _ray(sign, right)
    if right == symbol and not left.free_symbols:
        return _ray(REVERSED_RELATION[sign], left)
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


def _parse_plain_set(text: str) -> RealSet | None:
    if ALL_REALS.fullmatch(text):
        return RealSet(sympy.S.Reals, None)
    if text == "\\emptyset" or re.fullmatch(r"\\text\{(?:no solutions?|none|empty set)\}", text):
        return RealSet(sympy.S.EmptySet, None)
    difference = split_top_level(
        re.sub(r"^\\mathbb\{R\}\s*-", r"\\mathbb{R}\\setminus ", text), ("\\setminus",)
    )
    if len(difference) == 2:
        whole, part = parse_real_set(difference[0]), parse_real_set(difference[1])
        return RealSet(sympy.Complement(whole.values, part.values), None) if whole and part else None
    if (builder := BUILDER.fullmatch(text)) is not None:
        name = re.sub(r"\\in(?![a-z]).*", "", builder["name"]).strip()
        inner = parse_real_set(builder["condition"])
        return inner if inner and inner.name in (None, name.lstrip("\\")) else None
    group = parse_group(text)
    if group is not None and group.begin == "\\{":
        values = [parse_expression(item) for item in group.items]
        numbers = [value for value in values if isinstance(value, sympy.Expr) and not value.free_symbols]
        return RealSet(sympy.FiniteSet(*numbers), None) if len(numbers) == len(values) else None
    return _parse_interval(text)


def _parse_interval(text: str) -> RealSet | None:
    """Parse an interval in the notation `(a, b]` or `]a, b]`."""
    match = INTERVAL.fullmatch(text)
    if match is None:
        return None
    ends = [
        parse_expression(match["left"].replace("+\\infty", "\\infty")),
        parse_expression(match["right"].replace("+\\infty", "\\infty")),
    ]
    if not all(isinstance(end, sympy.Expr) and not end.free_symbols and end.is_extended_real for end in ends):
        return None
    try:
        return RealSet(sympy.Interval(*ends, match["begin"] in "(]", match["end"] in ")["), None)
    except (TypeError, ValueError):
        return None


def _pieces(values: Any) -> list[tuple[Any, Any, bool, bool]] | None:
    """The intervals and points of a set in ascending order; None for any other set."""
    parts = values.args if isinstance(values, sympy.Union) else [values]
    pieces = []
    for part in parts:
        if part == sympy.S.Reals:
            part = sympy.Interval(-sympy.oo, sympy.oo)
        if isinstance(part, sympy.Interval):
            pieces.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, sympy.FiniteSet):
            pieces.extend((point, point, False, False) for point in part.args)
        elif part != sympy.S.EmptySet:
            return None
    return sorted(pieces, key=lambda piece: (float(piece[0]), float(piece[1])))


def _equal_pieces(gold: Any, answer: Any) -> bool | None:
    if gold is None or answer is None:
        return None
    return len(gold) == len(answer) and all(
        first[2:] == second[2:] and equal_values(first[0], second[0]) and equal_values(first[1], second[1])
        for first, second in zip(gold, answer, strict=True)
    )
