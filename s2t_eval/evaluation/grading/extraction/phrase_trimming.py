"""Removal of what a phrase says besides its number: styling, repetitions, circumstances, explanations."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.number_patterns import (
    BREAKDOWN,
    CIRCUMSTANCE,
    CLOCK,
    COLOUR_COMMAND,
    CONVERSION,
    DISPLAY_MARKUP,
    ONLY_DURATION,
    PRECISION,
    PURPOSE,
    RESTATEMENT,
    ROUNDED,
    STRIPPED_CHARACTERS,
    STYLE_COMMAND,
    TOTALLED,
    UNIT_FRACTION,
    VERB,
)
from s2t_eval.evaluation.grading.extraction.remarks import EXPLANATION
from s2t_eval.evaluation.grading.numbers.parsing import normalise_characters

MAX_LENGTH = 1500
"""Characters of a phrase that are read."""


def strip_styling(phrase: str) -> str:
    """The first `MAX_LENGTH` characters without style commands and display markup."""
    phrase = phrase[:MAX_LENGTH]
    if "=" not in phrase:
        phrase = phrase.replace(" – ", " — ")  # a dash between clauses, but a minus in equations
    phrase = re.sub(r"(?<=\d)\{,\}(?=\d{3})", ",", phrase)  # LaTeX for a separator without a space
    phrase = re.sub(r"\\times(?![a-z])|\\cdot(?![a-z])", "×", normalise_characters(phrase))
    phrase = DISPLAY_MARKUP.sub(" ", UNIT_FRACTION.sub(" units", COLOUR_COMMAND.sub("", phrase)))
    phrase = re.sub(r"(?<!\d)\*\*|\*\*(?![\d(])", "", phrase)  # bold type, in contrast to a power
    phrase = (
        STYLE_COMMAND.sub("", CLOCK.sub(r"\1", phrase))
        .strip(STRIPPED_CHARACTERS)
        .rstrip(STRIPPED_CHARACTERS + ".")
    )
    return phrase if re.match(r"\.\d", phrase) else phrase.lstrip(STRIPPED_CHARACTERS + ".")


def without_repetition(text: str) -> str:
    """Remove breakdowns of a total and repetitions of a measure in other units."""
    for pattern in (RESTATEMENT, BREAKDOWN):
        if (match := pattern.search(text)) and re.search(r"\d", text[: match.start()]):
            text = text[: match.start()]
    return CONVERSION.sub("", text)


def without_circumstance(text: str) -> str:
    """Remove what was given in the problem from the end of a sentence that has a number before it."""
    match = CIRCUMSTANCE.search(text)
    before = text[: match.start()] if match else ""
    if re.search(r"\d", before) and not ONLY_DURATION.fullmatch(before):
        text = before
    totalled = TOTALLED.search(text)
    is_final = totalled and not VERB.search(totalled["rest"]) and "leaving" not in totalled["rest"]
    return text[: totalled.start("rest")] if totalled and is_final else text


def rounded_value(text: str) -> str:
    """The text behind "rounded to"; the whole text if it does not round a value."""
    if (shortened := PRECISION.sub("", text)) != text and re.search(r"\d", shortened):
        text = shortened
    rounding = list(ROUNDED.finditer(text))
    return text[rounding[-1].end() :] if rounding else text


def without_explanation(text: str) -> str:
    """Remove the explanation after the first number, and parenthesised text with digits there."""
    first = re.search(r"\d", text)
    if first is None:
        return text
    text = re.sub(
        r"(?<=[\w%°])(\s*)\((?:[^()]*\d[^()]*)\)",
        lambda m: m[1] if _follows_number(text, m.start()) else m[0],
        text,
    )
    ends = [cut.start() for pattern in (EXPLANATION, PURPOSE) if (cut := pattern.search(text, first.end()))]
    if ends:
        return text[: min(ends)]
    return text


def _follows_number(text: str, position: int) -> bool:
    return (
        re.search(r"\d[\d.,]*(?:\s*[A-Za-z$%°]+){0,3}\s*$", text[max(0, position - 60) : position])
        is not None
    )
