"""Equivalence of two written answers.

This module compares the structure: the order of items matters in a tuple but not in a list of solutions,
and an open end of an interval differs from a closed one. Its functions are mutually recursive, since the
items of a structure are answers themselves. Single expressions are parsed in `parsing.py` and compared in
`numeric.py`. Comparison of expressions may not terminate, so it runs in a process with a time limit
(`worker.py`).
"""

from __future__ import annotations

import re
from itertools import chain

from s2t_eval.evaluation.grading.equivalence.answer_forms import PARENTHESIS, answer_forms
from s2t_eval.evaluation.grading.equivalence.equations import (
    RELATIONS,
    equivalent_equations,
    equivalent_inequalities,
)
from s2t_eval.evaluation.grading.equivalence.normalisation import is_too_long, normalise
from s2t_eval.evaluation.grading.equivalence.parsing import parse_expression
from s2t_eval.evaluation.grading.equivalence.quantities import equivalent_quantities, is_rounded
from s2t_eval.evaluation.grading.equivalence.sets import equivalent_sets, looks_like_set
from s2t_eval.evaluation.grading.equivalence.structure import (
    list_items,
    parse_group,
    parse_matrix,
    split_top_level,
    strip_outer_brackets,
)
from s2t_eval.evaluation.grading.equivalence.text_answers import (
    choice_letter,
    equivalent_in_base,
    leading_choice_letter,
    normalise_words,
    unwrap_text,
)
from s2t_eval.evaluation.grading.numbers.number_words import parse_number_words

SYMBOL = re.compile(
    r"(?:\\?[a-zA-Z]+(?:_\{[^{}]*(?:\{[^{}]*\})?\s*\})?'*(?:\^\{(?:-1|\\prime)\})?"
    r"(?:\s*\(\s*\\?[a-zA-Z]+(?:\s*,\s*[a-zA-Z]+)*\s*\))?'*)"
)
TUPLE_OF_SYMBOLS = re.compile(rf"\(\s*{SYMBOL.pattern}(?:\s*,\s*{SYMBOL.pattern})+\s*\)")
NAMED_OBJECT = re.compile(r"m?\s*\\(?:angle|overline|triangle|text)(?![a-zA-Z])|\||\[[A-Z]+\]$")
"""Left sides that name an object: angles, lengths, areas and words."""
MODULUS = re.compile(r"\s*(?:\\pmod|\\bmod|\\mod|\(?\\text\{mod\})\s*\{?\s*(\d+)\s*\}?\)?\s*$")
FUNCTION = re.compile(r"[fgh]\(x\)")
MEMBERSHIP = re.compile(
    r"\s*(?P<name>\\?[a-zA-Z]+|\([a-zA-Z]+(?:\s*,\s*[a-zA-Z]+)*\))\s*\\in(?![a-z])\s*(?=\\\{)"
)
ALTERNATIVE = re.compile(
    r"\\text\{\s*,?\s*or(?: also| approximately| about)?\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])"
)


def is_equivalent(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """Return whether an answer is equivalent to the gold answer.

    Args:
        gold: the reference answer in LaTeX or plain text.
        answer: the extracted answer.
        tolerance: relative tolerance for gold answers in decimal notation; default 0 (exact).

    Example:
        >>> is_equivalent(r"\\frac{1}{2}", "0.5")
        True
    """
    if is_too_long(gold, answer):
        return False
    gold_form, answer_form = normalise(gold), normalise(answer)
    if (words_value := parse_number_words(answer_form)) is not None and normalise_words(gold_form) is None:
        answer_form = str(words_value)
    if (remark := PARENTHESIS.fullmatch(answer_form)) is not None:
        return _is_equivalent(gold_form, remark["answer"], tolerance) and (
            _is_equivalent(gold_form, remark["other"], tolerance) or is_rounded(remark["other"], gold_form)
        )
    return any(_is_equivalent(gold_form, form, tolerance) for form in answer_forms(answer_form))


def _is_equivalent(gold: str, answer: str, tolerance: float) -> bool:
    gold, answer = gold.strip(), answer.strip()
    if _without_spaces(gold) == _without_spaces(answer):
        return True
    gold_modulus, answer_modulus = MODULUS.search(gold), MODULUS.search(answer)
    if gold_modulus or answer_modulus:
        gold, answer = MODULUS.sub("", gold), MODULUS.sub("", answer)
        if gold_modulus and answer_modulus and gold_modulus[1] != answer_modulus[1]:
            return False
    if (letter := choice_letter(gold)) is not None:
        return letter == leading_choice_letter(_sides(answer)[-1].strip())
    if (gold_words := normalise_words(gold)) is not None:
        candidates = (answer, _sides(answer)[-1], re.split(r"\bis\b", unwrap_text(answer))[-1])
        return gold_words in [normalise_words(candidate, is_text=True) for candidate in candidates]
    if (verdict := equivalent_in_base(gold, _sides(answer)[-1], answer)) is not None:
        return verdict
    gold, answer = (strip_outer_brackets(text).strip().rstrip(" .") for text in (gold, answer))
    if looks_like_set(gold) or looks_like_set(answer):
        verdict = equivalent_sets(gold, answer)
        if verdict is not None:
            return verdict
    return _equivalent_structures(gold, answer, tolerance)


def _without_spaces(text: str) -> str:
    """The text without text commands and spaces, except between digits: `2 2/3` is not `22/3`."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", unwrap_text(strip_outer_brackets(text)))


def _equivalent_structures(gold: str, answer: str, tolerance: float) -> bool:
    gold_parts, answer_parts = split_top_level(gold, ("\\cup",)), split_top_level(answer, ("\\cup",))
    if len(gold_parts) > 1 or len(answer_parts) > 1:
        return _equivalent_items(
            gold_parts, answer_parts if len(answer_parts) > 1 else list_items(answer), tolerance
        )
    golds, answers = _list_pair(gold, answer)
    if len(golds) > 1 or len(answers) > 1:
        return _equivalent_lists(golds, answers, answer, tolerance)
    if golds and answers:
        gold, answer = golds[0], answers[0]
    if len(split_top_level(gold, RELATIONS)) > 1 and len(split_top_level(answer, RELATIONS)) > 1:
        return equivalent_inequalities(gold, answer)
    if len(_sides(gold)) > 1 or len(_sides(answer)) > 1:
        return _equivalent_sides(gold, answer, tolerance)
    gold_rows, answer_rows = parse_matrix(gold), parse_matrix(answer)
    if gold_rows is not None or answer_rows is not None:
        return _equivalent_matrices(gold_rows or _column(gold), answer_rows or _column(answer), tolerance)
    return _equivalent_groups(gold, answer, tolerance)


# ---------------------------------------------------------------- lists


def _list_pair(gold: str, answer: str) -> tuple[list[str], list[str]]:
    """The list items of both answers; a number with grouped digits (`1,000,000`) is one item."""
    golds = [gold] if _is_grouped(gold) else list_items(_without_membership(gold))
    spaced = re.sub(r"(?<=\d),\s+(?=\d{3}(?!\d))", ",", answer)
    if len(golds) == 1 and _is_grouped(spaced):
        return golds, [spaced]
    return golds, [answer] if _is_grouped(answer) else list_items(_without_membership(answer))


def _is_grouped(text: str) -> bool:
    """Whether every comma of a text groups digits of a single number."""
    numbers = re.findall(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", text)
    return (
        len(numbers) == 1
        and len(split_top_level(re.sub(r"(?<=\d),(?=\d{3})", "", text))) == 1
        and "(" not in text
    )


def _without_membership(text: str) -> str:
    """The set of `x \\in \\{1, 2\\}` and `S = \\{1, 2\\}`."""
    member = MEMBERSHIP.match(text)
    sides = _sides(text)
    if member is None and len(sides) == 2 and (group := parse_group(sides[1])) and group.begin == "\\{":
        return sides[1] if SYMBOL.fullmatch(sides[0].strip()) else text
    return text[member.end() :] if member else text


def _equivalent_lists(golds: list[str], answers: list[str], answer: str, tolerance: float) -> bool:
    if len(golds) == 1:
        if ALTERNATIVE.search(answer) and not any(
            "=" in item for item in answers
        ):  # `3/4 or 0.75` is the same number written twice
            return any(_is_equivalent(golds[0], item, tolerance) for item in answers) and all(
                _is_equivalent(golds[0], item, tolerance) or is_rounded(item, golds[0]) for item in answers
            )
        return _equivalent_named_tuples(golds[0], answers, tolerance)
    if len(answers) == 1:
        return _equivalent_named_tuples(answers[0], golds, tolerance)
    return _equivalent_items(_without_shared_name(golds), _without_shared_name(answers), tolerance)


def _without_shared_name(items: list[str]) -> list[str]:
    """The items of `x = 1, 2, 3` without the name, which applies to all of them."""
    sides = _sides(items[0])
    if len(sides) == 2 and SYMBOL.fullmatch(sides[0].strip()) and not any("=" in item for item in items[1:]):
        return [sides[1].strip(), *items[1:]]
    return items


def _equivalent_items(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """Whether the items can be matched in any order."""
    if len(golds) != len(answers):
        return False
    remaining = list(answers)
    for gold in golds:
        match = next((item for item in remaining if _is_equivalent(gold, item, tolerance)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def _equivalent_named_tuples(gold: str, assignments: list[str], tolerance: float) -> bool:
    """Whether `x = 1, y = 2` equals a tuple: `(1, 2)`, or `(y, x) = (2, 1)`.

    A tuple without names is in alphabetical order of the names.
    """
    own_names, gold = _split_named_tuple(gold)
    group = parse_group(gold)
    sides = [_sides(item) for item in assignments]
    names = [side[0].strip() for side in sides]
    if group is None or group.begin not in ("(", "\\langle") or len(group.items) != len(assignments):
        return False
    if any(len(side) != 2 or SYMBOL.fullmatch(side[0].strip()) is None for side in sides) or len(
        set(names)
    ) < len(names):
        return False
    if own_names and sorted(own_names) != sorted(names):
        return False
    order = own_names or sorted(names, key=lambda name: name.strip(" \\").casefold())
    values = [dict(zip(names, (side[1] for side in sides), strict=True))[name] for name in order]
    return all(
        _is_equivalent(item, value, tolerance) for item, value in zip(group.items, values, strict=True)
    )


def _in_name_order(named: str) -> str:
    """The tuple of the values of `(b, a) = (1, 2)` in alphabetical order of the names."""
    names, whole = _split_named_tuple(named)
    group = parse_group(whole)
    if group is None or len(group.items) != len(names):
        return whole
    values = [value for _, value in sorted(zip(names, group.items, strict=True), key=lambda pair: pair[0])]
    return f"{group.begin}{', '.join(values)}{group.end}"


def _split_named_tuple(whole: str) -> tuple[list[str], str]:
    """The names of `(a, b) = (1, 2)`, and the tuple of values."""
    sides = _sides(whole)
    if len(sides) != 2 or TUPLE_OF_SYMBOLS.fullmatch(sides[0]) is None:
        return [], whole
    names = parse_group(sides[0])
    return list(names.items) if names else [], sides[1]


# ---------------------------------------------------------------- equals signs


def _sides(text: str) -> list[str]:
    """The sides of the equals signs outside brackets: `\\sum_{k=1}^{n} k` has one side."""
    return split_top_level(text, ("=",)) or [text]


def _equivalent_sides(gold: str, answer: str, tolerance: float) -> bool:
    """Whether equations agree: `x = 5` equals `5` but not `y = 5`; rearranged equations are equivalent."""
    gold_sides, answer_sides = (_sides(text) for text in (gold, answer))
    is_named = len(gold_sides) > 1 and (
        (
            SYMBOL.fullmatch(gold_sides[0])
            or TUPLE_OF_SYMBOLS.fullmatch(gold_sides[0])
            or NAMED_OBJECT.match(gold_sides[0])
        )
        is not None
    )
    if len(gold_sides) == 1:
        return _matches_chain(gold, answer_sides, tolerance)
    if len(answer_sides) == 1:
        return is_named and _is_equivalent(gold_sides[-1], answer, tolerance)
    if all(TUPLE_OF_SYMBOLS.fullmatch(sides[0]) for sides in (gold_sides, answer_sides)):
        return _is_equivalent(_in_name_order(gold), _in_name_order(answer), tolerance)
    if is_named and _same_symbol(gold_sides[0], answer_sides[0]):
        return _is_equivalent(gold_sides[-1], answer_sides[-1], tolerance)
    if is_named and (normalise_words(answer_sides[0]) is not None or not _is_symbolic(answer_sides[0])):
        return _is_equivalent(gold_sides[-1], answer_sides[-1], tolerance) or equivalent_equations(
            gold, answer
        )
    return equivalent_equations(gold, answer)


def _same_symbol(name: str, other: str) -> bool:
    """Whether two left sides name the same object: `a_n` and `a(n)`, `y` and `f(x)`."""
    if re.sub(r"[\s_(){}]", "", _without_spaces(name)) == re.sub(r"[\s_(){}]", "", _without_spaces(other)):
        return True
    return any(
        one == "y" and FUNCTION.fullmatch(_without_spaces(two)) for one, two in ((name, other), (other, name))
    )


def _is_symbolic(side: str) -> bool:
    """Whether a side is an expression, in contrast to the name of an object: `\\angle ABC`."""
    return parse_expression(side) is not None


def _matches_chain(gold: str, sides: list[str], tolerance: float) -> bool:
    """Whether the value of a chain of equations is the gold answer.

    The value is the last side, or an earlier one if the last is a name or a rounded value.
    """
    first, last = sides[0], sides[-1]
    if _is_equivalent(gold, last, tolerance):
        return True
    if SYMBOL.fullmatch(last) and not re.fullmatch(r"\\?(?:pi|e|i|infty)", last):
        return len(sides) == 2 and _is_equivalent(gold, first, tolerance)
    return is_rounded(last, gold) and any(_is_equivalent(gold, side, tolerance) for side in sides[:-1])


# ---------------------------------------------------------------- brackets, bases, values


def _column(text: str) -> list[list[str]] | None:
    """The rows of a column vector that is written as a tuple or a binomial."""
    if (pair := re.fullmatch(r"\\binom\{([^{}]*)\}\{([^{}]*)\}", text)) is not None:
        return [[pair[1]], [pair[2]]]
    group = parse_group(text)
    if group is None or group.begin not in ("(", "\\langle") or len(group.items) < 2:
        return None
    return [[item] for item in group.items]


def _equivalent_matrices(
    gold_rows: list[list[str]] | None, answer_rows: list[list[str]] | None, tolerance: float
) -> bool:
    if (
        gold_rows is None
        or answer_rows is None
        or [len(row) for row in gold_rows] != [len(row) for row in answer_rows]
    ):
        return False
    return all(
        _is_equivalent(a, b, tolerance) for a, b in zip(chain(*gold_rows), chain(*answer_rows), strict=True)
    )


def _equivalent_groups(gold: str, answer: str, tolerance: float) -> bool:
    gold_group, answer_group = parse_group(gold), parse_group(answer)
    if (
        gold_group is not None
        and answer_group is not None
        and max(len(gold_group.items), len(answer_group.items)) > 1
    ):
        kinds = [
            (group.begin.replace("\\langle", "("), group.end.replace("\\rangle", ")"))
            for group in (gold_group, answer_group)
        ]
        return (
            kinds[0] == kinds[1]
            and len(gold_group.items) == len(answer_group.items)
            and all(
                _is_equivalent(a, b, tolerance)
                for a, b in zip(gold_group.items, answer_group.items, strict=True)
            )
        )
    gold_parts, answer_parts = split_top_level(gold, (":",)), split_top_level(answer, (":",))
    if len(gold_parts) > 1 and len(answer_parts) == 1:
        answer_parts = split_top_level(re.sub(r"\\text\{\s*to\s*\}", ":", answer), (":",))
    if len(gold_parts) > 1 or len(answer_parts) > 1:
        return _equivalent_ratios(gold_parts, answer_parts, tolerance)
    return equivalent_quantities(gold, answer, tolerance)


def _equivalent_ratios(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """Whether ratios or times of day agree part by part; a ratio may also be a fraction."""
    if len(golds) == len(answers):
        return all(
            _is_equivalent(gold, answer, tolerance) for gold, answer in zip(golds, answers, strict=True)
        )
    pair, single = (golds, answers) if len(golds) == 2 else (answers, golds)
    if (len(pair), len(single)) != (2, 1) or re.fullmatch(r"\d\d", pair[1]):
        return False  # a time of day is not a fraction
    return _is_equivalent(f"\\frac{{{pair[0]}}}{{{pair[1]}}}", single[0], tolerance)
