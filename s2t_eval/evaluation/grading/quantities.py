"""Whether a piece of text is one number, and which: `18 eggs in 7 days` is 18, `5 to 10` is none."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from s2t_eval.evaluation.grading.closed import closed_value
from s2t_eval.evaluation.grading.numbers import (
    CURRENCY,
    MULTIPLES,
    NO_UNITS,
    Written,
    as_number,
    running,
    spelled,
    write,
    written,
)
from s2t_eval.evaluation.grading.numerals import worded_number
from s2t_eval.evaluation.grading.remarks import EXPLAINED, without_filler

LONGEST = 1500
MARKS = " \t\r\n*_`\"',;:"
EQUAL = re.compile(r"(?<![<>!\\])=(?!=)|\\approx|≈|\\simeq|\\Rightarrow|\\implies|⇒")
STYLES = re.compile(
    r"\\(?:boxed|fbox|textbf|textit|mathbf|mathrm|mathit|mathsf|bm|boldsymbol|underline|text|mbox)\s*(?=\{)"
)
COLOUR = re.compile(r"\\(?:textcolor|color|colorbox)\s*\{[^{}]*\}")
UNIT = r"\{\s*(?:\\(?:text|mathrm)\s*\{)?[A-Za-z ]+\}?\s*\}"
UNIT_FRACTION = re.compile(rf"\\[dtc]?frac\s*{UNIT}\s*{UNIT}")
DISPLAY = re.compile(
    r"\\[\[\]()]|\$\$|(?<!\\)\$(?=[\s.,;)]|$)|\\(?:displaystyle|large|Large|checkmark|blacksquare|square)\b"
)
CLOCK = re.compile(
    r"(?<![\w.:])([01]?\d|2[0-4]):00(?![\d:])(?=\s*(?:[ap]\.?\s?m\b|$|[.,;!?)\"'*]|\\|\s[a-z]|o))", re.I
)
PAIRED = re.compile(r"(?<![\w.])\d[\d.,]*(?::|\s:\s?)\d[\d.,:]*")
LETTER_UNITS = set("mgshLlNJWVAKCFMTkBbax")
WORDS = re.compile(r"[A-Za-z\s.,;!?'’\"%°()/*-]*")
JOINED = re.compile(
    r"(?:[\s$)]*(?:[a-z%°]+\s+){0,2}[\s$]*)(?:,\s*)?(?:or|and|to|till|until|through|&|-|/|±|\\pm|\+)\s*(?:[a-z]+\s+)?[$]?\s*",
    re.I,
)
OPERATOR = re.compile(r"\d\s*[-+*/^×÷]\s*[\d(]")
LISTED = re.compile(r"[\s$]*[,;][\s$]*(?:(?:or|and)\s+)?[$]?")
PRICE = re.compile(rf"{CURRENCY}\s?(\d[\d,]*(?:\.\d+)?)(?![\d,.]*\d|[\s-]*(?:{'|'.join(MULTIPLES)})\b)")
NEXT_NAME = re.compile(r"\d\W*(?:\\text\W*)?(?:or|and|[,;])\W*\\?[A-Za-z]\w{0,3}\W*$")
"""What ends the first of two equations: `x = 18 \\text{ or } x = 20`."""
PURPOSE = re.compile(
    r"""(?<=[a-z])(?<!\bneed)(?<!\bneeds)(?<!\bneeded)(?<!\bhas)(?<!\bhad)(?<!\bhave)(?<!\bhaving)(?<!\bable)(?<!\bgoing)
    (?<!\bwant)(?<!\bwants)(?<!\bwanted)(?<!\bought)(?<!\bgets)(?<!\bplans)(?<!\bdecides)(?<!\bdecided)(?<!\brequired)(?<!\bmanages)
    (?<!\bmanaged)\s+to\s+(?:walk|run|read|make|get|reach|finish|complete|cover|travel|drive|ride|buy|pay|save|eat|fill|build
    |paint|write|fly|swim|cook|bake|clean|cut|climb|earn|sell|feed|share|produce|type|watch|do|go|have|be)\b
    |\b(?:minutes?|hours?|days?|weeks?|months?|seconds?|years?)\s+to\s+(?!be\b)[a-z]{3,}
    |,\s+\d+\s+of\s+(?:which|whom|them|these|those)\b|,?\s+(?:having|including|with\s+\d+\s+of)\b""",
    re.IGNORECASE | re.VERBOSE,
)
WHOLE = re.compile(
    r"(?:(?<=[\w%)])\s+out\s+of\s+(?:(?:a\s+total\s+of|the|all|every|those|these)\s+)?|(?<=\d)\s+of\s+(?:the|all|those|these|her|his|their)\s+)\$?\d[\d,]*(?:\.\d+)?(?![\d/.]*\d)"
    r"|(?<=[a-z])\s+(?:in|on|over|within|from)\s+(?:the\s+(?:interval|range)\s+)?\$?[\[(]\s*-?\d[\d.]*\s*,\s*-?\d[\d.]*\s*[\])]\$?",
    re.I,
)
"""Of what the number before it is a part: `5 out of 12`, `25 solutions in [0, 100]`."""
COMPOUND = re.compile(r"-[a-z]{3,}", re.I)
"""What makes a number a part of a word: `5 12-packs`."""
WHICH = re.compile(r",\s*which\b|;\s*[a-z]", re.I)
BREAKDOWN = re.compile(r"(?<=[a-z*)]):\s+\$?\d[^:=]*\b(?:and|plus|\+)\s[^:=]*\d[^:=]*$", re.I)
"""Parts behind a total: `3 bolts are needed: 2 blue and 1 white`."""
RESTATED = re.compile(
    r"(?:[,;]?\s*(?:\bor|\bi\.e\.,?|\bthat\s+is,?|\bwhich\s+is|=|≈)\s+)\d+\s+(?:days?|hours?|minutes?|feet|foot|dollars?|pounds?|weeks?|years?)"
    r"(?:,?\s+and\s+|,?\s+)\d+\s+(?:hours?|minutes?|seconds?|inch(?:es)?|cents?|ounces?|days?|months?)(?=\W*$)",
    re.I,
)
"""A measure that is said again in two units: `160 minutes, or 2 hours and 40 minutes`."""
CONVERTED = re.compile(
    r"\d+\s+(?:days?|hours?|feet|foot|pounds?|weeks?|years?)(?:,?\s+and\s+|,?\s+)\d+\s+(?:hours?|minutes?|seconds?|inch(?:es)?|ounces?|days?|months?)"
    r"\s*(?:,?\s*\b(?:or|which\s+is|is|equals|i\.e\.,?)|=)\s*(?=\d[\d,]*\s+[a-z]+\W*$)",
    re.I,
)
"""The same the other way round: `1 hour and 20 minutes is 80 minutes`."""
KNOWN = re.compile(
    r"\b(?:after|over|during|in|for|from|within|with|per|at|on|by|of)\s+(?:the|those|these|all)\s+(?:(?:first|last|next|remaining|other|same|whole)\s+)?$",
    re.I,
)
"""What comes before a number that the problem gave: `45 miles at the end of the 4 hours`."""
THAT_IS = re.compile(r"\bi\.e\.,?\s*(?P<value>\$?\d[\d.,]*(?:\s[a-z]+)?)\W*$", re.I)
AFTER = re.compile(
    r"\b(?:after|by|from)\s+\w+ing\s+(?:(?:the|all|her|his|their|those|these|remaining)\s+)*$", re.I
)
RANGED = re.compile(r"\b(?:between|from)\s*$", re.I)
FAMILIES = (
    {"hour", "hr", "h", "minute", "min", "second", "sec", "s", "day", "week", "month", "year"},
    {"foot", "feet", "ft", "inch", "inches", "in", "yard", "mile"},
    {"dollar", "cent"},
    {"pound", "lb", "ounce", "oz"},
    {"kilogram", "kg", "gram", "g"},
    {"meter", "m", "centimeter", "cm", "kilometer", "km", "millimeter", "mm"},
)
"""Units of which two make one measure: "5 hours 30 minutes" is neither 5 nor 30."""
ACTS = re.compile(
    r"""\b(?:gets?|has|have|had|makes?|made|needs?|costs?|sells?|sold|earns?|pays?|eats?|receives?|takes?|gives?|giving|spends?
    |buys?|bought|uses?|leaves?|left\s+with|contains?|weighs?|travels?|runs?|walks?|reads?|saves?|owns?|totals?
    |becomes?|means?|yields?|equals?|could|can|will|would)\b""",
    re.IGNORECASE | re.VERBOSE,
)


class Reading(NamedTuple):
    """What a piece was read as.

    Args:
        answer: the number as it is written, or the piece itself where it is an answer but not one number.
        is_number: whether it is one number.
        is_whole: whether the piece is nothing but that.
        is_first: whether the piece begins with it.
    """

    answer: str
    is_number: bool
    is_whole: bool
    is_first: bool = True


def read_number(piece: str, boxed: bool) -> Reading | None:
    """The number that a box or the beginning of a statement is.

    Args:
        piece: the inside of a box, or what follows "the answer is".
        boxed: a box may have words before its number; a statement that has them is a sentence.

    Returns:
        None where it has no number or is a formula or a sentence.
    """
    piece = _bare(piece)
    if not re.search(r"\d", piece):
        worded = worded_number(piece)
        return None if worded is None else Reading(write(worded), True, True)
    piece = _without_repetition(piece)
    whole = as_number(piece)
    if whole is None and (repeated := re.fullmatch(r"([^()[\]]+?)\s*[(\[]([^()[\]]+)[)\]]", piece)):
        whole = _repeated(repeated[1], repeated[2])
    if whole is None:
        whole = closed_value(piece)
    if whole is not None:
        return Reading(write(whole), True, True)
    sides = EQUAL.split(piece)
    if len(sides) > 1:
        return _of_sides(sides, boxed)
    return _leading(piece, boxed)


def last_number(sentence: str) -> Reading | None:
    """The number that a sentence ends with; explanations behind it do not count."""
    sentence = WHOLE.sub("", _without_repetition(_bare(sentence)))
    that_is = THAT_IS.search(sentence)
    if that_is and len(re.findall(r"\d[\d.,]*", sentence[: that_is.start()])) > 1:
        sentence = that_is["value"]
    sentence = _without_explanation(sentence)
    sides = EQUAL.split(sentence)
    if len(sides) > 1 and (read := _of_sides(sides, boxed=False)) is not None:
        return read
    text = running(PRICE.sub(r"\1 dollars ", CLOCK.sub(r"\1", sides[-1])))
    numbers = written(text)
    if not numbers:
        return None
    if len(numbers) > 1 and (_is_price(text, numbers) or _is_known(text, numbers)):
        numbers = numbers[:-1]
    last = numbers[-1]
    if (closed := closed_value(_trailing(text, numbers))) is not None:
        return Reading(write(closed), True, False)
    tokens = [match for match in PAIRED.finditer(text) if match.end() >= last.end]
    if last.value is None or tokens or _is_range(text, numbers):
        return Reading(sentence.strip()[:100], False, False)
    return Reading(write(last.value), True, False)


def has_number(piece: str) -> bool:
    """Whether a piece has a number, as opposed to an index or a name."""
    return bool(written(running(_bare(piece))))


def _bare(piece: str) -> str:
    """A piece without what only dresses it, from the beginning of a long one."""
    piece = piece[:LONGEST]
    if "=" not in piece:
        piece = piece.replace(" – ", " — ")  # a dash between clauses; in an equation it is a minus
    piece = re.sub(r"\\times(?![a-z])|\\cdot(?![a-z])", "×", spelled(piece))
    piece = DISPLAY.sub(" ", UNIT_FRACTION.sub(" units", COLOUR.sub("", piece)))
    piece = STYLES.sub("", CLOCK.sub(r"\1", piece)).strip(MARKS).rstrip(MARKS + ".")
    return piece if re.match(r"\.\d", piece) else piece.lstrip(MARKS + ".")


def _of_sides(sides: list[str], boxed: bool) -> Reading | None:
    """Of an equation the last side that is one number, or else the first: `18 = 9 \\times 2`, `5 = x`."""
    if any(NEXT_NAME.search(side) for side in sides[1:-1]):
        return Reading("=".join(sides)[:100], False, True)
    found = [read for side in (sides[-1], sides[0]) if side.strip() and (read := read_number(side, boxed))]
    if found:
        return next((read for read in found if read.is_number and "." not in read.answer), found[0])
    value = closed_value(_trailing(sides[0], written(sides[0]))) if sides[-1].strip() else None
    return None if value is None else Reading(write(value), True, False)


def _leading(piece: str, boxed: bool) -> Reading | None:
    text, _ = without_filler(running(WHOLE.sub("", piece)).strip(" *_"))
    numbers = written(text)
    if not numbers:
        return None
    first = numbers[0]
    if len(numbers) > 1 and (which := WHICH.search(text, first.end, numbers[1].start)):
        text, numbers = text[: which.start()], numbers[:1]
    before, rest = text[: first.start], text[first.end :]
    if before.strip(" $*_\"'(~") and not (boxed and WORDS.fullmatch(before)):
        return None
    if first.value is None or PAIRED.match(text, first.start):
        return Reading(piece[:100], False, True)
    if (value := _beginning(text, boxed)) is not None:
        return Reading(write(value), True, False)
    if len(numbers) == 1:
        closed = boxed or not ACTS.search(_without_explanation(rest))
        return Reading(write(first.value), True, False) if closed and _is_unit(rest, boxed) else None
    between = text[first.end : numbers[1].start]
    if text[numbers[1].start] == "+":
        return Reading(piece[:100], False, True)  # a sum of things with names: `8 black + 4 white`
    if re.match(r"\s*[-+*/^×÷=]", between) and not JOINED.fullmatch(between):
        return None
    if not boxed and JOINED.fullmatch(between) and re.search(r"\b(?:is|are|was|were)\b", between):
        return None
    if _are_several(before, between, rest, numbers, text, boxed):
        return Reading(piece[:100], False, True)
    if not _is_unit(between.rstrip(" $(=+*/×x-"), False):
        return None
    if not boxed and ACTS.search(_without_explanation(rest)):
        return None
    return Reading(write(first.value), True, False)


def _beginning(text: str, boxed: bool) -> Fraction | None:
    """The value of the arithmetic that a text begins with, where units follow: `9 × 2 dollars`."""
    run = re.match(r"[\d\s.,()+\-*/^×÷]+", text)
    if run is None or not OPERATOR.search(run[0]) or not _is_unit(text[run.end() :], boxed):
        return None
    return closed_value(run[0].rstrip(" ,.("))


def _are_several(
    before: str, between: str, rest: str, numbers: list[Written], text: str, boxed: bool
) -> bool:
    """Whether a second number belongs to the answer as the first one does."""
    if RANGED.search(before) or JOINED.fullmatch(between):
        return True
    if LISTED.fullmatch(between) and (boxed or ";" not in between):
        return not EXPLAINED.match(between.lstrip(" ,;") or " ")
    first = re.match(r"\s*([a-z]+)", between, re.I)
    second = re.match(r"\s*([a-z]+)", text[numbers[1].end :], re.I)
    gap = re.fullmatch(r"\s*[a-z]+\s*(?:,|and)?\s*", between, re.I)
    return bool(gap and first and second and _family(first[1]) and _family(first[1]) == _family(second[1]))


def _family(unit: str) -> int | None:
    unit = unit.lower()
    names = {unit, unit.removesuffix("s")}
    return next((place + 1 for place, family in enumerate(FAMILIES) if names & family), None)


def _is_unit(text: str, boxed: bool) -> bool:
    """Whether what follows a number is words, not the rest of a formula."""
    if (
        not WORDS.fullmatch(text.replace("$", "").replace("€", "").replace("£", "").replace("₹", ""))
        and boxed
    ):
        return False
    text = text if boxed else _without_explanation(text)
    if boxed and re.fullmatch(r"\s*[abkx]\s*", text):
        return False
    words = re.findall(r"\\?[A-Za-z]+", text)
    if any(word.startswith("\\") for word in words) or re.search(r"[\^=+<>\\]", text):
        return False
    if words and words[0].lower() in NO_UNITS - {"to", "by", "and", "or"} and text[:1].strip(" "):
        return False
    return all(len(word) > 1 or word in LETTER_UNITS - {"x"} or word == "I" for word in words) and not (
        words and words[0] in {"pi", "sqrt"}
    )


def _is_range(text: str, numbers: list[Written]) -> bool:
    """Whether the last two numbers stand for a choice or a range."""
    if len(numbers) < 2:
        return False
    between = text[numbers[-2].end : numbers[-1].start]
    choice = re.fullmatch(r"\s*(?:[a-z]+\s+)?or\s*\$?", between, re.I)
    ranged = re.fullmatch(r"\s*(?:[a-z]+\s+)?(?:and|to)\s*\$?", between, re.I) and RANGED.search(
        text[: numbers[-2].start]
    )
    return bool(choice or ranged)


def _is_price(text: str, numbers: list[Written]) -> bool:
    """Whether the last number only says for what the money before it is: `36 dollars for 3 toys`."""
    between = text[numbers[-2].end : numbers[-1].start]
    behind = text[numbers[-1].end :]
    is_money = re.match(r"\s*(?:dollars?|cents?|euros?|pounds|rupees)\b", between, re.I)
    linked = re.search(
        r"\b(?:for|in|over|within|after|from|per|every|on|each)\s+(?:the\s+|all\s+|those\s+|these\s+)?$",
        between,
        re.I,
    )
    return bool(
        is_money and linked and not re.match(r"\s*(?:dollars?|cents?|euros?|pounds|rupees)\b", behind, re.I)
    )


def _is_known(text: str, numbers: list[Written]) -> bool:
    """Whether the last number is one that the problem gave, or a part of a word."""
    between = text[numbers[-2].end : numbers[-1].start]
    is_money = re.match(r"\s*(?:dollars?|cents?)\b", text[numbers[-1].end :], re.I) is not None
    return COMPOUND.match(text, numbers[-1].end) is not None or (
        not is_money
        and ACTS.search(between) is None
        and (KNOWN.search(between) or AFTER.search(between)) is not None
    )


def _without_repetition(text: str) -> str:
    """A text without a total's parts, and without the same measure in other units, behind its number."""
    for pattern in (RESTATED, BREAKDOWN):
        if (found := pattern.search(text)) and re.search(r"\d", text[: found.start()]):
            text = text[: found.start()]
    return CONVERTED.sub("", text)


def _without_explanation(text: str) -> str:
    """A text without the explanation behind its first number, and without what stands in brackets there."""
    first = re.search(r"\d", text)
    if first is None:
        return text
    text = re.sub(
        r"(?<=[\w%°])(\s*)\((?:[^()]*\d[^()]*)\)",
        lambda m: m[1] if _follows_number(text, m.start()) else m[0],
        text,
    )
    cuts = [cut.start() for pattern in (EXPLAINED, PURPOSE) if (cut := pattern.search(text, first.end()))]
    if cuts:
        return text[: min(cuts)]
    return text


def _follows_number(text: str, place: int) -> bool:
    return re.search(r"\d[\d.,]*(?:\s*[A-Za-z$%°]+){0,3}\s*$", text[max(0, place - 60) : place]) is not None


def _trailing(text: str, numbers: list[Written]) -> str:
    """The arithmetic that a text ends with, without the words behind it."""
    if not numbers:
        return ""
    begin = re.search(r"[\d\s.,()+\-*/^×÷{}]*$", text[: numbers[-1].end])
    found = begin[0].strip(" ,.") if begin else ""
    return found if OPERATOR.search(found) else ""


def _repeated(said: str, bracketed: str) -> Fraction | None:
    """The value of `18 (9 * 2)`, which is no product."""
    value = closed_value(said)
    return value if value is not None and value == closed_value(bracketed) else None


__all__ = ["MULTIPLES", "Reading", "has_number", "last_number", "read_number"]
