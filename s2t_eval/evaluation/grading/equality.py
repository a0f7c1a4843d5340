"""Whether two written answers are the same, as a careful reader would say.

Structure is compared here, because it decides: order matters in a tuple and not in a list of
solutions, an open end of an interval is not a closed one, words are words. What is left, single
expressions, is read in `values.py` and compared in `identity.py`. Runs in `worker.py`: comparing
expressions may take for ever.
"""

from __future__ import annotations

import re
from itertools import chain

from s2t_eval.evaluation.grading.equations import ORDERS, same_equation, same_inequality
from s2t_eval.evaluation.grading.explanations import REMARK, forms
from s2t_eval.evaluation.grading.latex import group_of, items, rows_of, split, without_braces
from s2t_eval.evaluation.grading.measures import is_rounded, same_value
from s2t_eval.evaluation.grading.numerals import worded_number
from s2t_eval.evaluation.grading.sets import looks_like_set, same_set
from s2t_eval.evaluation.grading.spelling import is_too_long, normal
from s2t_eval.evaluation.grading.values import read
from s2t_eval.evaluation.grading.words import choice, chosen, same_in_base, without_text, words

NAME = re.compile(
    r"(?:\\?[a-zA-Z]+(?:_\{[^{}]*(?:\{[^{}]*\})?\s*\})?'*(?:\^\{(?:-1|\\prime)\})?"
    r"(?:\s*\(\s*\\?[a-zA-Z]+(?:\s*,\s*[a-zA-Z]+)*\s*\))?'*)"
)
TUPLE_OF_NAMES = re.compile(rf"\(\s*{NAME.pattern}(?:\s*,\s*{NAME.pattern})+\s*\)")
THING = re.compile(r"m?\s*\\(?:angle|overline|triangle|text)(?![a-zA-Z])|\||\[[A-Z]+\]$")
"""Names of angles, lengths, areas and things in words."""
MODULUS = re.compile(r"\s*(?:\\pmod|\\bmod|\\mod|\(?\\text\{mod\})\s*\{?\s*(\d+)\s*\}?\)?\s*$")
FUNCTION = re.compile(r"[fgh]\(x\)")
MEMBER = re.compile(
    r"\s*(?P<name>\\?[a-zA-Z]+|\([a-zA-Z]+(?:\s*,\s*[a-zA-Z]+)*\))\s*\\in(?![a-z])\s*(?=\\\{)"
)
OR = re.compile(r"\\text\{\s*,?\s*or(?: also| approximately| about)?\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])")


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
    if (worded := worded_number(given)) is not None and words(wanted) is None:
        given = str(worded)
    if (remark := REMARK.fullmatch(given)) is not None:
        return _same(wanted, remark["answer"], tolerance) and (
            _same(wanted, remark["other"], tolerance) or is_rounded(remark["other"], wanted)
        )
    return any(_same(wanted, form, tolerance) for form in forms(given))


def _same(gold: str, answer: str, tolerance: float) -> bool:
    gold, answer = gold.strip(), answer.strip()
    if _flat(gold) == _flat(answer):
        return True
    modulus, other = MODULUS.search(gold), MODULUS.search(answer)
    if modulus or other:
        gold, answer = MODULUS.sub("", gold), MODULUS.sub("", answer)
        if modulus and other and modulus[1] != other[1]:
            return False
    if (letter := choice(gold)) is not None:
        return letter == chosen(_sides(answer)[-1].strip())
    if (said := words(gold)) is not None:
        ways = (answer, _sides(answer)[-1], re.split(r"\bis\b", without_text(answer))[-1])
        return said in [words(way, is_text=True) for way in ways]
    if (based := same_in_base(gold, _sides(answer)[-1], answer)) is not None:
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
                _same(golds[0], item, tolerance) or is_rounded(item, golds[0]) for item in answers
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
    """`x = 1, y = 2` is the pair (1, 2): names in the order of the pair's own, or of the alphabet."""
    own, whole = _own_names(whole)
    group = group_of(whole)
    sides = [_sides(item) for item in named]
    names = [side[0].strip() for side in sides]
    if group is None or group.begin not in ("(", "\\langle") or len(group.items) != len(named):
        return False
    if any(len(side) != 2 or NAME.fullmatch(side[0].strip()) is None for side in sides) or len(
        set(names)
    ) < len(names):
        return False
    if own and sorted(own) != sorted(names):
        return False
    order = own or sorted(names, key=lambda name: name.strip(" \\").casefold())
    values = [dict(zip(names, (side[1] for side in sides), strict=True))[name] for name in order]
    return all(_same(item, value, tolerance) for item, value in zip(group.items, values, strict=True))


def _in_alphabet(named: str) -> str:
    """The values of `(b, a) = (1, 2)` in the alphabet's order of their names."""
    names, whole = _own_names(named)
    group = group_of(whole)
    if group is None or len(group.items) != len(names):
        return whole
    values = [value for _, value in sorted(zip(names, group.items, strict=True), key=lambda pair: pair[0])]
    return f"{group.begin}{', '.join(values)}{group.end}"


def _own_names(whole: str) -> tuple[list[str], str]:
    """The names of `(a, b) = (1, 2)`, and the pair without them."""
    sides = _sides(whole)
    if len(sides) != 2 or TUPLE_OF_NAMES.fullmatch(sides[0]) is None:
        return [], whole
    names = group_of(sides[0])
    return list(names.items) if names else [], sides[1]


# ---------------------------------------------------------------- equals signs


def _sides(text: str) -> list[str]:
    """What stands between equals signs outside brackets: `\\sum_{k=1}^{n} k` has one side."""
    return split(text, ("=",)) or [text]


def _same_sides(gold: str, answer: str, tolerance: float) -> bool:
    """`x = 5` is 5 and not `y = 5`; an equation is itself however it is moved about."""
    mine, theirs = (_sides(text) for text in (gold, answer))
    is_named = len(mine) > 1 and (
        (NAME.fullmatch(mine[0]) or TUPLE_OF_NAMES.fullmatch(mine[0]) or THING.match(mine[0])) is not None
    )
    if len(mine) == 1:
        return _same_chain(gold, theirs, tolerance)
    if len(theirs) == 1:
        return is_named and _same(mine[-1], answer, tolerance)
    if all(TUPLE_OF_NAMES.fullmatch(sides[0]) for sides in (mine, theirs)):
        return _same(_in_alphabet(gold), _in_alphabet(answer), tolerance)
    if is_named and _same_name(mine[0], theirs[0]):
        return _same(mine[-1], theirs[-1], tolerance)
    if is_named and (words(theirs[0]) is not None or not _is_symbolic(theirs[0])):
        return _same(mine[-1], theirs[-1], tolerance) or same_equation(gold, answer)
    return same_equation(gold, answer)


def _same_name(name: str, other: str) -> bool:
    """Whether two left sides name one thing: `a_n` is `a(n)`, and `y` a function of x."""
    if re.sub(r"[\s_(){}]", "", _flat(name)) == re.sub(r"[\s_(){}]", "", _flat(other)):
        return True
    return any(one == "y" and FUNCTION.fullmatch(_flat(two)) for one, two in ((name, other), (other, name)))


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
    return is_rounded(last, gold) and any(_same(gold, side, tolerance) for side in sides[:-1])


# ---------------------------------------------------------------- brackets, bases, values


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
    if len(parts) > 1 and len(others) == 1:
        others = split(re.sub(r"\\text\{\s*to\s*\}", ":", answer), (":",))
    if len(parts) > 1 or len(others) > 1:
        return _same_ratio(parts, others, tolerance)
    return same_value(gold, answer, tolerance)


def _same_ratio(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """A ratio or a time of day, part by part."""
    if len(golds) == len(answers):
        return all(_same(gold, answer, tolerance) for gold, answer in zip(golds, answers, strict=True))
    pair, single = (golds, answers) if len(golds) == 2 else (answers, golds)
    if (len(pair), len(single)) != (2, 1) or re.fullmatch(r"\d\d", pair[1]):
        return False  # a time of day is no fraction
    return _same(f"\\frac{{{pair[0]}}}{{{pair[1]}}}", single[0], tolerance)
