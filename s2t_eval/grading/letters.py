"""The letter of a multiple-choice answer: from a box or a statement, never from a letter in passing."""

from __future__ import annotations

import re

from s2t_eval.grading.text import STATEMENT, boxes

LETTERS = "ABCDEFGHIJ"
WRAPPED = r"[\s*_`$\"'“]*(?:\\(?:text|textbf|mathrm|mathbf|boldsymbol)\s*\{\s*)?"
IN_BOX = re.compile(rf"{WRAPPED}(?:option|choice|answer)?{WRAPPED}\(?\s*([A-Ja-j])\s*\)?(?![A-Za-z])", re.I)
BRACKETED = re.compile(rf"{WRAPPED}(?:(?:option|choice)\s*)?{WRAPPED}[(\[]\s*([A-Ja-j])\s*[)\]]", re.I)
BARE = re.compile(rf"{WRAPPED}(?:(?:option|choice)\s*)?{WRAPPED}(?-i:([A-J]))(?![\w'’\-])", re.I)
AFTER_WORD = re.compile(
    r"[\s*_`\"'”}$]*(?:$|[.,;:)\]\n(—–]|because\b|since\b|as\b|which\b|with\b|and\b|for\b)"
)
"""What may follow the letters that are also English words, so that "A large dog" is no answer."""
TAKEN_BACK = re.compile(r"[\s*_`\"'”}$)\].,]*(?:is|was)\s+(?:wrong|incorrect|not\b)", re.I)


def letter_of(text: str) -> str | None:
    """The last letter that a box or an answer statement names, "A" to "J"; None where none does."""
    for box in reversed(boxes(text)):
        if found := IN_BOX.match(box):
            return found[1].upper()
    for statement in reversed(list(STATEMENT.finditer(text))):
        if letter := _after(text, statement.end()):
            return letter
    return None


def _after(text: str, place: int) -> str | None:
    if found := BRACKETED.match(text, place):
        letter = found[1].upper()
    elif found := BARE.match(text, place):
        letter = found[1]
        if letter in "AI" and not AFTER_WORD.match(text, found.end()):
            return None
    else:
        return None
    return None if TAKEN_BACK.match(text, found.end()) else letter
