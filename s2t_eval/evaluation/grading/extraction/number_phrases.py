"""Extraction of the number that a phrase states: 18 from `18 eggs in 7 days`, none from `5 to 10`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from s2t_eval.evaluation.grading.extraction.number_patterns import (
    AFTER_ACTION,
    ALTERNATIVE,
    BREAKDOWN,
    CHANGE,
    CIRCUMSTANCE,
    CLOCK,
    COLOUR_COMMAND,
    COMPOUND_WORD,
    CONCLUSION,
    CONVERSION,
    DIFFERENCE,
    DISPLAY_MARKUP,
    EARLIER_VALUE,
    EQUALS_SIGN,
    FORMULA_BETWEEN,
    FURTHER_CLAUSE,
    JOINER,
    LABEL,
    LETTER_UNITS,
    LIST_SEPARATOR,
    NEXT_NAME,
    NEXT_NAME_IN_BOX,
    ONLY_DURATION,
    OPERATOR,
    PART_OF_WHOLE,
    PRECISION,
    PRICE,
    PRICE_OF_ITEMS,
    PURPOSE,
    RANGE_START,
    RATIO_OR_TIME,
    REFERENCE_TO_GIVEN,
    RELATIVE_CLAUSE,
    RESTATEMENT,
    ROUNDED,
    STRIPPED_CHARACTERS,
    STYLE_COMMAND,
    THAT_IS,
    TOTALLED,
    UNIT_FAMILIES,
    UNIT_FRACTION,
    VERB,
    WORDS_ONLY,
)
from s2t_eval.evaluation.grading.extraction.remarks import EXPLANATION, strip_filler
from s2t_eval.evaluation.grading.numbers.arithmetic import evaluate_arithmetic
from s2t_eval.evaluation.grading.numbers.number_words import parse_number_words
from s2t_eval.evaluation.grading.numbers.parsing import (
    NOT_UNITS,
    WrittenNumber,
    find_numbers,
    format_number,
    normalise_characters,
    parse_number,
    to_running_text,
)

MAX_LENGTH = 1500


class NumberReading(NamedTuple):
    """An answer extracted from a phrase.

    Args:
        answer: the number in canonical form, or the phrase itself if it is an answer but not one number.
        is_number: whether it is one number.
        is_whole: whether the phrase consists of nothing else.
        is_first: whether the phrase begins with it; default True.
    """

    answer: str
    is_number: bool
    is_whole: bool
    is_first: bool = True


def read_number(phrase: str, is_boxed: bool) -> NumberReading | None:
    """Return the number of a box or at the beginning of a statement.

    Args:
        phrase: the content of a box, or the phrase after "the answer is".
        is_boxed: whether it is a box, which may contain words before its number.

    Returns:
        None if it contains no number, or is a formula or a sentence.

    Example:
        >>> read_number("18 eggs in 7 days", is_boxed=False).answer
        '18'
    """
    phrase = _strip_styling(phrase)
    if not re.search(r"\d", phrase):
        words_value = parse_number_words(phrase)
        return None if words_value is None else NumberReading(format_number(words_value), True, True)
    phrase = _rounded_value(_without_repetition(phrase))
    value = parse_number(phrase)
    if value is None and (match := re.fullmatch(r"([^()[\]]+?)\s*[(\[]([^()[\]]+)[)\]]", phrase)):
        value = _repeated_value(match[1], match[2])
    if value is None:
        value = evaluate_arithmetic(phrase)
    if value is None:
        value = _value_of_alternatives(phrase)
    if value is not None:
        return NumberReading(format_number(value), True, True)
    sides = EQUALS_SIGN.split(phrase)
    if len(sides) > 1:
        return _number_in_equation(sides, is_boxed)
    return _leading_number(phrase, is_boxed)


def last_number(sentence: str) -> NumberReading | None:
    """Return the last number of a sentence, ignoring explanations after it."""
    sentence = PART_OF_WHOLE.sub("", _without_repetition(_strip_styling(sentence)))
    sentence = _rounded_value(sentence)
    that_is = THAT_IS.search(sentence)
    if that_is and len(re.findall(r"\d[\d.,]*", sentence[: that_is.start()])) > 1:
        sentence = that_is["value"]
    if (conclusion := CONCLUSION.match(sentence)) and has_number(conclusion["value"]):
        sentence = conclusion["value"]
    sentence = _without_explanation(_without_circumstance(sentence))
    sides = EQUALS_SIGN.split(sentence)
    is_equation = len(sides) > 1 and not FURTHER_CLAUSE.search(sides[-1])
    if is_equation and (reading := _number_in_equation(sides, is_boxed=False)) is not None:
        return reading
    text = to_running_text(PRICE.sub(r"\1 dollars ", CLOCK.sub(r"\1", sides[-1])))
    text = PRICE_OF_ITEMS.sub(r"\g<first>", text)
    numbers = find_numbers(text)
    if not numbers:
        return None
    if len(numbers) > 1 and (_is_price_count(text, numbers) or _is_given_in_problem(text, numbers)):
        numbers = numbers[:-1]
    last = numbers[-1]
    if (arithmetic := evaluate_arithmetic(_trailing_arithmetic(text, numbers))) is not None:
        return NumberReading(format_number(arithmetic), True, False)
    pairs = [match for match in RATIO_OR_TIME.finditer(text) if match.end() >= last.end]
    if last.value is None or pairs or _is_range(text, numbers):
        return NumberReading(sentence.strip()[:100], False, False)
    return NumberReading(format_number(last.value), True, False)


def has_number(phrase: str) -> bool:
    """Whether a text contains a number, not only an index or a symbol with digits."""
    return bool(find_numbers(to_running_text(_strip_styling(phrase))))


def _strip_styling(phrase: str) -> str:
    """The first `MAX_LENGTH` characters without style commands and display markup."""
    phrase = phrase[:MAX_LENGTH]
    if "=" not in phrase:
        phrase = phrase.replace(" – ", " — ")  # a dash between clauses, but a minus in equations
    phrase = re.sub(r"(?<=\d)\{,\}(?=\d{3})", ",", phrase)  # LaTeX for a separator without a space
    phrase = re.sub(r"\\times(?![a-z])|\\cdot(?![a-z])", "×", normalise_characters(phrase))
    phrase = DISPLAY_MARKUP.sub(" ", UNIT_FRACTION.sub(" units", COLOUR_COMMAND.sub("", phrase)))
    phrase = re.sub(r"(?<!\d)\*\*|\*\*(?![\d(])", "", phrase)  # bold type, in contrast to a power
    phrase = (
        STYLE_COMMAND.sub("", CLOCK.sub(r"\1", phrase))
        .strip(STRIPPED_CHARACTERS)
        .rstrip(STRIPPED_CHARACTERS + ".")
    )
    return phrase if re.match(r"\.\d", phrase) else phrase.lstrip(STRIPPED_CHARACTERS + ".")


def _number_in_equation(sides: list[str], is_boxed: bool) -> NumberReading | None:
    """The number of an equation: the last side, otherwise the first: `18 = 9 \\times 2`, `5 = x`."""
    next_name = NEXT_NAME_IN_BOX if is_boxed else NEXT_NAME
    if any(next_name.search(side) for side in sides[1:-1]):
        return NumberReading("=".join(sides)[:100], False, True)
    last = read_number(sides[-1], is_boxed) if sides[-1].strip() else None
    first = read_number(sides[0], is_boxed) if sides[0].strip() else None
    if readings := [reading for reading in (last, first) if reading is not None]:
        reading = next(
            (reading for reading in readings if reading.is_number and "." not in reading.answer), readings[0]
        )
        is_sentence = last is None and not is_boxed and bool(sides[-1].strip())
        if is_sentence and not _ends_with_repetition(sides[-1], reading.answer):
            return reading._replace(is_whole=False)
        return reading
    value = (
        evaluate_arithmetic(_trailing_arithmetic(sides[0], find_numbers(sides[0])))
        if sides[-1].strip()
        else None
    )
    return None if value is None else NumberReading(format_number(value), True, False)


def _ends_with_repetition(side: str, answer: str) -> bool:
    """Whether the sentence behind an equation repeats its value and states nothing after it.

    `9 * 4 = 36, so Jim spends 36 hours in 4 weeks`; `16 - 7 = 9, so she sells 9 for 18 dollars` states 18.
    """
    text = to_running_text(side)
    numbers = find_numbers(text)
    repeated = [
        number for number in numbers[1:] if number.value is not None and format_number(number.value) == answer
    ]
    return bool(repeated) and VERB.search(text, repeated[-1].end, numbers[-1].start) is None


def _leading_number(phrase: str, is_boxed: bool) -> NumberReading | None:
    text, _ = strip_filler(to_running_text(PART_OF_WHOLE.sub("", phrase)).strip(" *_"))
    numbers = find_numbers(text)
    if not numbers:
        return None
    first = numbers[0]
    if len(numbers) > 1 and (clause := RELATIVE_CLAUSE.search(text, first.end, numbers[1].start)):
        text, numbers = text[: clause.start()], numbers[:1]
    before, rest = text[: first.start], text[first.end :]
    if before.strip(" $*_\"'(~") and not (
        is_boxed and (WORDS_ONLY.fullmatch(before) or (LABEL.fullmatch(before) and ":" not in rest))
    ):
        return None
    if first.value is None or RATIO_OR_TIME.match(text, first.start):
        return NumberReading(phrase[:100], False, True)
    if (value := _leading_arithmetic(text, is_boxed)) is not None:
        return NumberReading(format_number(value), True, False)
    if len(numbers) == 1:
        is_single = is_boxed or not VERB.search(_without_explanation(rest))
        return (
            NumberReading(format_number(first.value), True, False)
            if is_single and _is_unit(rest, is_boxed)
            else None
        )
    between = text[first.end : numbers[1].start]
    if FORMULA_BETWEEN.match(text, first.end, numbers[1].end):
        return None
    if text[numbers[1].start] == "+":
        return NumberReading(phrase[:100], False, True)  # a sum of different items: `8 black + 4 white`
    if re.match(r"\s*[-+*/^×÷=]", between) and not JOINER.fullmatch(between):
        return None
    if not is_boxed and JOINER.fullmatch(between) and re.search(r"\b(?:is|are|was|were)\b", between):
        return None
    if _has_second_answer(before, between, rest, numbers, text, is_boxed):
        return NumberReading(phrase[:100], False, True)
    if not _is_unit(between.rstrip(" $(=+*/×x-"), False):
        return None
    if not is_boxed and VERB.search(_without_explanation(rest)):
        return None
    return NumberReading(format_number(first.value), True, False)


def _leading_arithmetic(text: str, is_boxed: bool) -> Fraction | None:
    """The value of leading arithmetic that is followed by a unit: `9 × 2 dollars`."""
    match = re.match(r"[\d\s.,()+\-*/^×÷]+", text)
    if match is None or not OPERATOR.search(match[0]) or not _is_unit(text[match.end() :], is_boxed):
        return None
    return evaluate_arithmetic(match[0].rstrip(" ,.("))


def _has_second_answer(
    before: str, between: str, rest: str, numbers: list[WrittenNumber], text: str, is_boxed: bool
) -> bool:
    """Whether a second number is part of the answer: a range, a list, or a measure in two units."""
    first, second = (
        unit[1].lower() if (unit := re.match(r"\s*([a-z]+)", rest, re.I)) else ""
        for rest in (between, text[numbers[1].end :])
    )
    are_measures = _unit_family(first) is not None and _unit_family(first) == _unit_family(second)
    if are_measures and first.rstrip("s") != second.rstrip("s") and re.search(r"\bor\s*$", between):
        return False  # the same measure in another unit
    if RANGE_START.search(before) or (JOINER.fullmatch(between) and not PURPOSE.search(between)):
        return True
    if LIST_SEPARATOR.fullmatch(between) and (is_boxed or ";" not in between):
        return not EXPLANATION.match(between.lstrip(" ,;") or " ")
    return are_measures and re.fullmatch(r"\s*[a-z]+\s*(?:,|and)?\s*", between, re.I) is not None


def _unit_family(unit: str) -> int | None:
    unit = unit.lower()
    names = {unit, unit.removesuffix("s")}
    return next((index + 1 for index, family in enumerate(UNIT_FAMILIES) if names & family), None)


def _is_unit(text: str, is_boxed: bool) -> bool:
    """Whether the text after a number consists of words, in contrast to the rest of a formula."""
    if (
        not WORDS_ONLY.fullmatch(text.replace("$", "").replace("€", "").replace("£", "").replace("₹", ""))
        and is_boxed
    ):
        return False
    text = text if is_boxed else _without_explanation(text)
    if is_boxed and re.fullmatch(r"\s*[abkx]\s*", text):
        return False
    words = re.findall(r"\\?[A-Za-z]+", text)
    if any(word.startswith("\\") for word in words) or re.search(r"[\^=+<>\\π√±∞≤≥≠]", text):
        return False
    if DIFFERENCE.fullmatch(text):
        return False
    if words and words[0].lower() in NOT_UNITS - {"to", "by", "and", "or"} and text[:1].strip(" "):
        return False
    return all(len(word) > 1 or word in LETTER_UNITS - {"x"} or word == "I" for word in words) and not (
        words and words[0] in {"pi", "sqrt"}
    )


def _is_range(text: str, numbers: list[WrittenNumber]) -> bool:
    """Whether the last two numbers are alternatives or the ends of a range."""
    if len(numbers) < 2:
        return False
    between = text[numbers[-2].end : numbers[-1].start]
    is_choice = re.fullmatch(r"\s*(?:[a-z]+\s+)?or\s*\$?", between, re.I)
    before = text[: numbers[-2].start]
    is_range = (
        re.fullmatch(r"\s*(?:[a-z]+\s+)?(?:and|to)\s*\$?", between, re.I)
        and RANGE_START.search(before)
        and not CHANGE.search(before)
    )
    return bool(is_choice or is_range)


def _is_price_count(text: str, numbers: list[WrittenNumber]) -> bool:
    """Whether the last number counts the purchased items: `36 dollars for 3 toys`."""
    between = text[numbers[-2].end : numbers[-1].start]
    behind = text[numbers[-1].end :]
    is_money = re.match(r"\s*(?:dollars?|cents?|euros?|pounds|rupees)\b", between, re.I)
    linked = re.search(
        r"\b(?:for|in|over|within|after|from|per|every|on|each)\s+(?:the\s+|all\s+|those\s+|these\s+|his\s+|her\s+|its\s+|their\s+)?$",
        between,
        re.I,
    )
    return bool(
        is_money and linked and not re.match(r"\s*(?:dollars?|cents?|euros?|pounds|rupees)\b", behind, re.I)
    )


def _is_given_in_problem(text: str, numbers: list[WrittenNumber]) -> bool:
    """Whether the last number was given in the problem, or is part of a compound word."""
    between = text[numbers[-2].end : numbers[-1].start]
    is_money = re.match(r"\s*(?:dollars?|cents?)\b", text[numbers[-1].end :], re.I) is not None
    if EARLIER_VALUE.fullmatch(between) and re.search(r"\bto\s*$", text[: numbers[-2].start]):
        return True
    return COMPOUND_WORD.match(text, numbers[-1].end) is not None or (
        not is_money
        and VERB.search(between) is None
        and (REFERENCE_TO_GIVEN.search(between) or AFTER_ACTION.search(between)) is not None
    )


def _without_repetition(text: str) -> str:
    """Remove breakdowns of a total and repetitions of a measure in other units."""
    for pattern in (RESTATEMENT, BREAKDOWN):
        if (match := pattern.search(text)) and re.search(r"\d", text[: match.start()]):
            text = text[: match.start()]
    return CONVERSION.sub("", text)


def _without_circumstance(text: str) -> str:
    """Remove what was given in the problem from the end of a sentence that has a number before it."""
    match = CIRCUMSTANCE.search(text)
    before = text[: match.start()] if match else ""
    if re.search(r"\d", before) and not ONLY_DURATION.fullmatch(before):
        text = before
    totalled = TOTALLED.search(text)
    is_final = totalled and not VERB.search(totalled["rest"]) and "leaving" not in totalled["rest"]
    return text[: totalled.start("rest")] if totalled and is_final else text


def _rounded_value(text: str) -> str:
    """The text behind "rounded to"; the whole text if it does not round a value."""
    if (shortened := PRECISION.sub("", text)) != text and re.search(r"\d", shortened):
        text = shortened
    rounding = list(ROUNDED.finditer(text))
    return text[rounding[-1].end() :] if rounding else text


def _without_explanation(text: str) -> str:
    """Remove the explanation after the first number, and parenthesised text with digits there."""
    first = re.search(r"\d", text)
    if first is None:
        return text
    text = re.sub(
        r"(?<=[\w%°])(\s*)\((?:[^()]*\d[^()]*)\)",
        lambda m: m[1] if _follows_number(text, m.start()) else m[0],
        text,
    )
    ends = [cut.start() for pattern in (EXPLANATION, PURPOSE) if (cut := pattern.search(text, first.end()))]
    if ends:
        return text[: min(ends)]
    return text


def _follows_number(text: str, position: int) -> bool:
    return (
        re.search(r"\d[\d.,]*(?:\s*[A-Za-z$%°]+){0,3}\s*$", text[max(0, position - 60) : position])
        is not None
    )


def _trailing_arithmetic(text: str, numbers: list[WrittenNumber]) -> str:
    """The arithmetic at the end of a text, without trailing words; empty if there is none."""
    if not numbers:
        return ""
    match = re.search(r"[\d\s.,()+\-*/^×÷{}]*$", text[: numbers[-1].end])
    arithmetic = match[0].strip(" ,.") if match else ""
    return arithmetic if OPERATOR.search(arithmetic) else ""


def _repeated_value(first: str, second: str) -> Fraction | None:
    """The value of `18 (9 * 2)`, a repetition and not a product; None if the values differ."""
    value = evaluate_arithmetic(first)
    return value if value is not None and value == evaluate_arithmetic(second) else None


def _value_of_alternatives(phrase: str) -> Fraction | None:
    """The value of `3/4 or 0.75`, one number in two notations; None if the values differ."""
    first, *others = (parse_number(part) for part in ALTERNATIVE.split(phrase))
    return first if others and all(other == first for other in others) else None
