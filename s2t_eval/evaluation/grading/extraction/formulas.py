"""Formulas in running text, with and without math delimiters."""

from __future__ import annotations

import re
from bisect import bisect_right

from s2t_eval.evaluation.grading.extraction.remarks import (
    EXPLANATION,
)
from s2t_eval.evaluation.grading.extraction.spans import (
    MARKUP_CHARACTERS,
    Span,
)
from s2t_eval.evaluation.grading.numbers.parsing import parse_number

COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox|hbox)\s*\{[^{}]*\}|\\(?:begin|end)\{[a-z]+\*?\}(?:\{[lcr|]*\})?|\\[a-zA-Z]+"
)
FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log",
    "ln", "exp", "sqrt", "abs",
    "floor", "ceil", "max", "min", "gcd", "lcm", "mod", "det", "pi", "infinity", "inf",
    "dx", "dy", "dt", "and", "or",
}  # fmt: skip
SHORT_WORDS = {
    "is",
    "it",
    "in",
    "as",
    "at",
    "by",
    "of",
    "on",
    "to",
    "we",
    "no",
    "so",
    "an",
    "be",
    "do",
    "he",
    "if",
    "me",
    "my",
    "up",
    "us",
}
SYMBOL = re.compile(r"\\?[A-Za-z]{1,2}(?:\([a-z]\))?")
CONCLUSION = re.compile(
    r"[,;.]\$?\s*(?:and\s+)?(?:so|thus|hence|therefore|then|we\s+(?:get|have|see|find|obtain)|it\s+follows)\b[^$]*\$",
    re.I,
)
LIST_SEPARATOR = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*")
EQUATION = re.compile(r"(?<![\w\\])\\?[A-Za-z]\w?\s?=\s?[^\s,;=]{1,40}(?<!\.)")
EQUATIONS = re.compile(
    rf"{EQUATION.pattern}(?:(?:\s?[,;](?:\s?(?:and|or))?|\s(?:and|or))\s{EQUATION.pattern})+(?=(?:\s+are\b[^=\d]*)?$)"
)
"""Equations at the end of a sentence: `x = 1 and x = 5 are the solutions`."""
OPERATOR = re.compile(r"[-+*/^(]\s?$")


def looks_mathematical(text: str) -> bool:
    """Whether a text without math delimiters is a formula, not prose."""
    if not text.startswith("\\text") and not re.search(r"[\w\\∞π√]", text):
        return False
    words = re.findall(r"[A-Za-z]{2,}", COMMAND.sub(" ", text))
    return all(
        word.lower() in FUNCTIONS or (len(word) == 2 and word.lower() not in SHORT_WORDS) for word in words
    )


def right_hand_side(phrase: str) -> str | None:
    """The right-hand side of an equation in running text, `we find x = 12`; None if it is not a formula."""
    sides = re.split(r"(?<![<>!\\])=(?!=)", phrase)
    if len(sides) == 1:
        return None
    side = sides[-1].strip(MARKUP_CHARACTERS + ",;")
    if re.search(r"\bare\b", side):
        return None  # one of several solutions
    if parse_number(side) is not None or (side and looks_mathematical(side)):
        return side
    return None


def listed_equations(phrase: str) -> list[Span]:
    """The equations that end a phrase in running text; empty for a single one, or behind an operator.

    Example:
        >>> [equation.content for equation in listed_equations("The roots are x = 3, x = 5, and x = 7")]
        ['x = 3', 'x = 5', 'x = 7']
    """
    match = EQUATIONS.search(phrase)
    if match is None or OPERATOR.search(phrase, 0, match.start()):
        return []
    return [Span(*part.span(), part[0]) for part in EQUATION.finditer(phrase, match.start(), match.end())]


def trailing_formula(phrase: str) -> str | None:
    """The formula without delimiters at the end of a sentence, `The domain is [1,2)`; None for prose."""
    match = re.match(
        r".*\b(?:(?:is|are|equals?|be|gives?|get|obtain|have|find|(?:simplifies|reduces|expands|evaluates|factors)\s+to)\s+(?:at\s+(?:the\s+point\s+)?(?=\())?|at\s+(?:the\s+point\s+)?(?=\())(.+)",
        phrase,
        re.DOTALL,
    )
    if match is None or not re.search(r"[\d\\√π∞]", match[1]) or not looks_mathematical(match[1]):
        return None
    return match[1].strip(MARKUP_CHARACTERS)


def explanation_start(phrase: str, spans: list[Span]) -> int:
    """The position, outside formulas, at which an explanation after the first formula begins."""
    starts = [span.start for span in spans]
    for match in EXPLANATION.finditer(phrase, spans[0].end):
        index = bisect_right(starts, match.start()) - 1
        if match.start() < spans[index].end or match[0].strip(" ,;()")[:1].isupper():
            continue  # inside a formula, or the start of a new sentence after a display
        if SYMBOL.fullmatch(spans[index].content) or CONCLUSION.search(phrase, match.end()):
            continue  # `the only $n$ which …`, `when $a = 1$, so the maximum is $3$`
        return match.start()
    return len(phrase)


def strip_explanation(phrase: str) -> str:
    """Remove the explanation after the first number or formula, unless it is inside brackets."""
    first = re.search(r"[\d\\]", phrase)
    if (match := EXPLANATION.search(phrase, first.end() if first else 0)) is None or match.start() == 0:
        return phrase
    before = phrase[: match.start()]
    return (
        phrase
        if len(re.findall(r"[({\[]", before)) != len(re.findall(r"[)}\]]", before))
        else before.strip(MARKUP_CHARACTERS + ",;")
    )
