"""Whether two written answers are the same, as a careful reader would say.

Structure is compared here, because it decides: order matters in a tuple and not in a list of
solutions, an open end of an interval is not a closed one, words are words. What is left, single
expressions, is read and compared in `values.py`. Runs in `worker.py`: comparing expressions may take
for ever.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from s2t_eval.grading.latex import (
    AND,
    group_of,
    items,
    normal,
    rows_of,
    split,
    without_braces,
    without_explanation,
)
from s2t_eval.grading.relations import (
    ORDERS,
    looks_like_set,
    same_equation,
    same_inequality,
    same_set,
)
from s2t_eval.grading.units import Measured, measured
from s2t_eval.grading.values import close, equal, read
from s2t_eval.grading.words import choice, chosen, in_base, without_text, words

LONGEST = 600
"""Characters that an answer may have beyond ten times its reference: what is longer is a loop."""
NAME = re.compile(
    r"(?:\\?[a-zA-Z]+(?:_\{[^{}]*(?:\{[^{}]*\})?\s*\})?'*(?:\^\{(?:-1|\\prime)\})?"
    r"(?:\s*\(\s*\\?[a-zA-Z]+(?:\s*,\s*[a-zA-Z]+)*\s*\))?'*)"
)
THING = re.compile(r"m?\s*\\(?:angle|overline|triangle|text)(?![a-zA-Z])|\||\[[A-Z]+\]$")
"""Names of angles, lengths, areas and things in words."""
MEMBER = re.compile(r"\s*(?P<name>\\?[a-zA-Z]+)\s*\\in(?![a-z])\s*(?=\\\{)")
REMARK = re.compile(
    r"(?P<answer>.+?)\s*(?:\\text\{\s*\(\s*(?:or|i\.e\.|about|approximately|that is)?,?\s*\}"
    r"|\(\s*(?:\\text\{\s*)?(?:or|i\.e\.|about|approximately|that is|=|\\approx)\s*\}?)"
    r"\s*(?P<other>.+?)\s*(?:\)|\\text\{\s*\)\s*\})"
)
SAID = re.compile(
    r"^.*\\text\{(?![^{}]*\b(?:not|no)\b)[^{}]*\b(?:is|are|equals?|has|have|gives|be)\b(?:[^{}]*)\}\s*(?=.)",
    re.DOTALL,
)
"""`\\triangle ABC \\text{ has area } 6`: the value stands behind the sentence."""
OR = re.compile(r"\\text\{\s*,?\s*or(?: also| approximately| about)?\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])")
DECIMAL = re.compile(r"-?\d*\.(\d+)")
WRITTEN_DECIMAL = re.compile(r"\d\.\d|\.\d|\d[eE][-+]?\d|10\s*\^")


def same(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """Whether an answer is the gold answer.

    Args:
        gold: the reference, LaTeX or plain.
        answer: what was extracted.
        tolerance: relative, for gold answers that are decimal numbers.
    """
    if is_too_long(gold, answer):
        return False
    wanted, given = normal(gold), normal(answer)
    if (remark := REMARK.fullmatch(given)) is not None:
        return _same(wanted, remark["answer"], tolerance) and (
            _same(wanted, remark["other"], tolerance) or _is_rounded(remark["other"], wanted)
        )
    return any(_same(wanted, form, tolerance) for form in forms(given))


def is_too_long(gold: str, answer: str) -> bool:
    """Whether an answer is so much longer than its reference that comparing it is a waste of time."""
    return len(answer) > LONGEST + 10 * len(gold)


def forms(answer: str) -> list[str]:
    """The answer; both sides of an approximation; the answer without a reason behind it."""
    parts = [part for part in re.split(r"\\approx(?![a-z])", answer) if part.strip()]
    found = [answer] if len(parts) == 1 else parts
    found = [*found, *(without_explanation(part) for part in found)]
    return list(dict.fromkeys([*found, *(SAID.sub("", part).strip() or part for part in found)]))


def _same(gold: str, answer: str, tolerance: float) -> bool:
    gold, answer = gold.strip(), answer.strip()
    if _flat(gold) == _flat(answer):
        return True
    if (letter := choice(gold)) is not None:
        return letter == chosen(_sides(answer)[-1].strip())
    if (said := words(gold)) is not None:
        ways = (answer, _sides(answer)[-1], re.split(r"\bis\b", without_text(answer))[-1])
        return said in [words(way, is_text=True) for way in ways]
    if (based := _same_in_base(gold, answer)) is not None:
        return based
    gold, answer = (without_braces(text).strip().rstrip(" .") for text in (gold, answer))
    if looks_like_set(gold) or looks_like_set(answer):
        verdict = same_set(gold, answer)
        if verdict is not None:
            return verdict
    return _same_structure(gold, answer, tolerance)


def _flat(text: str) -> str:
    """Without spaces and text commands, but for spaces between digits: `2 2/3` is not `22/3`."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", without_text(without_braces(text)))


def _same_structure(gold: str, answer: str, tolerance: float) -> bool:
    unions, others = split(gold, ("\\cup",)), split(answer, ("\\cup",))
    if len(unions) > 1 or len(others) > 1:
        return _same_items(unions, others if len(others) > 1 else items(answer), tolerance)
    golds, answers = _listed(gold, answer)
    if len(golds) > 1 or len(answers) > 1:
        return _same_list(golds, answers, answer, tolerance)
    if golds and answers:
        gold, answer = golds[0], answers[0]
    if len(split(gold, ORDERS)) > 1 and len(split(answer, ORDERS)) > 1:
        return same_inequality(gold, answer)
    if len(_sides(gold)) > 1 or len(_sides(answer)) > 1:
        return _same_sides(gold, answer, tolerance)
    rows, other_rows = rows_of(gold), rows_of(answer)
    if rows is not None or other_rows is not None:
        return _same_rows(rows or _column(gold), other_rows or _column(answer), tolerance)
    return _same_group(gold, answer, tolerance)


# ---------------------------------------------------------------- lists


def _listed(gold: str, answer: str) -> tuple[list[str], list[str]]:
    """The items of both, where one long number with commas is no list."""
    golds = [gold] if _is_grouped(gold) else items(_without_member(gold))
    spaced = re.sub(r"(?<=\d),\s+(?=\d{3}(?!\d))", ",", answer)
    if len(golds) == 1 and _is_grouped(spaced):
        return golds, [spaced]
    return golds, [answer] if _is_grouped(answer) else items(_without_member(answer))


def _is_grouped(text: str) -> bool:
    """Whether the commas of a text all group the digits of one number."""
    found = re.findall(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", text)
    return len(found) == 1 and len(split(re.sub(r"(?<=\d),(?=\d{3})", "", text))) == 1 and "(" not in text


def _without_member(text: str) -> str:
    """`x \\in \\{1, 2\\}` and `S = \\{1, 2\\}` are the set."""
    member = MEMBER.match(text)
    sides = _sides(text)
    if member is None and len(sides) == 2 and (group := group_of(sides[1])) and group.begin == "\\{":
        return sides[1] if NAME.fullmatch(sides[0].strip()) else text
    return text[member.end() :] if member else text


def _same_list(golds: list[str], answers: list[str], answer: str, tolerance: float) -> bool:
    if len(golds) == 1:
        if OR.search(answer) and not any(
            "=" in item for item in answers
        ):  # `3/4 or 0.75` is one number twice
            return any(_same(golds[0], item, tolerance) for item in answers) and all(
                _same(golds[0], item, tolerance) or _is_rounded(item, golds[0]) for item in answers
            )
        return _same_named_tuple(golds[0], answers, tolerance)
    if len(answers) == 1:
        return _same_named_tuple(answers[0], golds, tolerance)
    return _same_items(_unnamed(golds), _unnamed(answers), tolerance)


def _unnamed(listed: list[str]) -> list[str]:
    """`x = 1, 2, 3` names its first item alone; the name is that of all."""
    sides = _sides(listed[0])
    if len(sides) == 2 and NAME.fullmatch(sides[0].strip()) and not any("=" in item for item in listed[1:]):
        return [sides[1].strip(), *listed[1:]]
    return listed


def _same_items(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """Whether each item has its equal, in any order."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        match = next((item for item in left if _same(gold, item, tolerance)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_named_tuple(whole: str, named: list[str], tolerance: float) -> bool:
    """`x = 1, y = 2` is the pair (1, 2): names in the order of the alphabet."""
    group = group_of(whole)
    sides = [_sides(item) for item in named]
    names = [side[0].strip() for side in sides]
    if group is None or group.begin not in ("(", "\\langle") or len(group.items) != len(named):
        return False
    if any(len(side) != 2 or NAME.fullmatch(side[0].strip()) is None for side in sides) or len(
        set(names)
    ) < len(names):
        return False
    values = [side[1] for side in sorted(sides, key=lambda side: side[0].strip(" \\").casefold())]
    return all(_same(item, value, tolerance) for item, value in zip(group.items, values, strict=True))


# ---------------------------------------------------------------- equals signs


def _sides(text: str) -> list[str]:
    """What stands between equals signs outside brackets: `\\sum_{k=1}^{n} k` has one side."""
    return split(text, ("=",)) or [text]


def _same_sides(gold: str, answer: str, tolerance: float) -> bool:
    """`x = 5` is 5 and not `y = 5`; an equation is itself however it is moved about."""
    mine, theirs = (_sides(text) for text in (gold, answer))
    is_named = len(mine) > 1 and (NAME.fullmatch(mine[0]) or THING.match(mine[0])) is not None
    if len(mine) == 1:
        return _same_chain(gold, theirs, tolerance)
    if len(theirs) == 1:
        return is_named and _same(mine[-1], answer, tolerance)
    if is_named and _flat(mine[0]) == _flat(theirs[0]):
        return _same(mine[-1], theirs[-1], tolerance)
    if is_named and (words(theirs[0]) is not None or not _is_symbolic(theirs[0])):
        return _same(mine[-1], theirs[-1], tolerance) or same_equation(gold, answer)
    return same_equation(gold, answer)


def _is_symbolic(side: str) -> bool:
    """Whether a side is mathematics, not the name of a thing: `\\angle ABC`."""
    return read(side) is not None


def _same_chain(gold: str, sides: list[str], tolerance: float) -> bool:
    """A chain gives its last value, or its first where the last is a name or a rounding of it."""
    first, last = sides[0], sides[-1]
    if _same(gold, last, tolerance):
        return True
    if NAME.fullmatch(last) and not re.fullmatch(r"\\?(?:pi|e|i|infty)", last):
        return len(sides) == 2 and _same(gold, first, tolerance)
    return _is_rounded(last, gold) and any(_same(gold, side, tolerance) for side in sides[:-1])


def _is_rounded(text: str, exact: str) -> bool:
    """Whether a decimal number is another value cut or rounded to its digits."""
    import sympy

    decimal = DECIMAL.fullmatch(measured(text).value.rstrip(" ."))
    value = read(measured(exact).value)
    if decimal is None or not isinstance(value, sympy.Expr) or value.free_symbols:
        return False
    written, unit = sympy.Rational(decimal[0].strip()), sympy.Rational(1, 10 ** len(decimal[1]))
    distance = abs(written - value).evalf()
    if not distance.is_number or not distance.is_real:
        return False
    return bool(distance <= unit / 2 or (distance < unit and abs(written) < abs(value)))


# ---------------------------------------------------------------- brackets, bases, values


def _same_in_base(gold: str, answer: str) -> bool | None:
    """`40_9` is written `40` where the problem names the base, and never 36."""
    wanted = in_base(gold)
    given = in_base(answer) or in_base(_sides(answer)[-1])
    if wanted is None:
        return given is not None and re.sub(r"\s", "", gold) == given[0] if given else None
    bare = re.sub(r"\s|\\text|[{}()]", "", _sides(answer)[-1])
    return wanted == given if given else wanted[0] == bare.upper()


def _column(text: str) -> list[list[str]] | None:
    """A vector written as a tuple."""
    if (pair := re.fullmatch(r"\\binom\{([^{}]*)\}\{([^{}]*)\}", text)) is not None:
        return [[pair[1]], [pair[2]]]
    group = group_of(text)
    if group is None or group.begin not in ("(", "\\langle") or len(group.items) < 2:
        return None
    return [[item] for item in group.items]


def _same_rows(rows: list[list[str]] | None, others: list[list[str]] | None, tolerance: float) -> bool:
    if rows is None or others is None or [len(row) for row in rows] != [len(row) for row in others]:
        return False
    return all(_same(a, b, tolerance) for a, b in zip(chain(*rows), chain(*others), strict=True))


def _same_group(gold: str, answer: str, tolerance: float) -> bool:
    group, other = group_of(gold), group_of(answer)
    if group is not None and other is not None and max(len(group.items), len(other.items)) > 1:
        kinds = [(g.begin.replace("\\langle", "("), g.end.replace("\\rangle", ")")) for g in (group, other)]
        return (
            kinds[0] == kinds[1]
            and len(group.items) == len(other.items)
            and all(_same(a, b, tolerance) for a, b in zip(group.items, other.items, strict=True))
        )
    parts, others = split(gold, (":",)), split(answer, (":",))
    if len(parts) > 1 or len(others) > 1:
        return _same_ratio(parts, others, tolerance)
    return _same_value(gold, answer, tolerance)


def _same_ratio(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """A ratio or a time of day, part by part."""
    if len(golds) == len(answers):
        return all(_same(gold, answer, tolerance) for gold, answer in zip(golds, answers, strict=True))
    pair, single = (golds, answers) if len(golds) == 2 else (answers, golds)
    if (len(pair), len(single)) != (2, 1) or re.fullmatch(r"\d\d", pair[1]):
        return False  # a time of day is no fraction
    return _same(f"\\frac{{{pair[0]}}}{{{pair[1]}}}", single[0], tolerance)


def _same_value(gold: str, answer: str, tolerance: float) -> bool:
    wanted = measured(gold)
    value = read(wanted.value.lstrip("+ "))
    if value is None:
        return False
    given = measured(answer, is_lettered=bool(getattr(value, "free_symbols", True)))
    other = read(given.value.lstrip("+ "))
    if other is None or not _compatible(wanted.kind, given.kind):
        return False
    if any(
        _same_number(value, number, gold, tolerance) for number in _in_units_of(wanted, given, value, other)
    ):
        return True
    if re.search(r"\\log(?!\s*_)", gold + answer):  # of base ten or e: the problem says which
        natural = [re.sub(r"\\log(?!\s*_)(?![a-z])", r"\\ln", text) for text in (gold, answer)]
        return natural != [gold, answer] and _same_value(*natural, tolerance)
    return False


def _compatible(kind: str | None, other: str | None) -> bool:
    return not (kind and other) or kind == other or {kind, other} == {"degree", "radian"}


def _in_units_of(wanted: Measured, given: Measured, value: Any, other: Any) -> list[Any]:
    """What the answer may mean, in the gold answer's unit."""
    import sympy

    other = other * sympy.Rational(given.times, wanted.times) if given.times != wanted.times else other
    if wanted.kind == given.kind:
        factor = given.scale / wanted.scale
        return [other * sympy.Rational(factor.numerator, factor.denominator)] if factor != 1 else [other]
    if "degree" in (wanted.kind, given.kind) and (other if wanted.kind == "degree" else value).has(sympy.pi):
        return [other, other * 180 / sympy.pi if wanted.kind == "degree" else other * sympy.pi / 180]
    if "percent" not in (wanted.kind, given.kind):
        return [other]
    return [other, other * 100 if wanted.kind else other / 100]


def _same_number(gold: Any, answer: Any, written: str, tolerance: float) -> bool:
    if equal(gold, answer, is_positive=tolerance > 0):  # quantities of physics are positive
        return True
    return tolerance > 0 and WRITTEN_DECIMAL.search(written) is not None and close(gold, answer, tolerance)


__all__ = ["AND", "forms", "same"]
