"""The number that a reply gives as its answer."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.numbers import write
from s2t_eval.evaluation.grading.numerals import worded_number
from s2t_eval.evaluation.grading.quantities import Reading, has_number, last_number, read_number
from s2t_eval.evaluation.grading.remarks import is_judgement, without_filler
from s2t_eval.evaluation.grading.reply import Reply
from s2t_eval.evaluation.grading.statements import MOST, Statement
from s2t_eval.evaluation.grading.text import Span, display_value, math_spans, unclosed_box


def read_last_number(reply: Reply) -> str | None:
    """The last boxed number, or else the last stated one, or else the last one of the reply."""
    return _explicit_number(reply) or _last_number(reply) or _boxed_formula(reply) or _only_words(reply)


def read_integer(reply: Reply) -> str | None:
    """A boxed or stated number, or else that of the last sentence of an unbroken reply."""
    answer = _explicit_number(reply) or _boxed_formula(reply)
    if answer is not None or reply.truncated or not reply.saying:
        return answer
    found = last_number(_unlisted(reply, reply.saying[-1]))
    return found.answer if found else _only_words(reply)


def _explicit_number(reply: Reply) -> str | None:
    """The last box that can be read, unless a later statement is a number and nothing else."""
    boxes = ((box, read_number(box.inside, boxed=True)) for box in reversed(reply.boxes[-MOST:]))
    boxed = next(((box, found) for box, found in boxes if found), None)
    for item in reversed(reply.statements):
        if boxed and item.certain and item.start >= boxed[0].end:
            found = read_number(item.said, boxed=False)
            if found is not None and found.is_number and found.is_whole:
                return found.answer
    if boxed:
        return boxed[1].answer
    last = next((part.start for part in reversed(reply.saying) if has_number(part.inside)), 0)
    stated = [found for item in reversed(reply.statements) if (found := _of_statement(item, item.end > last))]
    return max(stated, key=lambda found: found.is_first).answer if stated else None


def _of_statement(item: Statement, is_last: bool) -> Reading | None:
    """The number that a statement gives.

    Args:
        item: the statement.
        is_last: whether nothing with a number is said behind it; one that may be on the way has to be.
    """
    said, _ = without_filler(item.said)
    if is_judgement(said) or "\\boxed" in said:
        return None
    found = read_number(_first_formula(said), boxed=False)
    if found is not None and (
        is_last or (item.certain and (not item.heading or not re.search(r"\d[^=]*=", said)))
    ):
        return found
    if found is None and (is_last or (item.certain and (not item.heading or item.final))):
        found = _end_of(said)
        return found and found._replace(is_first=False)
    return None


def _last_number(reply: Reply) -> str | None:
    """The number that the last sentence with a number ends with."""
    if not reply.truncated and (box := unclosed_box(reply.text)) and (found := read_number(box, boxed=True)):
        return found.answer
    for part in reversed(reply.saying):
        if "\\boxed" not in part.inside and has_number(part.inside):
            said = _unlisted(reply, part)
            found = read_number(said, boxed=False)
            if found is None or not found.is_whole:
                found = _end_of(said)
            if found is not None:
                return found.answer
    return None


def _unlisted(reply: Reply, part: Span) -> str:
    """A sentence without the dash that makes it an item of a list, and is no minus."""
    is_item = reply.text[part.start - 1 : part.start] == "\n" and len(reply.sentences) > 1
    return re.sub(r"^[-–—•]\s+(?=\S)", "", part.inside) if is_item else part.inside


def _only_words(reply: Reply) -> str | None:
    """The number that the whole reply is, in words: `Five apples.`"""
    if len(reply.sentences) != 1 or (value := worded_number(reply.sentences[0].inside)) is None:
        return None
    return write(value)


def _end_of(sentence: str) -> Reading | None:
    """The number that a sentence ends with, be it in a formula."""
    spans = math_spans(sentence)
    if spans and not has_number(sentence[spans[-1].end :]):
        found = read_number(display_value(spans[-1].inside), boxed=True)
        if found is not None and found.is_number and len(spans) == 1:
            return found
    return last_number(sentence)


def _first_formula(said: str) -> str:
    """The formula that a statement begins with, or else all of it."""
    spans = math_spans(said)
    if spans and spans[0].start == 0:
        return display_value(spans[0].inside)
    return said


def _boxed_formula(reply: Reply) -> str | None:
    """A box with a formula that is no number: an answer, and not the right one."""
    return next((box.inside for box in reversed(reply.boxes) if re.search(r"\d", box.inside)), None)
