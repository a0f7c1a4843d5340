"""Extraction of a mathematical expression, or of a short answer in words, from a reply."""

from __future__ import annotations

import re
from typing import NamedTuple

from s2t_eval.evaluation.grading.extraction.formulas import (
    COMMAND,
    LIST_SEPARATOR,
    explanation_start,
    looks_mathematical,
    right_hand_side,
    strip_explanation,
)
from s2t_eval.evaluation.grading.extraction.last_sentence import answer_in_last_sentence
from s2t_eval.evaluation.grading.extraction.remarks import (
    is_assessment,
    is_negated,
    strip_filler,
)
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import (
    MARKUP_CHARACTERS,
    Span,
    box_spans,
    display_value,
    math_spans,
    unclosed_box,
)
from s2t_eval.evaluation.grading.extraction.statements import Statement
from s2t_eval.evaluation.grading.numbers.arithmetic import evaluate_arithmetic
from s2t_eval.evaluation.grading.numbers.parsing import format_number, number_values, parse_number

MAX_WORDS = 6
"""Maximum number of words of an answer in words; longer phrases are prose."""
PLACEHOLDER = re.compile(
    r"(?:\\(?:text|textbf|mathrm)\{)?(?:(?:the|your|my|final|correct|answer|here|result|value|solution|in|box|goes)[\s_]*)+\}?|(?:\\[lc]?dots|\.{2,}|…|\?+|_+)|[Xx]{2,}",
    re.I,
)
WORDS_WITH_REASON = re.compile(
    r"(?:(?:an?|the)\s+)?([A-Za-z-]{2,}(?:\s+[A-Za-z-]{2,})?)[*_]{0,3},?\s+(?:because|since)\b", re.I
)
"""An answer in words with a reason behind: `Monday, since $100 \\equiv 2 \\pmod 7$`."""
YES_OR_NO = re.compile(r"(yes|no|true|false)\b(?=\s*[,.;:—–]|\s+because\b|\s*$)", re.I)
PROSE_WORD = re.compile(
    r"\b(?:is|are|was|were|be|we|I|you|he|she|they|it|let|have|has|had|get|gets|find|use|using|can|cannot|will|that|this|there|which|because|if|then)\b|^(?:to|that|by|in|at|from|with|for|on|obtained|found)\b|[:?]",
    re.I,
)


class MathReading(NamedTuple):
    """An extracted answer and properties that rank it among the candidates.

    Args:
        answer: the extracted text.
        is_math: whether it is mathematics, not words.
        is_whole: whether the phrase consists of nothing else.
        is_first: whether the phrase begins with it.
    """

    answer: str
    is_math: bool
    is_whole: bool
    is_first: bool = True


def extract_expression(reply: Reply) -> str | None:
    """Return the last box, otherwise the last statement, otherwise the end of the last sentence.

    A statement after the last box overrides it if it begins its sentence and consists of a mathematical
    answer and nothing else. The last sentence counts only if the reply was not truncated.

    Example:
        >>> extract_expression(Reply("Hence the answer is $x+1$."))
        'x+1'
    """
    boxed = [box for box in reply.boxes if not PLACEHOLDER.fullmatch(box.content)]
    readings = [
        (statement, _answer_in_statement(reply, statement)) for statement in reversed(reply.statements)
    ]
    if boxed:
        for statement, reading in readings:
            if (
                statement.start >= boxed[-1].end
                and statement.is_certain
                and statement.opens_sentence
                and reading
                and reading.is_math
                and reading.is_whole
            ):
                return reading.answer
        return boxed[-1].content
    stated = [reading for _, reading in readings if reading is not None]
    if stated:
        return max(stated, key=lambda reading: (reading.is_math, reading.is_math and reading.is_first)).answer
    if reply.truncated:
        return None
    return unclosed_box(reply.text) or answer_in_last_sentence(reply)


def _answer_in_statement(reply: Reply, statement: Statement) -> MathReading | None:
    """The answer in a statement; a possibly intermediate result counts only at the end of the reply."""
    reading = _answer_in_phrase(statement.phrase)
    is_last = bool(reply.answer_sentences) and statement.end >= reply.answer_sentences[-1].end
    if (
        reading is None
        or is_last
        or (statement.is_certain and (not statement.is_heading or (reading.is_math and reading.is_whole)))
    ):
        return reading
    return None


def _answer_in_phrase(phrase: str) -> MathReading | None:
    phrase, is_approximate = strip_filler(phrase)
    if is_negated(phrase) or is_assessment(phrase):
        return None
    if boxes := box_spans(phrase):
        return MathReading(boxes[-1].content, True, False)
    if reasoned := WORDS_WITH_REASON.match(phrase):
        return MathReading(reasoned[1], False, False)
    if spans := math_spans(phrase):
        return _answer_in_formulas(phrase, spans, is_approximate)
    if yes_or_no := YES_OR_NO.match(phrase):
        return MathReading(yes_or_no[1], False, False)
    phrase = _without_computation(strip_explanation(phrase))
    if parse_number(phrase) is not None or looks_mathematical(phrase):
        return MathReading(phrase, True, not is_approximate)
    if "\\" in phrase and not PROSE_WORD.search(COMMAND.sub(" ", phrase)):
        return MathReading(phrase, True, False)
    if (right_side := right_hand_side(phrase)) is not None:
        return MathReading(right_side, True, False)
    values = number_values(phrase)
    if len(values) == 1 and not PROSE_WORD.search(phrase):
        return MathReading(
            phrase if len(phrase.split()) <= MAX_WORDS else format_number(values[0]), True, False
        )
    if len(values) == 1:
        return MathReading(format_number(values[0]), True, False)
    words = re.sub(r"^(?:an?|the)\s+", "", phrase, flags=re.I).strip(MARKUP_CHARACTERS + ".,;!")
    if (
        words
        and len(words.split()) <= MAX_WORDS
        and not PROSE_WORD.search(words)
        and not is_assessment(words)
    ):
        return MathReading(words, False, False)
    return None


def _without_computation(phrase: str) -> str:
    """The number of `27 (8 + 9 + 10)`, whose computation in brackets has the same value, not a product."""
    match = re.fullmatch(r"([^()]+)\s\(([^()]+\S[^()]+)\)", phrase)
    value = parse_number(match[1]) if match else None
    is_computed = match and value is not None and value == evaluate_arithmetic(match[2])
    return match[1] if match and is_computed else phrase


def _answer_in_formulas(phrase: str, spans: list[Span], is_approximate: bool) -> MathReading | None:
    """The leading formulas of a phrase, otherwise the last formula before an explanation."""
    prefix = phrase[: spans[0].start].strip(MARKUP_CHARACTERS + "(")
    if prefix and not re.fullmatch(r"[A-Za-z]\s*=|[$]|-|(?:an?|the|either|both)", prefix):
        limit = explanation_start(phrase, spans)
        before = [span for span in spans if span.start < limit]
        return MathReading(display_value((before or spans)[-1].content), True, False, is_first=False)
    group = [spans[0]]
    for span in spans[1:]:
        if not LIST_SEPARATOR.fullmatch(phrase[group[-1].end : span.start]):
            break
        group.append(span)
    answers = [display_value(span.content) for span in group]
    values = [parse_number(answer) for answer in answers]
    if values[0] is not None and len(set(values)) == 1:
        answers = answers[:1]
    rest = phrase[group[-1].end :].strip(MARKUP_CHARACTERS + ".,;!)")
    return MathReading(", ".join(answers), True, not rest and not is_approximate)
