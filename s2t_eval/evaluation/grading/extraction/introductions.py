"""Whether the text before a `Problem:` or `Question:` answers a problem, or introduces one that is restated.

A base model that has answered may invent a further problem and answer that. An instruct model may restate its
own problem, after "To solve for $x$, we restate:", and answer it only then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from s2t_eval.evaluation.grading.extraction.remarks import is_assessment, strip_filler
from s2t_eval.evaluation.grading.extraction.spans import Span, box_spans
from s2t_eval.evaluation.grading.extraction.statements import Statement

INTERJECTION = re.compile(
    r"(?:sure(?:\s+thing)?|certainly|absolutely|definitely|of\s+course|ok(?:ay)?|alright|all\s+right|great|gladly"
    r"|understood|got\s+it|hello|hi|thank\s+you|thanks|welcome|no\s+problem)\b",
    re.I,
)
ACTION = r"""(?:re-?state|re-?phrase|re-?write|re-?read|read|break|solve|find
    |determine|calculate|compute|analy[sz]e|understand|identify|look|start|begin|go|follow|use|work|think|set|consider|clarify|need|want|answer|show|do|proceed|tackle|approach|walk|dive|examine|explain
    |figure|know|define|denote|apply|provide|list|note|recall|translate|summari[sz]e|help)\b(?!\s+that\b)"""
ANNOUNCEMENT = re.compile(
    rf"""[^=]*\b(?:let['’]?s|let\s+us|let\s+me|(?:we\s+are|we['’]re)\s+(?:asked|given|told|looking|to)|you\s+(?:asked|want)
    |(?:we|I)(?:['’]ll|\s+(?:will|must|should|can)|\s+(?:\w+\s+)?(?:need|want|have|have\s+been\s+asked|am\s+going|are\s+going)\s+to)
      \s+(?:\w+ly\s+|first\s+|now\s+)?{ACTION}
    |(?:we|I)\s+(?:first\s+|now\s+)?(?:re-?state|re-?phrase|start|begin))\b
    |(?:in\s+)?(?:this|the|your|our)\s+(?:\w+\s+){{0,2}}?(?:problem|question|exercise|task|scenario|puzzle)\b
    |here(?:['’]s|\s+is|\s+are)\b|(?:below|the\s+following)\s+(?:is|are)\b
    |(?:first(?:ly)?|start|begin|follow|read|consider|restate|restating|understand(?:ing)?|analy[sz](?:e|ing|is))\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""Start of a sentence that says what follows, or describes the problem."""
GIVEN = re.compile(r"(?:given|known|data|facts?|conditions?|information)(?:\s+\w+)?\s*[*_]*:", re.I)
RESTATEMENT = re.compile(
    r"\b(?:given|known|facts?|data|information|conditions?|what\s+we\s+know|re-?stat\w*|re-?phras\w*"
    r"|understand(?:ing)?\s+(?:the|this)\s+(?:problem|question))\b(?!.*\d)",
    re.I,
)
"""A heading or an announcement, behind which the problem is restated."""
DERIVATION = re.compile(
    r"=|\d\s*(?:[+*/×÷]|\s[-–−]\s)\s*[$\d]|\\(?:times|cdot|div|frac)|\b(?:solution|answer|step)\b", re.I
)
"""Part of a solution, which ends a restatement."""
CONCLUSION = re.compile(
    r"\b(?:so(?!,?\s+(?:let|that|I|we\s+(?:have|need|want|are|can|will))\b)|thus|hence|therefore|answer\s+is"
    r"|we\s+(?:get|have(?!\s+(?:to|been))|find))\b|:.*=",
    re.I,
)
HEADING = re.compile(
    r"(?:(?:step|part|phase)\b[^=]*$|.*\b(?:problem|question|solution|approach|introduction|overview|explanation"
    r"|understanding|analysis|restat\w*|steps?|given)\b[^=]{0,30}$)",
    re.I,
)
STEP = re.compile(r"(?:step|part|phase)\s*\d+[^=\d$\\]*$", re.I)
IS_HEADING = re.compile(r"\s*(?:#{1,6}\s|(?:\d+[.)]\s*)?\*\*[^*\n]+\*\*:?\s*$)")
LIST_MARKER = re.compile(r"^(?:[#>\s*_-]+|\d{1,2}[.)]\s+)+")
MAX_LINE = 200


def states_answer(boxes: Sequence[Span], statements: Sequence[Statement]) -> bool:
    """Whether a text has a box, or a statement that mentions an answer and does not only describe it."""
    return bool(boxes) or any(
        statement.is_certain
        and not is_assessment(phrase := strip_filler(statement.phrase)[0])
        and not is_announcement(phrase)
        for statement in statements
    )


def introduces_problem(text: str, sentences: Sequence[Span], start: int, after: str) -> bool:
    """Whether a text without a stated answer leaves its problem open, so that a question after it is its own.

    Args:
        text: the text before a label such as `Problem:`.
        sentences: its sentences.
        start: where the part after its last label of this kind and the restated problem behind that begins;
            0 without such a label.
        after: the text from the label on. A box in it is the answer: a reply that boxes its answers
            would have boxed an earlier one.
    """
    if box_spans(after):
        return True
    is_restating = False
    for sentence in sentences:
        if sentence.start < start:
            continue
        is_announced = is_announcement(
            sentence.content, text[sentence.end : sentence.end + 1], _line(text, sentence)
        )
        if is_announced and RESTATEMENT.search(sentence.content):
            is_restating = True
        elif DERIVATION.search(sentence.content) or CONCLUSION.search(sentence.content):
            is_restating = False
        if not (is_announced or is_restating):
            return False
    return True


def is_announcement(sentence: str, mark: str = "", line: str = "") -> bool:
    """Whether a sentence is an interjection, a heading, or says what follows.

    Args:
        sentence: without its mark at the end.
        mark: its mark at the end: `.`, `!`.
        line: the line that contains it.

    Example:
        >>> is_announcement("To solve for $x$, we restate:")
        True
        >>> is_announcement("She makes 18 dollars")
        False
    """
    text = LIST_MARKER.sub("", sentence).strip("*_ ")
    if re.fullmatch(r"\d{1,2}", text) and mark == "." and line.strip("*_ .") != text:
        return True  # the number of a list item
    if not text or (text.endswith(":") and not re.search(r"\d\s*$|=", text.rstrip(":*_ "))):
        return True
    if INTERJECTION.match(text) and (mark == "!" or len(text.split()) <= 2):
        return True
    if mark == "!" and not re.search(r"\d|[$\\]", text):
        return True
    if STEP.match(text) or (IS_HEADING.match(line) and HEADING.match(text)):
        return True
    if GIVEN.match(text):
        return True
    return ANNOUNCEMENT.match(text) is not None and CONCLUSION.search(text) is None


def _line(text: str, sentence: Span) -> str:
    """The line around the start of a sentence, at most `MAX_LINE` characters on either side."""
    before = text[max(0, sentence.start - MAX_LINE) : sentence.start].rsplit("\n", 1)[-1]
    return before + text[sentence.start : sentence.start + MAX_LINE].split("\n", 1)[0]
