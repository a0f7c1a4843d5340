"""Extraction of a numeric answer from a reply."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.introductions import LIST_MARKER, STEP
from s2t_eval.evaluation.grading.extraction.math_answer import PLACEHOLDER
from s2t_eval.evaluation.grading.extraction.number_formulas import formula_instead_of_number
from s2t_eval.evaluation.grading.extraction.number_patterns import REPETITION
from s2t_eval.evaluation.grading.extraction.number_phrases import has_number, last_number, read_number
from s2t_eval.evaluation.grading.extraction.number_reading import NumberReading
from s2t_eval.evaluation.grading.extraction.phrase_trimming import MAX_LENGTH
from s2t_eval.evaluation.grading.extraction.remarks import is_assessment, strip_filler
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import (
    Span,
    display_value,
    emphasised_part,
    math_spans,
    unclosed_box,
)
from s2t_eval.evaluation.grading.extraction.statements import MAX_STATEMENTS, Statement
from s2t_eval.evaluation.grading.numbers.number_words import parse_number_words
from s2t_eval.evaluation.grading.numbers.parsing import format_number

LIST_NUMBER = re.compile(r"[\s*_]*(?P<number>\d{1,2})[.)]\s?")
"""A sentence that is the number of a list item: `4.`; the item behind it is a sentence of its own."""
BOXED_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z\d]")
"""A letter or digit that is no part of a command."""
VALUE_BEHIND_BOX = re.compile(r"[\s$*)\]\\]{0,9}[=:≈]\s{0,9}\S")
REJECTED = re.compile(
    r"^[^;,\n]{1,60}?\s(?:is|was)(?:\s+not|n['’]t)\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|number|result|solution|total))?\s*(?:[;,]|$)"
    r"|^[^;,\n]{1,60}?\s(?:is|was)\s+(?:wrong|incorrect)\s*(?:[;,]|$)",
    re.I,
)
"""A clause that rejects a number: `18 is not the correct answer; it is 20`."""
MAX_NUMBERINGS = 4
"""Limit for degenerate text that repeats a numbering."""


def extract_last_number(reply: Reply) -> str | None:
    """Return the last boxed number, otherwise the last stated one, otherwise the last number of the reply.

    Where a box holds something else, or a formula that is not a number stands where the number of a phrase
    or sentence would, no other number is read: this content is the (incorrect) answer.

    Example:
        >>> extract_last_number(Reply("He pays 2 * 9 = 18 dollars."))
        '18'
    """
    return _explicit_number(reply) or _boxed_formula(reply) or _last_number(reply) or _number_in_words(reply)


def extract_integer(reply: Reply) -> str | None:
    """Return a boxed or stated number, otherwise the last sentence's number if the reply is not truncated."""
    answer = _explicit_number(reply) or _boxed_formula(reply)
    if answer is not None or reply.truncated or not reply.answer_sentences:
        return answer
    sentence = _sentence_text(reply, reply.answer_sentences[-1])
    reading = _formula_reading(sentence) or last_number(sentence)
    return reading.answer if reading else _number_in_words(reply)


def _explicit_number(reply: Reply) -> str | None:
    """The last parsable box, unless a later sentence states a number and nothing else."""
    boxes = (
        (box, read_number(box.content, is_boxed=True)) for box in reversed(reply.boxes[-MAX_STATEMENTS:])
    )
    boxed = next(((box, reading) for box, reading in boxes if reading), None)
    for statement in reversed(reply.statements):
        if boxed and statement.is_certain and statement.opens_sentence and statement.start >= boxed[0].end:
            reading = read_number(statement.phrase, is_boxed=False)
            if reading is not None and reading.is_number and reading.is_whole:
                return reading.answer
    if boxed:
        return boxed[1].answer
    last_start = max((part.start for part in _numeric_sentences(reply)), default=0)
    stated = [
        reading
        for statement in reversed(reply.statements)
        if (statement.is_certain or not reply.boxes)
        and (reading := _number_in_statement(statement, statement.end > last_start))
    ]
    return max(stated, key=lambda reading: reading.is_first).answer if stated else None


def _number_in_statement(statement: Statement, is_last: bool) -> NumberReading | None:
    """The number in a statement.

    Args:
        statement: the statement.
        is_last: whether no sentence after it contains a number. A statement that may be an intermediate
            result counts only if it is the last one.
    """
    phrase, _ = strip_filler(statement.phrase)
    if is_assessment(phrase) or "\\boxed" in phrase:
        return None
    reading = read_number(_leading_formula(phrase), is_boxed=False)
    if reading is None and (formula := _formula_reading(phrase)) is not None and formula.is_first:
        reading = formula
    if reading is not None and (
        is_last or (statement.is_certain and (not statement.is_heading or not re.search(r"\d[^=]*=", phrase)))
    ):
        return reading
    if reading is None and (
        is_last or (statement.is_certain and (not statement.is_heading or statement.is_final))
    ):
        reading = _number_at_end(phrase)
        return reading and reading._replace(is_first=False)
    return None


def _last_number(reply: Reply) -> str | None:
    """The number at the end of the last sentence that contains one."""
    if (
        not reply.truncated
        and (box := unclosed_box(reply.text))
        and (reading := read_number(box, is_boxed=True))
    ):
        return reading.answer
    sentences = [part for part in _numeric_sentences(reply) if "\\boxed" not in part.content]
    while len(sentences) > 1 and REPETITION.match(sentences[-1].content):
        sentences.pop()
    for sentence in reversed(sentences):
        text = _sentence_text(reply, sentence)
        emphasised = read_number(emphasised_part(text[-MAX_LENGTH:]) or "", is_boxed=False)
        if emphasised is not None and emphasised.is_number:
            return emphasised.answer
        reading = read_number(text, is_boxed=False)
        if reading is None or not reading.is_whole:
            is_broken_off = bool(reply.truncated) and sentence.end >= len(reply.text.rstrip())
            reading = _number_at_end(text, is_broken_off)
        if reading is not None:
            return reading.answer
    return None


def _numeric_sentences(reply: Reply) -> list[Span]:
    """The sentences with a number, up to the last one that does more than number a step or an item.

    A truncated reply may end with `Step 4:` or `4.`; a reply of nothing else is left as it is.
    """
    sentences = [part for part in reply.answer_sentences if has_number(part.content)]
    for part in reversed(sentences[-MAX_NUMBERINGS:]):
        if len(sentences) == 1 or not _is_numbering(reply.text, part):
            break
        sentences.pop()
    return sentences


def _is_numbering(text: str, sentence: Span) -> bool:
    """Whether a sentence is the heading of a step, or the number of an item behind the item before.

    A comment in a program that is cut off is neither: the numbers before it are the program's.
    """
    if text.count("```", 0, sentence.start) % 2:
        return False
    if STEP.match(LIST_MARKER.sub("", sentence.content).strip("*_ ")):
        return True
    item = LIST_NUMBER.fullmatch(text, sentence.start, min(len(text), sentence.end + 1))
    if item is None:
        return False
    item_before = re.compile(rf"^[*_ ]{{0,4}}{int(item['number']) - 1}[.)]\s", re.MULTILINE)
    return item_before.search(text, 0, sentence.start) is not None


def _sentence_text(reply: Reply, sentence: Span) -> str:
    """The sentence without a rejected number and without a list marker, which would be read as a minus."""
    is_item = reply.text[sentence.start - 1 : sentence.start] == "\n" and len(reply.sentences) > 1
    text = re.sub(r"^[-–—•]\s+(?=\S)", "", sentence.content) if is_item else sentence.content
    return REJECTED.sub("", text)


def _number_in_words(reply: Reply) -> str | None:
    """The value of a reply that consists of a number in words: `Five apples.`"""
    if len(reply.sentences) != 1 or (value := parse_number_words(reply.sentences[0].content)) is None:
        return None
    return format_number(value)


def _number_at_end(sentence: str, is_broken_off: bool = False) -> NumberReading | None:
    """The number at the end of a sentence, inside or outside a formula.

    Args:
        sentence: the sentence, or a phrase of it.
        is_broken_off: whether a truncated text ends within it, so that its last formula is not known to be
            whole: the number before the break counts; default False.
    """
    spans = math_spans(sentence)
    if spans and not has_number(sentence[spans[-1].end :]):
        reading = read_number(display_value(spans[-1].content), is_boxed=True)
        if reading is not None and reading.is_number and len(spans) == 1:
            return reading
    formula = None if is_broken_off else _formula_reading(sentence)
    return formula or last_number(sentence)


def _formula_reading(text: str) -> NumberReading | None:
    """The formula in whose place no other number is read, as with a box: `the area is $10\\pi$`."""
    formula = formula_instead_of_number(text)
    if formula is None:
        return None
    return NumberReading(formula, False, False, is_first=text.lstrip("$\\([*_ ").startswith(formula))


def _leading_formula(phrase: str) -> str:
    """The formula at the start of a phrase; the whole phrase if it does not start with one."""
    spans = math_spans(phrase)
    if spans and spans[0].start == 0:
        return display_value(spans[0].content)
    return phrase


def _boxed_formula(reply: Reply) -> str | None:
    """The content of a box that is not a number: an incorrect answer, in whose place no other number is read.

    A box with a placeholder or a symbol, and one that names the value behind it, holds no answer:
    `\\boxed{\\text{Total}} = 18`.
    """
    return next(
        (
            box.content
            for box in reversed(reply.boxes)
            if BOXED_WORD.search(box.content)
            and not PLACEHOLDER.fullmatch(box.content)
            and not VALUE_BEHIND_BOX.match(reply.text, box.end)
        ),
        None,
    )
