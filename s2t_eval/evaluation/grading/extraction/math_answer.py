"""Extraction of a mathematical expression, or of a short answer in words, from a reply."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from s2t_eval.evaluation.grading.extraction.remarks import (
    EXPLANATION,
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
from s2t_eval.evaluation.grading.numbers.parsing import format_number, number_values, parse_number

MAX_LENGTH = 1500
MAX_WORDS = 6
"""Maximum number of words of an answer in words; longer phrases are prose."""
PLACEHOLDER = re.compile(
    r"(?:\\(?:text|textbf|mathrm)\{)?(?:(?:the|your|my|final|correct|answer|here|result|value|solution|in|box|goes)[\s_]*)+\}?|(?:\\[lc]?dots|\.{2,}|…|\?+|_+)|[Xx]{2,}",
    re.I,
)
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
YES_OR_NO = re.compile(r"(yes|no|true|false)\b(?=\s*[,.;:—–]|\s+because\b|\s*$)", re.I)
EMPTY_BOX = re.compile(r"\\boxed\s?\{\s?\}")
PART_OF_WHOLE = re.compile(
    r"(?<=[\d$)])\s+(?:out\s+)?of\s+(?:(?:the|those|these|all)\s+)?\$\d[\d,]*\$"
    r"|\s+for\s+(?:each|all|any|every)\s+(?:one\s+)?(?:of\s+)?(?:the\s+)?\$\d[\d,]*\$"
    r"|(?<=[a-z])\s+(?:in|on|over)\s+(?:the\s+(?:closed\s+|open\s+)?(?:interval|range)\s+)?\$\s?[\[(][^$\[\]()]*,[^$\[\]()]*[\])]\s?\$"
)
"""The whole that the preceding count refers to: `$42$ of the $100$ numbers`, `42 solutions in $[0, 100]$`."""
NAMED_VALUE = re.compile(r"\s*(\\?[A-Za-z]\w{0,9})\s*=")
CONDITION = re.compile(
    r"\b(?:for|if|when|where|with|at|let|since|as|given|because|from|using|by)\b[^.;]*$", re.I
)
SYMBOL = re.compile(r"\\?[A-Za-z]{1,2}(?:\([a-z]\))?")
CONCLUSION = re.compile(
    r"[,;.]\$?\s*(?:and\s+)?(?:so|thus|hence|therefore|then|we\s+(?:get|have|see|find|obtain)|it\s+follows)\b[^$]*\$",
    re.I,
)
COUNTED_NOUN = re.compile(r"[a-z]\s+(?:of|for)\s+$")
LIST_SEPARATOR = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*")
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

    A statement after the last box overrides it if the statement consists of a mathematical answer and
    nothing else. The last sentence counts only if the reply was not truncated.

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
    return unclosed_box(reply.text) or _answer_in_last_sentence(reply)


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
    if spans := math_spans(phrase):
        return _answer_in_formulas(phrase, spans, is_approximate)
    if yes_or_no := YES_OR_NO.match(phrase):
        return MathReading(yes_or_no[1], False, False)
    phrase = _without_explanation(phrase)
    if parse_number(phrase) is not None or looks_mathematical(phrase):
        return MathReading(phrase, True, not is_approximate)
    if "\\" in phrase and not PROSE_WORD.search(COMMAND.sub(" ", phrase)):
        return MathReading(phrase, True, False)
    if (right_side := _right_hand_side(phrase)) is not None:
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


def _answer_in_formulas(phrase: str, spans: list[Span], is_approximate: bool) -> MathReading | None:
    """The leading formulas of a phrase, otherwise the last formula before an explanation."""
    prefix = phrase[: spans[0].start].strip(MARKUP_CHARACTERS + "(")
    if prefix and not re.fullmatch(r"[A-Za-z]\s*=|[$]|-|(?:an?|the|either|both)", prefix):
        explanation_start = _explanation_start(phrase, spans)
        before = [span for span in spans if span.start < explanation_start]
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


def _answer_in_last_sentence(reply: Reply) -> str | None:
    if not reply.answer_sentences:
        return None
    sentence = reply.answer_sentences[-1]
    phrase, _ = strip_filler(EMPTY_BOX.sub("", sentence.content[-MAX_LENGTH:]))
    phrase = _without_part_of_whole(phrase)
    spans = math_spans(phrase)
    if spans:
        explanation_start = _explanation_start(phrase, spans)
        before = _without_counted_symbols(
            phrase, [span for span in spans if span.start < explanation_start] or spans
        )
        return (
            _values_of_one_name(phrase, before)
            or _enumerated_values(phrase, before)
            or display_value(before[-1].content)
            or None
        )
    phrase = _without_explanation(phrase)
    if looks_mathematical(phrase) and len(reply.sentences) == 1:
        return phrase.strip(MARKUP_CHARACTERS)
    if (formula := _right_hand_side(phrase) or _trailing_formula(phrase)) is not None:
        return formula
    if looks_mathematical(phrase) and re.search(r"[\d\\]", phrase):
        return phrase.strip(MARKUP_CHARACTERS)
    values = number_values(phrase)
    if values:
        return format_number(values[-1])
    is_word = len(reply.sentences) == 1 and re.fullmatch(
        r"[A-Za-z-]{2,20}", phrase.strip(MARKUP_CHARACTERS + ".")
    )
    return phrase.strip(MARKUP_CHARACTERS + ".") if is_word and not is_assessment(phrase) else None


def _without_part_of_whole(phrase: str) -> str:
    first = re.search(r"\d", phrase)
    return phrase[: first.end()] + PART_OF_WHOLE.sub("", phrase[first.end() :]) if first else phrase


def _values_of_one_name(phrase: str, spans: list[Span]) -> str | None:
    """Several values of one name at the end of a sentence, `$x=2$ or $x=3$`; None for a single value."""
    name = NAMED_VALUE.match(spans[-1].content)
    if name is None:
        return _two_values(phrase, spans)
    if (pair := _named_pair(phrase, spans)) is not None:
        return pair
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not re.match(rf"\s*{re.escape(name[1])}\s*=", span.content) or not LIST_SEPARATOR.fullmatch(
            phrase[span.end : group[0].start]
        ):
            break
        group.insert(0, span)
    return ", ".join(span.content for span in group) if len(group) > 1 else None


def _enumerated_values(phrase: str, spans: list[Span]) -> str | None:
    """The formulas listed at the end of a sentence, `The roots are $1$ and $-2$`; None without a list."""
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not LIST_SEPARATOR.fullmatch(phrase[span.end : group[0].start]):
            break
        group.insert(0, span)
    if len(group) == 1 or len({"=" in span.content for span in group}) > 1:
        return None
    if not re.search(r"\bare(?:\s+\w+ly)?[\s:]*$", phrase[: group[0].start]):
        return None
    return ", ".join(display_value(span.content) for span in group)


def _two_values(phrase: str, spans: list[Span]) -> str | None:
    """Both values of `$x = 3$ or $-3$`; None if the last two formulas are not such a pair."""
    if len(spans) < 2 or NAMED_VALUE.match(spans[-2].content) is None or spans[-2].content.count("=") != 1:
        return None
    first, last = parse_number(spans[-2].content), parse_number(spans[-1].content)
    if first == last or (None in (first, last) and not spans[-1].content.startswith("-")):
        return None  # the same value written twice: `$d = \frac{39}{2}$ or $19.5$`
    if re.fullmatch(r"\s*or\s*", phrase[spans[-2].end : spans[-1].start]) is None:
        return None
    return f"{spans[-2].content}, {spans[-1].content}"


def _named_pair(phrase: str, spans: list[Span]) -> str | None:
    """Both equations of `$x = 2$ and $y = -1$`; None if one of them is a condition."""
    if len(spans) < 2 or re.fullmatch(r"\s*,?\s*and\s*", phrase[spans[-2].end : spans[-1].start]) is None:
        return None
    names = [NAMED_VALUE.match(span.content) for span in spans[-2:]]
    before = phrase[: spans[-2].start]
    if names[0] is None or names[1] is None or names[0][1] == names[1][1] or CONDITION.search(before):
        return None
    if any(span.content.count("=") != 1 for span in spans[-2:]):
        return None
    return f"{spans[-2].content}, {spans[-1].content}" if len(spans) == 2 else None


def looks_mathematical(text: str) -> bool:
    """Whether a text without math delimiters is a formula, not prose."""
    if not text.startswith("\\text") and not re.search(r"[\w\\∞π√]", text):
        return False
    words = re.findall(r"[A-Za-z]{2,}", COMMAND.sub(" ", text))
    return all(
        word.lower() in FUNCTIONS or (len(word) == 2 and word.lower() not in SHORT_WORDS) for word in words
    )


def _right_hand_side(phrase: str) -> str | None:
    """The right-hand side of an equation in running text, `we find x = 12`; None if it is not a formula."""
    sides = re.split(r"(?<![<>!\\])=(?!=)", phrase)
    if len(sides) == 1:
        return None
    side = sides[-1].strip(MARKUP_CHARACTERS + ",;")
    if parse_number(side) is not None or (side and looks_mathematical(side)):
        return side
    return None


def _trailing_formula(phrase: str) -> str | None:
    """The formula without delimiters at the end of a sentence, `The domain is [1,2)`; None for prose."""
    match = re.match(
        r".*\b(?:(?:is|are|equals?|be|gives?|get|obtain|have|find)\s+(?:at\s+(?:the\s+point\s+)?(?=\())?|at\s+(?:the\s+point\s+)?(?=\())(.+)",
        phrase,
        re.DOTALL,
    )
    if match is None or not re.search(r"[\d\\√π∞]", match[1]) or not looks_mathematical(match[1]):
        return None
    return match[1].strip(MARKUP_CHARACTERS)


def _explanation_start(phrase: str, spans: list[Span]) -> int:
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


def _without_counted_symbols(phrase: str, spans: list[Span]) -> list[Span]:
    """The formulas without trailing symbols of counted objects: `$7$ values of $x$`."""
    kept = list(spans)
    while (
        len(kept) > 1
        and SYMBOL.fullmatch(kept[-1].content)
        and COUNTED_NOUN.search(phrase, 0, kept[-1].start)
    ):
        kept.pop()
    return kept if re.search(r"\d", kept[-1].content) else spans


def _without_explanation(phrase: str) -> str:
    first = re.search(r"[\d\\]", phrase)
    if (match := EXPLANATION.search(phrase, first.end() if first else 0)) is None or match.start() == 0:
        return phrase
    before = phrase[: match.start()]
    return (
        phrase
        if len(re.findall(r"[({\[]", before)) != len(re.findall(r"[)}\]]", before))
        else before.strip(MARKUP_CHARACTERS + ",;")
    )
