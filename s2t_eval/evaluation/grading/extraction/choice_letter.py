"""Extraction of the letter of a multiple-choice answer."""

from __future__ import annotations

import re
from itertools import chain

from s2t_eval.evaluation.grading.extraction.called_correct import (
    CALLED_CORRECT,
    CalledLetter,
    letters_called_correct,
)
from s2t_eval.evaluation.grading.extraction.chosen_letter import chosen_letter, letter_in_brackets
from s2t_eval.evaluation.grading.extraction.leading_letter import RETRACTION, leading_letter
from s2t_eval.evaluation.grading.extraction.letter_markup import strip_markup
from s2t_eval.evaluation.grading.extraction.option_lists import is_rejected_option, only_affirmed_option
from s2t_eval.evaluation.grading.extraction.remarks import is_negated, strip_filler
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import MARKUP_CHARACTERS, nonempty_lines
from s2t_eval.evaluation.grading.extraction.statements import Statement

FURTHER_OPTION = re.compile(r"^\W*[A-J][:.)]\s.*[.;,]\s+\(?[A-J][:)]\s")
"""A line that lists several options: `A: the first law. B: the second law.`"""
OTHER_OPTIONS = re.compile(
    r"^[\s*#>]*(?:why\s+(?:not\s+)?|as\s+for\s+)?(?:the\s+)?(?:other|remaining|incorrect|wrong)\s+(?:options|choices|answers|ones)\b",
    re.I | re.M,
)
"""The heading of a discussion of the options that were not chosen."""
OPTION_MENTION = re.compile(
    r"(?:(?:option|choice|answer|letter)\s*[(\[<]?\s*((?-i:[A-J]))(?![\w'’^=+(-])\s*[)\]>]?|[(\[]\s*((?-i:[A-J]))\s*[)\]])",
    re.I,
)
BARE_BOX = re.compile(r"(?<![\\\w])f?boxed\s?\{\s*\(?([A-J])\)?\s*\}")
"""A box without its backslash."""
WITHDRAWAL = re.compile(
    r"""\b(?:wait|correction|sorry|apologi[sz]e|on\s+second\s+thought|(?:made|was)\s+a\s+mistake|mistaken|reconsider(?:ing)?
    |re-?check(?:ing)?|re-?examin(?:e|ing)|re-?evaluat(?:e|ing)|(?:this|that|it)\s+(?:is|was|seems)\s+(?:wrong|incorrect))\b
    |(?:[.!?…\n]\s*)(?:actually|no)\b|\bno[,.!:]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words by which a reply takes an answer back."""
OPTION_SUBJECT = re.compile(
    r"[\s,:*_]*(?:(?:option|choice)\s+)?(?:[(\[]\s*[A-J]\s*[)\]]|(?-i:[A-HJ]\b|I(?=\W*$))(?!['’]))", re.I
)
"""A letter as the subject of a statement: `Option A is too broad` does not state an answer."""
NUMERALS = re.compile(r"^[\s>#*|_-]*(?:statement\s+)?II\s?[.:)*|]", re.I | re.M)
"""A line behind which `I. True` and `Statement I: True` are the first of numbered statements."""
SUBJECT = re.compile(r"[(\[]?[A-J][)\]]?\s+")
OPTION_LINE = re.compile(r"[\s>#]*(?:\*\*[^*\n]+\*\*|[*_`\"(\[$]*[A-J][)\]$*_`\".]*)[^\S\n]*\n")
"""A first line that consists of an option, before its discussion."""
LINE_PREFIX = re.compile(
    r"^(?:\d{1,2}[.)]\s|(?:assistant|response|output|model|bot|AI|correct|right|final)\s?:\s*|A\s?:\s+(?=\(?[A-J]\)?(?:[.:)\s]|$)))",
    re.I,
)
"""Prefixes of a line that consists of a letter: a list number, a speaker, `A:` after `Q:`."""


def extract_choice_letter(reply: Reply) -> str | None:
    """Return the letter of the last box or statement, otherwise one called correct, chosen or standing alone.

    A letter that is called correct or true overrides an earlier box or statement only if the reply takes that
    back. Several letters at once (`A and B`) are returned together, and match no gold letter.

    Example:
        >>> extract_choice_letter(Reply("The answer is (C). Option A is true, but irrelevant."))
        'C'
    """
    called = letters_called_correct(reply.text)
    answers = _stated_letters(reply) + [(call.start, call.letter) for call in called if call.is_answer]
    if answers:
        start, letter = sorted(answers, key=lambda answer: answer[0])[-1]
        if len(letter) > 1 and (chosen := chosen_letter(reply)) is not None and chosen[0] > start:
            return chosen[1]  # `The answer is A or F. Since the volume rises, it is F.`
        return _corrected_letter(reply.text, start, called) or letter
    chosen = chosen_letter(reply)
    standalone = _standalone_letter(reply)
    if called and not (standalone and OPTION_LINE.match(reply.text)):
        start, letter, _ = called[-1]
        if chosen is not None and (chosen[0] > start or len(letter) > 1):
            return chosen[1]
        return letter
    return standalone or (chosen[1] if chosen is not None else only_affirmed_option(reply.text))


def _stated_letters(reply: Reply) -> list[tuple[int, str]]:
    """Positions and letters of the boxes and statements."""
    boxed = [(box.start, _letter_in_box(box.content)) for box in reply.boxes]
    stated = [(statement.start, _letter_in_statement(statement)) for statement in reply.statements]
    bare = [(box.start(), box[1]) for box in BARE_BOX.finditer(reply.text)]
    return [(start, letter) for start, letter in chain(boxed, bare, stated) if letter is not None]


def _corrected_letter(text: str, start: int, called: list[CalledLetter]) -> str | None:
    """The last letter called correct after the answer at a position is taken back; None without one."""
    withdrawal = WITHDRAWAL.search(text, start)
    later = [call.letter for call in called if withdrawal is not None and call.start > withdrawal.start()]
    return later[-1] if later else None


def _letter_in_box(content: str) -> str | None:
    """The letter in a box, optionally with its option's text, but not at the start of a formula."""
    line = strip_markup(content)
    return leading_letter(line, is_boxed=True) or (letter_in_brackets(line) if " " in line else None)


def _letter_in_statement(statement: Statement) -> str | None:
    line = statement.line
    if OPTION_SUBJECT.match(statement.subject) or "\\boxed" in line:
        return None  # called correct or not, or handled by `_letter_in_box`
    line, _ = strip_filler(strip_markup(line))
    if is_negated(line):
        return None
    line = re.sub(r"^(?:both|either|only|all\s+of)\s+|^[-–•>]\s+", "", line)
    return leading_letter(line, is_boxed=False) or _letter_after_value(line)


def _letter_after_value(line: str) -> str | None:
    """The letter after a stated value: `42, which is option (C)`, `42 (C)`."""
    sentence = re.split(r"(?<=[^\s.])[.!?](?=\s|$)", line, maxsplit=1)[0]
    if re.match(r"(?:I|we|you|they)\b", sentence) or not sentence.strip():
        return None
    letters = [
        next(group for group in match.groups() if group)
        for match in OPTION_MENTION.finditer(sentence)
        if not RETRACTION.match(sentence, match.end())
        and not re.search(r"\b(?:not|than|of|like|unlike)\s+$", sentence[: match.start()])
    ]
    if not letters:
        return None
    return letters[0] if len(set(letters)) == 1 else ", ".join(dict.fromkeys(letters))


def _standalone_letter(reply: Reply) -> str | None:
    """The letter that is the first or the last line, if no line consists of a different letter.

    The last line of a truncated reply may be the first of the options that it goes through.
    """
    texts = [
        strip_markup(LINE_PREFIX.sub("", line.content.strip(MARKUP_CHARACTERS + "#>-=→⇒➡∴•")))
        for line in nonempty_lines(OTHER_OPTIONS.split(reply.text, maxsplit=1)[0])
    ]
    letters = [_letter_of_line(line) for line in texts]
    if not texts or len({letter for letter in letters if letter}) != 1:
        return None
    if "I" in letters and NUMERALS.search(reply.text):
        return None
    return letters[0] or (None if reply.truncated else letters[-1])


def _letter_of_line(line: str) -> str | None:
    subject = SUBJECT.match(line)
    if FURTHER_OPTION.search(line) or (subject and CALLED_CORRECT.match(line, subject.end())):
        return None  # several options, or one that `letters_called_correct` has assessed
    if is_rejected_option(line):
        return None
    return leading_letter(strip_filler(line)[0], is_boxed=True)
