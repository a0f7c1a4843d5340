"""Letters that a reply calls correct or true: `(C) is the correct answer`, `Option C must be right`.

Such a sentence may also assess a single option or a statement of the problem: `Option A is true, but it does
not explain this`. So it is weaker than a stated answer, unless it calls a letter the answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from s2t_eval.evaluation.grading.extraction.letter_markup import strip_markup
from s2t_eval.evaluation.grading.extraction.statements import COUNTERFACTUAL, OPINION_OF_OTHERS

VERB = (
    r"(?:is|are(?:\s+(?:both|all))?|(?:must|has\s+to|should|would|appears\s+to)\s+be"
    r"|seems(?:\s+to\s+be)?|looks)"
)
CALLED_CORRECT = re.compile(
    rf"""(?:(?:best|most\s+(?:accurately|closely|likely|directly|clearly))\s+(?:describes?|fits?|match(?:es)?|represents?|explains?|captures?|reflects?|answers?|summari[sz]es?|defines?|illustrates?|corresponds?)\b
    |(?:matches|fits|satisfies|meets|(?:agrees|aligns|is\s+consistent)\s+with|corresponds\s+to)\s+(?:our|the|this|these|all|both)\b
    |remains(?=\s*(?:[.,;]|$|as\b))
    |is\s+(?:\w+ly\s+|indeed\s+|thus\s+)?the\s+(?P<named>answer)\b(?!\s+(?:if|when|only|unless|to|most|many|some|that|which|students?|people)\b)
    |is\s+the\s+only\s+(?:(?:one|option|choice|answer|statement)\s+)?(?:that|which)\b)
    |{VERB}\s+(?:(?!hardly|scarcely|partly|partially|technically|factually|generally|superficially|only)\w+ly\s+)?(?:the\s+)?(?:only\s+)?
    (?:(?:most|more|single|one)\s+)?(?P<quality>correct|right|best|better|closest|nearest|closer|true|appropriate|accurate|intended|suitable|likely)\b
    (?:(?P<answer>\s+(?:answer|option|choice|one)\b)|(?!\s+(?:answer|option|choice|one)\b))
    (?!\s+(?:if|when|only|unless|that|for\s+\w+\s+but|in\s+(?:general|part|some|theory|principle|isolation))\b)""",
    re.IGNORECASE | re.VERBOSE,
)
CONCESSION = re.compile(
    r"(?:\s+\w+){0,3}?\s*[,;]?\s*\b(?:but|yet|though|however)\s+(?:it|this|that|they|not\b(?!\s+[(\[]?[A-J]\b)|does|do|fails?|lacks?|only|less"
    r"|too|i[nmr]{1,2}\w{4,}|un\w{4,}|(?![A-J]\b)\w+(?=\s*(?:[.,;]|$)))\b",
    re.I,
)
"""The rest of a sentence that calls an option true and yet rejects it."""
LAST_LETTER = re.compile(r"(?:^|[\s,:;])([(\[]?)([A-J])[)\]]?\s*$")
LABELLED_LETTER = re.compile(
    r"(?:([(\[])([A-J])[)\]]|\b(?:option|choice|answer|statement)\s+[(\[]?((?-i:[A-J]))[)\]]?(?![\w'’]))(?:[.:)]?\s+[^.,;:()]{1,60}|\s*\([^()]{1,60}\))?\s*$",
    re.I,
)
"""A letter before `is correct`, optionally with the text of its option in between."""
WORD_BEFORE = re.compile(r"([A-Za-z’']+)\s+$")
NOT_NAMES = re.compile(
    r"""(?:so|thus|hence|therefore|then|only|just|and|or|but|that|because|since|while|whereas|although|though|think|believe|say|conclude|see|know
    |clearly|obviously|also|both|either|finally|overall|actually|as|if|is|are|be|why|means?|guess|conclusion|option|options|choice|choices
    |answer|answers|letter|letters|statement|statements|to|of|for|in|with|from|by|than|not|now|hand|here|yet|still|even|maybe|perhaps|however|until|when|where|which|\w+ly|words|fact|sum|course|indeed)$""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words before a letter; behind another word, a bare letter is part of a name: `hepatitis B`, `point A`."""
QUANTITY_BEFORE = re.compile(r"(?:\d|\b(?:value|magnitude|size|amount|probability)\s+of)\s*$", re.I)
"""A number before a letter, its unit: `19.6 J`; or the quantity that it denotes: `the value of B`."""
OPTION_WORD = re.compile(r"\b(?:option|choice|answer|letter)\s+[(\[]?$", re.I)
ROMAN_NUMERAL = re.compile(r"(?<![A-Za-z])(?:II|III|IV)(?![A-Za-z])")
OPTION_DOT = re.compile(r"(?:^|[\s*(])[A-J]\.\s[^.]*$")
PRECEDING_LETTER = re.compile(
    r"(?:^|[\s(])((?-i:[A-J]))[)\]]?\s*(?:,\s*(?:and|or)|,|and|or|&|/)\s*(?:(?:option|choice)\s+)?[(\[]?$",
    re.I,
)
NEITHER = re.compile(r"\b(?:neither|none)\b", re.I)
OPTION_OF_SEVERAL = re.compile(r"\W*(?:\([A-J]\)|[A-J][.:)])\s*(?:both|all)\b", re.I)
"""The start of an option that consists of other options: `D. Both A and B are correct`."""
ONLY_LETTER = re.compile(
    r"\b[Oo]nly\s+(?:([A-J])(?=\s+(?:remains|works|makes\s+sense|fits|matches|satisfies|qualifies|is\s+left)\b)|(?:option|choice|answer)\s+([A-J])|(?:(?:option|choice|answer)\s+)?[(\[]([A-J])[)\]])(?=\s+(?:(?!is\b)[a-z]{2,}s\b|can\b))"
)
"""The only option with the required property: `Only option B satisfies both conditions`."""
LETTER = (
    r"(?:(?:option|choice|answer)\s+([A-J])|(?:(?:option|choice|answer)\s+)?[(\[]([A-J])[)\]]|(?-i:([A-J])))"
)
EXCEPTED_LETTER = re.compile(
    rf"\b(?:all|every\w*|each)\b[^.:\n]{{0,40}}?\s(?:except|but|besides|other\s+than)\s+(?:for\s+)?{LETTER}\s+(?:is|are|can|could|have|has|were)\b[^.\n]{{0,40}}?\b(?:wrong|incorrect|false|eliminated|ruled\s+out|excluded)\b",
    re.I,
)
"""The only option that is not rejected: `All options except D can be eliminated`."""
QUALITY = r"(?:correct|right|best|appropriate|accurate|likely|remaining|suitable)"
MADE_ANSWER = re.compile(
    rf"\b(?:makes?|making|leav(?:es|ing))\s+{LETTER}\s+(?:as\s+)?(?:(?:the|our)\s+(?:only\s+)?(?:most\s+)?(?:{QUALITY}\s*)?(?:answer|choice|option)"
    rf"|(?:the\s+)?(?:most\s+)?{QUALITY}(?=\s*(?:[.,;!]|$)))(?!\w)",
    re.I | re.M,
)
"""`making D the correct answer`, `makes (D) correct`."""
NAMED_ANSWER = re.compile(rf"\b(?:correct|right|best)\s+(?:answer|choice|option),\s+{LETTER},", re.I)
"""`The correct answer, option E, follows`."""
HYPOTHETICAL = re.compile(
    rf"\b(?:if|when|whenever|whether|suppose|assum\w*|unless|why|{OPINION_OF_OTHERS}"
    r"|(?<!believe\s)(?<!think\s)(?<!conclude\s)(?<!say\s)(?<!see\s)(?<!determine\s)(?<!find\s)(?<!clear\s)(?<!shows\s)(?<!means\s)"
    r"(?<!follows\s)(?<!indicates\s)(?<!confident\s)(?<!certain\s)(?<!sure\s)(?<!can\sconfirm\s)that)\b[^.,;:\n]*$",
    re.I,
)


class CalledLetter(NamedTuple):
    """A letter that is called correct.

    Args:
        start: position of the phrase that calls it so.
        letter: the letter; several letters in one string.
        is_answer: whether it is called the answer, option or choice, not only correct or true.
    """

    start: int
    letter: str
    is_answer: bool


def letters_called_correct(text: str) -> list[CalledLetter]:
    """Return the letters that a text calls correct, in order.

    Example:
        >>> letters_called_correct("So (C) is the best choice.")
        [CalledLetter(start=7, letter='C', is_answer=True)]
    """
    has_numerals = ROMAN_NUMERAL.search(text) is not None
    letters = [
        CalledLetter(match.start(), match[match.lastindex or 1], pattern in (MADE_ANSWER, NAMED_ANSWER))
        for pattern in (ONLY_LETTER, EXCEPTED_LETTER, MADE_ANSWER, NAMED_ANSWER)
        for match in pattern.finditer(text)
    ]
    for phrase in CALLED_CORRECT.finditer(text):
        line = text[max(0, phrase.start() - 120) : phrase.start()].rsplit("\n", 1)[-1]
        before = strip_markup(
            re.split(r"(?<=[^\s.][.!?])\s", line)[-1] if not OPTION_DOT.search(line) else line
        ).removesuffix(" alone")
        letter = _letter_before(before, has_numerals)
        if letter is not None and not _is_rejected(text, phrase, before):
            letters.append(
                CalledLetter(phrase.start(), letter, (phrase["answer"] or phrase["named"]) is not None)
            )
    return sorted(letters)


def _letter_before(before: str, has_numerals: bool) -> str | None:
    """The letter that a phrase such as `is correct` refers to."""
    last = LAST_LETTER.search(before)
    if last is not None and QUANTITY_BEFORE.search(before[: last.start(2)]):
        last = None
    match = last or LABELLED_LETTER.search(before)
    if match is None:
        return None
    *_, index = (index for index in range(1, len(match.groups()) + 1) if match[index])
    letter, is_bracketed = match[index].upper(), index == 2 and bool(match[1])
    start = match.start(index)
    label = before[:start]
    if letter == "I" and OPTION_WORD.search(label) is None:
        is_subject = not label.strip(" *([") or re.fullmatch(
            r"\W*(?:so|thus|hence|therefore)\W+", label, re.I
        )
        if has_numerals or not (is_bracketed or is_subject):
            return None  # the pronoun, or the numeral of a statement of the problem
    word = None if is_bracketed else WORD_BEFORE.search(label)
    if word is not None and NOT_NAMES.match(word[1]) is None:
        return None
    preceding = PRECEDING_LETTER.search(label)
    return f"{preceding[1]}, {letter}" if preceding and preceding[1] != letter else letter


def _is_rejected(text: str, phrase: re.Match[str], before: str) -> bool:
    """Whether the sentence around such a phrase asks, supposes, denies or rejects."""
    rest = text[phrase.end() : phrase.end() + 60].split("\n")[0]
    return (
        "?" in rest.split(".")[0]
        or HYPOTHETICAL.search(before) is not None
        or ("would" in phrase[0] and COUNTERFACTUAL.search(before) is not None)
        or NEITHER.search(before) is not None
        or OPTION_OF_SEVERAL.match(before) is not None
        or CONCESSION.match(rest) is not None
    )
