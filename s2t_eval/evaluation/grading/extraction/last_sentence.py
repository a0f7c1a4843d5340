"""Extraction of a mathematical answer from the last sentence of a reply."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.formulas import (
    CONCLUSION,
    LIST_SEPARATOR,
    SYMBOL,
    explanation_start,
    listed_equations,
    looks_mathematical,
    right_hand_side,
    strip_explanation,
    trailing_formula,
)
from s2t_eval.evaluation.grading.extraction.remarks import (
    is_assessment,
    strip_filler,
)
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import (
    ASIAN,
    MARKUP_CHARACTERS,
    Span,
    display_value,
    emphasised_part,
    math_spans,
)
from s2t_eval.evaluation.grading.numbers.parsing import format_number, number_values, parse_number

MAX_LENGTH = 1500
EMPTY_BOX = re.compile(r"\\boxed\s?\{\s?\}")
PART_OF_WHOLE = re.compile(
    r"(?<=[\d$)])\s+(?:out\s+)?of\s+(?:(?:the|those|these|all)\s+)?\$\d[\d,]*\$"
    r"|\s+for\s+(?:each|all|any|every)\s+(?:one\s+)?(?:of\s+)?(?:the\s+)?\$\d[\d,]*\$"
    r"|(?<=[a-z])\s+(?:in|on|over)\s+(?:the\s+(?:closed\s+|open\s+)?(?:interval|range)\s+)?\$\s?[\[(][^$\[\]()]*,[^$\[\]()]*[\])]\s?\$"
)
"""The whole that the preceding count refers to: `$42$ of the $100$ numbers`, `42 solutions in $[0, 100]$`."""
NAMED_VALUE = re.compile(r"\s*(\\?[A-Za-z]\w{0,9})\s*=")
CONDITION = re.compile(
    r"\b(?:for|if|when|where|with|(?<!intersect\s)(?<!meet\s)at|let|since|as|given|because|from|using|by)\b[^.;]*$",
    re.I,
)
NUMBER_WITH_SYMBOL = re.compile(r"(?<![\w.])-?(?:\d[\d./]*\s?)?(?:π|√\(?\d+\)?)(?:/\d+)?(?![\w(])")
"""A multiple of π or of a root outside formulas: `18π square units`."""
NAME = re.compile(
    r"\\?[A-Za-z]+|(?:\\(?:angle|triangle|overline)\s*)?\{?[A-Z]{1,4}\}?|[a-z]\([a-z\d]\)"
    r"|[A-Za-z]_\{?\w\}?"
)
VERB_BEFORE_VALUE = re.compile(r"\s*(?:is|are|equals|must\s+be|will\s+be|would\s+be)\s+(?:equal\s+to\s+)?")
REASON = re.compile(r"\b(?:is|are|equals?)\s+(?P<value>-?\d[\d./]*),?\s+(?:because|since|as)\s", re.I)
"""A number whose reason has formulas: `The integer is 17, since $17 \\equiv 2 \\pmod{5}$`."""
AND = re.compile(r"\s*,?\s*and\s*")
INEQUALITY = re.compile(r"\s*\\?[A-Za-z]\s*(?:[<>≤≥]|\\[lg]eq?(?![a-z]))")
OR = re.compile(r"\s*,?\s*or\s*")
EXCEPTION = re.compile(
    r"(?<!\bfor )\b(?:all|any|every)\s+(?:real\s+)?(?:numbers?|values?\s+of\s+\$?x\$?),?"
    r"\s+(?:except|other\s+than|excluding)\s+(?:for\s+|when\s+)?(?P<values>.+)",
    re.I,
)
"""A domain with exceptions: `all real numbers except $x = 2$`."""
APPROXIMATE_REPETITION = re.compile(
    r"(?<=[\d)}$πi]),\s+(?:which\s+is\s+)?(?:about|approximately|roughly|around|≈)\s*\$?-?\d[\d.]*\$?\W*$"
)
"""The end of a sentence that repeats an exact result: `3*sqrt(13), about 10.82`."""
COUNTED_NOUN = re.compile(r"[a-z]\s+(?:of|for)\s+$")


def answer_in_last_sentence(reply: Reply) -> str | None:
    """Return the formula, list, number or single word that concludes the last sentence; None without one."""
    if not reply.answer_sentences:
        return None
    sentence = reply.answer_sentences[-1]
    emphasised = emphasised_part(sentence.content[-MAX_LENGTH:])
    if emphasised is not None and parse_number(emphasised) is not None:
        return emphasised
    phrase, _ = strip_filler(EMPTY_BOX.sub("", sentence.content[-MAX_LENGTH:]))
    phrase = APPROXIMATE_REPETITION.sub("", _without_part_of_whole(phrase))
    if (domain := _domain_with_exceptions(phrase)) is not None:
        return domain
    spans = math_spans(phrase)
    reason = REASON.search(phrase, 0, spans[0].start) if spans else None
    if reason and not CONCLUSION.search(phrase, reason.end()):
        return reason["value"]
    if (value := _value_after_name(phrase, spans)) is not None:
        return value
    if spans:
        limit = explanation_start(phrase, spans)
        before = _without_counted_symbols(phrase, [span for span in spans if span.start < limit] or spans)
        return (
            _equation_behind(phrase[before[-1].end : limit])
            or _alternative_inequalities(phrase, before)
            or _values_of_one_name(phrase, before)
            or _enumerated_values(phrase, before)
            or display_value(before[-1].content)
            or None
        )
    phrase = re.sub(rf"^.*{ASIAN}\s*(?=\S)(?=.*\d)(?!.*{ASIAN})", "", strip_explanation(phrase))
    if looks_mathematical(phrase) and len(reply.sentences) == 1:
        return phrase.strip(MARKUP_CHARACTERS)
    equations = listed_equations(phrase)
    if equations and (listed := _values_of_one_name(phrase, equations)):
        return listed
    if (formula := right_hand_side(phrase) or trailing_formula(phrase)) is not None:
        return formula
    if looks_mathematical(phrase) and re.search(r"[\d\\]", phrase):
        return phrase.strip(MARKUP_CHARACTERS)
    if symbolic := NUMBER_WITH_SYMBOL.findall(phrase):
        return str(symbolic[-1])
    values = number_values(phrase)
    if values:
        return format_number(values[-1])
    is_word = len(reply.sentences) == 1 and re.fullmatch(
        r"[A-Za-z-]{2,20}", phrase.strip(MARKUP_CHARACTERS + ".")
    )
    return phrase.strip(MARKUP_CHARACTERS + ".") if is_word and not is_assessment(phrase) else None


def _value_after_name(phrase: str, spans: list[Span]) -> str | None:
    """The value outside formulas behind a name: `The value of $x$ is 5`; None otherwise."""
    if not spans or NAME.fullmatch(spans[-1].content) is None:
        return None
    verb = VERB_BEFORE_VALUE.match(phrase, spans[-1].end)
    value = strip_explanation(phrase[verb.end() :]).strip(MARKUP_CHARACTERS + ".") if verb else ""
    return value if value and (parse_number(value) is not None or looks_mathematical(value)) else None


def _without_part_of_whole(phrase: str) -> str:
    first = re.search(r"\d", phrase)
    return phrase[: first.end()] + PART_OF_WHOLE.sub("", phrase[first.end() :]) if first else phrase


def _values_of_one_name(phrase: str, spans: list[Span]) -> str | None:
    """Several values of one name at the end of a sentence, `$x=2$ or $x=3$`; None for a single value."""
    name = NAMED_VALUE.match(spans[-1].content)
    if name is None:
        return _two_values(phrase, spans)
    if (values := _named_values(phrase, spans)) is not None:
        return values
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not re.match(rf"\s*{re.escape(name[1])}\s*=", span.content) or not LIST_SEPARATOR.fullmatch(
            phrase[span.end : group[0].start]
        ):
            break
        group.insert(0, span)
    numbers = {parse_number(span.content) for span in group}
    if len(numbers) == 1 and None not in numbers:
        return display_value(group[0].content)  # `$x = \frac{3}{2}$, or $x = 1.5$`
    return ", ".join(span.content for span in group) if len(group) > 1 else None


def _domain_with_exceptions(phrase: str) -> str | None:
    """The set of `all real numbers except $x = -3$ and $x = 3$`; None for any other phrase."""
    exception = EXCEPTION.search(phrase)
    if exception is None:
        return None
    values = NAMED_VALUE.sub(" ", re.sub(r"\$|\\[()]", "", exception["values"]))
    values = re.sub(r",?\s+(?:and|or)\s+", ", ", values).strip(" .,")
    if re.search(r"[=A-Za-z]", re.sub(r"\\[a-z]+", "", values)):
        return None
    return f"\\mathbb{{R}} \\setminus \\{{{values}\\}}"


def _equation_behind(rest: str) -> str | None:
    """The result of an equation outside formulas: `$5^3 = 125$ and 125 - 62 = 63`; None without one."""
    return right_hand_side(rest) if "(" not in rest else None


def _alternative_inequalities(phrase: str, spans: list[Span]) -> str | None:
    """Both inequalities of `$x < 3$ or $x > 5$`; None if the last two formulas are not such a pair."""
    pair = spans[-2:]
    if len(pair) < 2 or not all(INEQUALITY.match(span.content) for span in pair):
        return None
    is_joined = OR.fullmatch(phrase, pair[0].end, pair[1].start) is not None
    return ", ".join(span.content for span in pair) if is_joined else None


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


def _named_values(phrase: str, spans: list[Span]) -> str | None:
    """The equations of `$x = 2$ and $y = -1$` or of a longer list; None if one of them is a condition."""
    group: list[Span] = []
    for span in reversed(spans):
        if NAMED_VALUE.match(span.content) is None or span.content.count("=") != 1:
            break
        if group and not LIST_SEPARATOR.fullmatch(phrase, span.end, group[0].start):
            break
        group.insert(0, span)
    if len(group) < 2 or (len(group) == 2 and not AND.fullmatch(phrase, group[0].end, group[1].start)):
        return None
    names = {span.content.split("=")[0].strip() for span in group}
    start = max((span.end for span in spans if span.end <= group[0].start), default=0)
    if len(names) < len(group) or CONDITION.search(phrase[start : group[0].start]):
        return None
    return ", ".join(span.content for span in group)


def _without_counted_symbols(phrase: str, spans: list[Span]) -> list[Span]:
    """The formulas without trailing symbols of counted objects: `$7$ values of $x$`."""
    remaining = list(spans)
    while (
        len(remaining) > 1
        and SYMBOL.fullmatch(remaining[-1].content)
        and COUNTED_NOUN.search(phrase, 0, remaining[-1].start)
    ):
        remaining.pop()
    return remaining if re.search(r"\d", remaining[-1].content) else spans
