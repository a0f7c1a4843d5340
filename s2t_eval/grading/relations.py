"""Equations, inequalities and sets of real numbers, compared by their solutions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from s2t_eval.grading.latex import AND, group_of, split, without_braces
from s2t_eval.grading.values import POINTS, equal, read

ORDERS = ("<", ">", "\\le", "\\ge", "\\ne")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
SET = re.compile(
    r"\\(?:cup|cap|infty|setminus|emptyset|le|ge|ne|in)(?![a-zA-Z])|\\mathbb\{|[<>]|\\\{.*(?:[:|]|\\colon).*\\\}"
    r"|^\s*\]|\[\s*$|\\text\{all real"
)
BUILDER = re.compile(r"\\\{(?P<name>[^:|]*?)\s*(?::|\||\\colon)\s*(?P<condition>.*)\\\}")
ALL_REALS = re.compile(
    r"\\mathbb\{R\}|\\text\{(?:all|the set of(?: all)?|any)? ?reals?(?: numbers?)?\}|all real numbers"
)
FRENCH = re.compile(r"(?P<begin>[\][(])(?P<left>[^,;\][]*)[,;](?P<right>[^,;\][]*)(?P<end>[\][)])")


# ---------------------------------------------------------------- equations


def same_equation(gold: str, answer: str) -> bool:
    """Whether two equations have the same solutions: one is the other, moved about.

    Both sides are brought to one, over one denominator; then one has to be a constant times the
    other. So an equation may be solved for another of its names, and `xy = 0` is not `x = 0`.
    """
    is_bare = any(re.search(r"'|\\prime|\\d?dot", text) for text in (gold, answer))
    first, second = _one_side(gold, is_bare), _one_side(answer, is_bare)
    if first is None or second is None or first.free_symbols != second.free_symbols:
        return False
    return _is_constant_ratio(first, second) or _same_solved(first, second)


def _one_side(text: str, is_bare: bool) -> Any | None:
    """The numerator of left minus right."""
    import sympy

    sides = split(text, ("=",))
    left, right = read(sides[0], is_bare), read(sides[-1], is_bare)
    if len(sides) < 2 or not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    numerator = sympy.fraction(sympy.together((left - right).doit()))[0]
    return numerator if numerator.free_symbols else None


def _same_solved(first: Any, second: Any) -> bool:
    """Whether both have the same one solution for a name: `\\ln y = 2x` and `y = e^{2x}`."""
    import sympy

    if not (first.has(sympy.exp, sympy.log) or second.has(sympy.exp, sympy.log)):
        return False
    for symbol in first.free_symbols:
        for side, other in ((first, second), (second, first)):
            slope = side.diff(symbol)
            if not slope.is_number or slope.is_zero:
                continue
            try:
                solutions = sympy.solve(other, symbol)
            except NotImplementedError:
                continue
            return len(solutions) == 1 and equal(symbol - side / slope, solutions[0])
    return False


def _is_constant_ratio(first: Any, second: Any, is_positive: bool = False) -> bool:
    """Whether one is a constant, not zero, times the other: their ratio is the same at every point tried."""
    import sympy

    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    ratios = []
    for turn in range(len(POINTS)):
        values = [sympy.Rational(POINTS[(turn + 2 * place) % 5]) + place for place in range(len(symbols))]
        ratio = (first / second).subs(dict(zip(symbols, values, strict=True))).evalf(30)
        if ratio.is_number and ratio.is_finite:
            ratios.append(ratio)
    if len(ratios) < 3 or ratios[0].is_zero is not False:
        return False
    if is_positive and ratios[0].is_positive is not True:
        return False
    return all(abs(ratio - ratios[0]) <= abs(ratios[0]) * sympy.Float("1e-18") for ratio in ratios)


# ---------------------------------------------------------------- sets


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
    import sympy

    text = without_braces(text)
    for separator, join in (
        ("\\text{or}", sympy.Union),
        ("\\cup", sympy.Union),
        ("\\cap", sympy.Intersection),
    ):
        parts = split(re.sub(r",?\s*\\text\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])", r"\\cup ", text)
                      if separator == "\\text{or}" else text, ("\\cup" if separator == "\\text{or}" else separator,))  # fmt: skip
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
    import sympy

    sets = [_condition(part) for part in parts]
    together = _joined(sets, sympy.Intersection)
    if together is not None and together.values == sympy.S.EmptySet:
        return _joined(sets, sympy.Union)
    return together


def _condition(text: str) -> RealSet | None:
    """`1 < x \\le 2`, `x \\ne 3` or an inequality in one variable."""
    import sympy

    terms = split(text, ORDERS)
    signs = re.findall(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])", text)
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
    import sympy

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
    import sympy

    if sign == "\\ne":
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(end))
    if sign in ("<", "\\le"):
        return sympy.Interval(-sympy.oo, end, True, sign == "<")
    return sympy.Interval(end, sympy.oo, sign == ">", True)


def _plain_set(text: str) -> RealSet | None:
    import sympy

    if ALL_REALS.fullmatch(text):
        return RealSet(sympy.S.Reals, None)
    if text == "\\emptyset" or re.fullmatch(r"\\text\{(?:no solutions?|none|empty set)\}", text):
        return RealSet(sympy.S.EmptySet, None)
    difference = split(text, ("\\setminus",))
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
    import sympy

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
    import sympy

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


def same_inequality(gold: str, answer: str) -> bool:
    """Whether two inequalities in several variables are the same one, moved about."""
    import sympy

    sides = []
    for text in (gold, answer):
        terms = split(text, ORDERS)
        signs = re.findall(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])", text)
        values = [read(term) for term in terms]
        if len(terms) != 2 or len(signs) != 1 or not all(isinstance(value, sympy.Expr) for value in values):
            return False
        difference = values[0] - values[1]
        sign = signs[0]
        if sign in (">", "\\ge"):
            difference, sign = -difference, FLIPPED[sign]
        sides.append((difference, sign))
    (first, sign), (second, other) = sides
    return sign == other and _is_constant_ratio(first, second, is_positive=sign != "\\ne")
