"""Extraction of the number that a phrase states: 18 from `18 eggs in 7 days`, none from `5 to 10`."""

from __future__ import annotations

import re
from fractions import Fraction

from s2t_eval.evaluation.grading.extraction.leading_number import leading_number
from s2t_eval.evaluation.grading.extraction.number_patterns import (
    AFTER_ACTION,
    ALTERNATIVE,
    CHANGE,
    CLOCK,
    COMPOUND_WORD,
    CONCLUSION,
    EARLIER_VALUE,
    EQUALS_SIGN,
    FURTHER_CLAUSE,
    NEXT_NAME,
    NEXT_NAME_IN_BOX,
    OPERATOR,
    PART_OF_WHOLE,
    PRICE,
    PRICE_OF_ITEMS,
    RANGE_START,
    RATIO_OR_TIME,
    REFERENCE_TO_GIVEN,
    THAT_IS,
    VERB,
)
from s2t_eval.evaluation.grading.extraction.number_reading import NumberReading
from s2t_eval.evaluation.grading.extraction.phrase_trimming import (
    rounded_value,
    strip_styling,
    without_circumstance,
    without_explanation,
    without_repetition,
)
from s2t_eval.evaluation.grading.numbers.arithmetic import evaluate_arithmetic
from s2t_eval.evaluation.grading.numbers.number_words import parse_number_words
from s2t_eval.evaluation.grading.numbers.parsing import (
    WrittenNumber,
    find_numbers,
    format_number,
    parse_number,
    to_running_text,
)


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
    phrase = strip_styling(phrase)
    if not re.search(r"\d", phrase):
        words_value = parse_number_words(phrase)
        return None if words_value is None else NumberReading(format_number(words_value), True, True)
    phrase = rounded_value(without_repetition(phrase))
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
    return leading_number(phrase, is_boxed)


def last_number(sentence: str) -> NumberReading | None:
    """Return the last number of a sentence, ignoring explanations after it."""
    sentence = PART_OF_WHOLE.sub("", without_repetition(strip_styling(sentence)))
    sentence = rounded_value(sentence)
    that_is = THAT_IS.search(sentence)
    if that_is and len(re.findall(r"\d[\d.,]*", sentence[: that_is.start()])) > 1:
        sentence = that_is["value"]
    if (conclusion := CONCLUSION.match(sentence)) and has_number(conclusion["value"]):
        sentence = conclusion["value"]
    sentence = without_explanation(without_circumstance(sentence))
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
    return bool(find_numbers(to_running_text(strip_styling(phrase))))


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
