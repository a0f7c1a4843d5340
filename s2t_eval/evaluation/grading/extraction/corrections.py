"""Corrections of a reply by itself: `The answer is 28. Wait, let me recount: it is 27.`"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from s2t_eval.evaluation.grading.extraction.option_lists import OPTION_START
from s2t_eval.evaluation.grading.extraction.spans import Span, find_sentences

WITHDRAWAL = re.compile(
    r"""(?:^|\n|[.!?…,;)\]}*]\s{1,9}|\s[-–—]\s?|…\s?)[\s*_>\#($]{0,9}(?:(?:but|oh|ah|well|hmm{1,9}|no)[,.…!]{0,9}\s{1,9}){0,4}
    (?P<words>(?:wait|hold\s+on|hmm+|oops|actually)(?=\s*[,.!:;…–—-]|\s+(?:I|we|that|this|it|there|let|no)\b)
    |no,|(?:I['’]m\s+|I\s+am\s+)?sorry\b|(?:my\s+)?apologies\b|I\s+apologi[sz]e\b|correction\b|on\s+second\s+thoughts?\b
    |I\s+(?:was\s+wrong|made|forgot|misread|mis(?:calculated|counted)|overlooked)\b
    |(?P<verdict>(?:this|that)(?:\s+is|['’]s)\s+(?:wrong|incorrect|not\s+right)\b))""",
    re.I | re.X,
)
"""Words at the start of a sentence, or behind a comma or a dash, by which a reply interrupts itself. A
`verdict` judges what stands before it, which may be something else than the answer."""
LABELLED_OPTION = re.compile(rf"{OPTION_START}(?:\s?[)\].:|*]|\s+[-–—]\s)", re.I)
"""The start of a line with the label of an option, behind which a dash may precede the option's text."""
OPTION_LETTER = re.compile(r"(?:^|[\s*(])[A-J]$")
"""The end of a sentence behind which the text of its option follows: `The answer is B. Meiosis.`"""
ERROR = re.compile(
    r"""\b(?:wrong|incorrect|mistake|mistaken|error|misread|mis(?:calculated|counted|took)|re-?(?:count|calculate|compute|do)
    |forgot|overlooked|should\s+(?:be|have)|not\s+(?:right|correct|true|quite)|correction|I\s+meant?|no,
    |(?:that|this|it)\s+(?:is|was)n['’]t\s+(?:right|correct|true))(?!\w)
    |\b(?:it|this|that|there|answer)(?:['’]s|\s+(?:is|are))\s+(?:actually\s+|in\s+fact\s+)?(?:[$\\(*\d-]|(?:option\s+)?(?-i:[A-J])\b)(?![^.\n]*\bthan\b)""",
    re.I | re.X,
)
"""Words by which it calls what it said wrong, or says what is right."""
SECOND_READING = re.compile(r"\bre-?read\b|\bread\b[^.\n]*\bagain\b", re.I)
"""Words that announce a second look at the problem, which is an error only if a computation follows."""
CONFIRMATION = re.compile(
    r"""\byes\b|\bchecks\s+out\b|\bno\s+(?:mistakes?|errors?)\b
    |\b(?:that|this|it|which|everything|all|answer|result|total|solution|calculation|work|[\d.]+\W*)(?:\s+(?:is|was|are|looks|seems|still|remains)|['’]s)
    \s+(?:\w+ly\s+|still\s+|indeed\s+|also\s+|in\s+fact\s+)*(?:correct|right|fine|good|the\s+same|consistent|confirmed)\b
    |\b(?:that|this|it|which|answer|result)(?:\s+(?:is|was)|['’]s)\s+(?:still|indeed)\b|\b(?:that|this|it|which|result)\s+(?:matches|agrees|confirms)\b
    |\bforgot\s+to\s+(?:mention|say|note)\b|\bat\s+first\b|\binitially\b""",
    re.I | re.X,
)
"""Words by which it confirms what it said, or only mentions an earlier error."""
MAX_WITHDRAWALS, MAX_LENGTH = 16, 2000


def correction_start(text: str, start: int, answer_end: int, sentences: Sequence[Span]) -> int | None:
    """Return the position behind the words that withdraw an answer; None if it stands.

    Args:
        text: the reply.
        start: position of the last stated or boxed answer, behind which the correction is searched.
        answer_end: position at which the answer ends that a mere "This is wrong" may withdraw, if it directly
            follows the sentence of this answer.
        sentences: the reply's sentences.

    Example:
        >>> text = "The answer is 28. Wait, that is wrong: it is 27."
        >>> text[correction_start(text, 0, 16, find_sentences(text)):]
        ', that is wrong: it is 27.'
        >>> text = "The answer is 28. Some add 3. That is wrong: it is 31."
        >>> correction_start(text, 0, 16, find_sentences(text)) is None
        True
    """
    for withdrawal in islice(WITHDRAWAL.finditer(text, start), MAX_WITHDRAWALS):
        if withdrawal["verdict"] and not _judges_answer(
            text, withdrawal.start("words"), answer_end, sentences
        ):
            continue
        rest = text[withdrawal.start("words") : withdrawal.start("words") + MAX_LENGTH]
        first_sentences = find_sentences(rest)[:2]
        end = first_sentences[-1].end if first_sentences else 0
        is_error = ERROR.search(rest, 0, end) or ("=" in rest and SECOND_READING.search(rest, 0, end))
        if is_error and CONFIRMATION.search(rest) is None:
            return withdrawal.end()
    return None


def _judges_answer(text: str, verdict: int, answer_end: int, sentences: Sequence[Span]) -> bool:
    """Whether "This is wrong" at a position judges the answer, not a sentence behind it or another option."""
    if LABELLED_OPTION.match(text[text.rfind("\n", 0, verdict) + 1 : verdict]):
        return False
    starts = [sentence.start for sentence in sentences]
    answer, judged = (bisect_right(starts, position) - 1 for position in (answer_end - 1, verdict))
    is_option = answer >= 0 and OPTION_LETTER.search(sentences[answer].content) is not None
    return judged - answer <= 1 + is_option
