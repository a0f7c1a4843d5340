"""The number that begins a phrase without an equals sign: 18 in `18 eggs in 7 days`, none in `5 to 10`."""

from __future__ import annotations

import re
from fractions import Fraction

from s2t_eval.evaluation.grading.extraction.number_patterns import (
    DIFFERENCE,
    FORMULA_BETWEEN,
    JOINER,
    LABEL,
    LETTER_UNITS,
    LIST_SEPARATOR,
    OPERATOR,
    PART_OF_WHOLE,
    PURPOSE,
    RANGE_START,
    RATIO_OR_TIME,
    RELATIVE_CLAUSE,
    UNIT_FAMILIES,
    VERB,
    WORDS_ONLY,
)
from s2t_eval.evaluation.grading.extraction.number_reading import NumberReading
from s2t_eval.evaluation.grading.extraction.phrase_trimming import without_explanation
from s2t_eval.evaluation.grading.extraction.remarks import EXPLANATION, strip_filler
from s2t_eval.evaluation.grading.numbers.arithmetic import evaluate_arithmetic
from s2t_eval.evaluation.grading.numbers.parsing import (
    NOT_UNITS,
    WrittenNumber,
    find_numbers,
    format_number,
    to_running_text,
)


def leading_number(phrase: str, is_boxed: bool) -> NumberReading | None:
    """The number at the beginning of a phrase, if its answer is that number.

    Args:
        phrase: a phrase without styling and repetitions.
        is_boxed: whether it is the content of a box, which may contain words before its number.

    Returns:
        None if the phrase begins with no number, or is a formula or a sentence; for several numbers that
        form one answer, the phrase itself.
    """
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
        is_single = is_boxed or not VERB.search(without_explanation(rest))
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
    if not is_boxed and VERB.search(without_explanation(rest)):
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
    text = text if is_boxed else without_explanation(text)
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
