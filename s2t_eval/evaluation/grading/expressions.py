"""The mathematics, or the words, that a reply gives as its answer."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from s2t_eval.evaluation.grading.numbers import as_number, numbers_in, write
from s2t_eval.evaluation.grading.remarks import EXPLAINED, is_denied, is_judgement, without_filler
from s2t_eval.evaluation.grading.reply import Reply
from s2t_eval.evaluation.grading.statements import Statement
from s2t_eval.evaluation.grading.text import MARKS, Span, box_spans, display_value, math_spans, unclosed_box

LONGEST = 1500
LONGEST_WORDS = 6
"""Words that an answer in words has at most; what is longer is talk."""
PLACEHOLDER = re.compile(
    r"(?:\\(?:text|textbf|mathrm)\{)?(?:(?:the|your|my|final|correct|answer|here|result|value|solution|in|box|goes)[\s_]*)+\}?|(?:\\[lc]?dots|\.{2,}|…|\?+|_+)|[Xx]{2,}",
    re.I,
)
COMMANDS = re.compile(
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
VERDICT = re.compile(r"(yes|no|true|false)\b(?=\s*[,.;:—–]|\s+because\b|\s*$)", re.I)
EMPTY_BOX = re.compile(r"\\boxed\s?\{\s?\}")
WHOLE = re.compile(
    r"(?<=[\d$)])\s+(?:out\s+)?of\s+(?:(?:the|those|these|all)\s+)?\$\d[\d,]*\$"
    r"|\s+for\s+(?:each|all|any|every)\s+(?:one\s+)?(?:of\s+)?(?:the\s+)?\$\d[\d,]*\$"
    r"|(?<=[a-z])\s+(?:in|on|over)\s+(?:the\s+(?:closed\s+|open\s+)?(?:interval|range)\s+)?\$\s?[\[(][^$\[\]()]*,[^$\[\]()]*[\])]\s?\$"
)
"""Of what the number before it is a part: `$42$ of the $100$ numbers`, `42 solutions in $[0, 100]$`."""
NAMED = re.compile(r"\s*(\\?[A-Za-z]\w{0,9})\s*=")
CONDITION = re.compile(
    r"\b(?:for|if|when|where|with|at|let|since|as|given|because|from|using|by)\b[^.;]*$", re.I
)
NAME = re.compile(r"\\?[A-Za-z]{1,2}(?:\([a-z]\))?")
CONCLUDED = re.compile(
    r"[,;.]\$?\s*(?:and\s+)?(?:so|thus|hence|therefore|then|we\s+(?:get|have|see|find|obtain)|it\s+follows)\b[^$]*\$",
    re.I,
)
COUNTED = re.compile(r"[a-z]\s+(?:of|for)\s+$")
LIST = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*")
PROSE = re.compile(
    r"\b(?:is|are|was|were|be|we|I|you|he|she|they|it|let|have|has|had|get|gets|find|use|using|can|cannot|will|that|this|there|which|because|if|then)\b|^(?:to|that|by|in|at|from|with|for|on|obtained|found)\b|[:?]",
    re.I,
)


class Reading(NamedTuple):
    """An answer, and how far it is one.

    Args:
        answer: what was read.
        is_math: it is mathematics, not words.
        is_whole: the piece was nothing else.
        is_first: the piece began with it.
    """

    answer: str
    is_math: bool
    is_whole: bool
    is_first: bool = True


def read_expression(reply: Reply) -> str | None:
    """The last box, or else the last statement, or else what an unbroken reply's last sentence ends with.

    A statement behind the last box replaces it where it is an answer and nothing else.
    """
    boxed = [box for box in reply.boxes if not PLACEHOLDER.fullmatch(box.inside)]
    readings = [(item, _of_statement(reply, item)) for item in reversed(reply.statements)]
    if boxed:
        for item, read in readings:
            if item.start >= boxed[-1].end and item.certain and read and read.is_math and read.is_whole:
                return read.answer
        return boxed[-1].inside
    stated = [read for _, read in readings if read is not None]
    if stated:
        return max(stated, key=lambda read: (read.is_math, read.is_math and read.is_first)).answer
    if reply.truncated:
        return None
    return unclosed_box(reply.text) or _of_last_sentence(reply)


def _of_statement(reply: Reply, item: Statement) -> Reading | None:
    """What a statement gives; one that may be on the way has to be the last thing that is said."""
    read = _of_said(item.said)
    is_last = bool(reply.saying) and item.end >= reply.saying[-1].end
    if read is None or is_last or (item.certain and (not item.heading or (read.is_math and read.is_whole))):
        return read
    return None


def _of_said(said: str) -> Reading | None:
    said, is_rough = without_filler(said)
    if is_denied(said) or is_judgement(said):
        return None
    if found := box_spans(said):
        return Reading(found[-1].inside, True, False)
    if spans := math_spans(said):
        return _of_spans(said, spans, is_rough)
    if verdict := VERDICT.match(said):
        return Reading(verdict[1], False, False)
    said = _without_explanation(said)
    if as_number(said) is not None or looks_mathematical(said):
        return Reading(said, True, not is_rough)
    if "\\" in said and not PROSE.search(COMMANDS.sub(" ", said)):
        return Reading(said, True, False)
    if (ended := _last_side(said)) is not None:
        return Reading(ended, True, False)
    values = numbers_in(said)
    if len(values) == 1 and not PROSE.search(said):
        return Reading(said if len(said.split()) <= LONGEST_WORDS else write(values[0]), True, False)
    if len(values) == 1:
        return Reading(write(values[0]), True, False)
    words = re.sub(r"^(?:an?|the)\s+", "", said, flags=re.I).strip(MARKS + ".,;!")
    if words and len(words.split()) <= LONGEST_WORDS and not PROSE.search(words) and not is_judgement(words):
        return Reading(words, False, False)
    return None


def _of_spans(said: str, spans: list[Span], is_rough: bool) -> Reading | None:
    """The first formulas where a statement begins with one, or else the last before an explanation."""
    first = said[: spans[0].start].strip(MARKS + "(")
    if first and not re.fullmatch(r"[A-Za-z]\s*=|[$]|-|(?:an?|the|either|both)", first):
        cut = _explanation(said, spans)
        before = [span for span in spans if span.start < cut]
        return Reading(display_value((before or spans)[-1].inside), True, False, is_first=False)
    group = [spans[0]]
    for span in spans[1:]:
        if not LIST.fullmatch(said[group[-1].end : span.start]):
            break
        group.append(span)
    answers = [display_value(span.inside) for span in group]
    values = [as_number(answer) for answer in answers]
    if values[0] is not None and len(set(values)) == 1:
        answers = answers[:1]
    rest = said[group[-1].end :].strip(MARKS + ".,;!)")
    return Reading(", ".join(answers), True, not rest and not is_rough)


def _of_last_sentence(reply: Reply) -> str | None:
    if not reply.saying:
        return None
    last = reply.saying[-1]
    said, _ = without_filler(EMPTY_BOX.sub("", last.inside[-LONGEST:]))
    said = _without_whole(said)
    spans = math_spans(said)
    if spans:
        cut = _explanation(said, spans)
        before = _without_names(said, [span for span in spans if span.start < cut] or spans)
        return (
            _same_name(said, before) or _enumerated(said, before) or display_value(before[-1].inside) or None
        )
    said = _without_explanation(said)
    if looks_mathematical(said) and len(reply.sentences) == 1:
        return said.strip(MARKS)
    if (ended := _last_side(said) or _last_complement(said)) is not None:
        return ended
    if looks_mathematical(said) and re.search(r"[\d\\]", said):
        return said.strip(MARKS)
    values = numbers_in(said)
    if values:
        return write(values[-1])
    is_word = len(reply.sentences) == 1 and re.fullmatch(r"[A-Za-z-]{2,20}", said.strip(MARKS + "."))
    return said.strip(MARKS + ".") if is_word and not is_judgement(said) else None


def _without_whole(said: str) -> str:
    first = re.search(r"\d", said)
    return said[: first.end()] + WHOLE.sub("", said[first.end() :]) if first else said


def _same_name(said: str, spans: list[Span]) -> str | None:
    """The values that a sentence ends with for one name: `$x=2$ or $x=3$`; None where there is one."""
    name = NAMED.match(spans[-1].inside)
    if name is None:
        return _values_of_first(said, spans)
    if (pair := _named_pair(said, spans)) is not None:
        return pair
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not re.match(rf"\s*{re.escape(name[1])}\s*=", span.inside) or not LIST.fullmatch(
            said[span.end : group[0].start]
        ):
            break
        group.insert(0, span)
    return ", ".join(span.inside for span in group) if len(group) > 1 else None


def _enumerated(said: str, spans: list[Span]) -> str | None:
    """The formulas that a sentence lists at its end: `The roots are $1$ and $-2$`; None for no list."""
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not LIST.fullmatch(said[span.end : group[0].start]):
            break
        group.insert(0, span)
    if len(group) == 1 or len({"=" in span.inside for span in group}) > 1:
        return None
    if not re.search(r"\bare(?:\s+\w+ly)?[\s:]*$", said[: group[0].start]):
        return None
    return ", ".join(display_value(span.inside) for span in group)


def _values_of_first(said: str, spans: list[Span]) -> str | None:
    """`$x = 3$ or $-3$`: both values; None where the last two formulas are no such pair."""
    if len(spans) < 2 or NAMED.match(spans[-2].inside) is None or spans[-2].inside.count("=") != 1:
        return None
    first, last = as_number(spans[-2].inside), as_number(spans[-1].inside)
    if first == last or (None in (first, last) and not spans[-1].inside.startswith("-")):
        return None  # one value in two spellings: `$d = \frac{39}{2}$ or $19.5$`
    if re.fullmatch(r"\s*or\s*", said[spans[-2].end : spans[-1].start]) is None:
        return None
    return f"{spans[-2].inside}, {spans[-1].inside}"


def _named_pair(said: str, spans: list[Span]) -> str | None:
    """`$x = 2$ and $y = -1$`, where it is all that a sentence says; None of a condition and a value."""
    if len(spans) < 2 or re.fullmatch(r"\s*,?\s*and\s*", said[spans[-2].end : spans[-1].start]) is None:
        return None
    names = [NAMED.match(span.inside) for span in spans[-2:]]
    before = said[: spans[-2].start]
    if names[0] is None or names[1] is None or names[0][1] == names[1][1] or CONDITION.search(before):
        return None
    if any(span.inside.count("=") != 1 for span in spans[-2:]):
        return None
    return f"{spans[-2].inside}, {spans[-1].inside}" if len(spans) == 2 else None


def looks_mathematical(text: str) -> bool:
    """Whether a text without marks is a formula and not words."""
    if not text.startswith("\\text") and not re.search(r"[\w\\∞π√]", text):
        return False
    words = re.findall(r"[A-Za-z]{2,}", COMMANDS.sub(" ", text))
    return all(
        word.lower() in FUNCTIONS or (len(word) == 2 and word.lower() not in SHORT_WORDS) for word in words
    )


def _last_side(said: str) -> str | None:
    """What an equation in plain words comes to: `we find x = 12`; None where that is no formula."""
    sides = re.split(r"(?<![<>!\\])=(?!=)", said)
    if len(sides) == 1:
        return None
    side = sides[-1].strip(MARKS + ",;")
    if as_number(side) is not None or (side and looks_mathematical(side)):
        return side
    return None


def _last_complement(said: str) -> str | None:
    """The formula that a sentence in plain words ends with: `The domain is [1,2)`; None of words."""
    found = re.match(
        r".*\b(?:(?:is|are|equals?|be|gives?|get|obtain|have|find)\s+(?:at\s+(?:the\s+point\s+)?(?=\())?|at\s+(?:the\s+point\s+)?(?=\())(.+)",
        said,
        re.DOTALL,
    )
    if found is None or not re.search(r"[\d\\√π∞]", found[1]) or not looks_mathematical(found[1]):
        return None
    return found[1].strip(MARKS)


def _explanation(said: str, spans: list[Span]) -> int:
    """Where the explanation begins that follows the first formula, outside of formulas."""
    starts = [span.start for span in spans]
    for found in EXPLAINED.finditer(said, spans[0].end):
        place = bisect_right(starts, found.start()) - 1
        if found.start() < spans[place].end or found[0].strip(" ,;()")[:1].isupper():
            continue  # inside a formula; or it begins a sentence, behind a display
        if NAME.fullmatch(spans[place].inside) or CONCLUDED.search(said, found.end()):
            continue  # `the only $n$ which …`, `when $a = 1$, so the maximum is $3$`
        return found.start()
    return len(said)


def _without_names(said: str, spans: list[Span]) -> list[Span]:
    """The formulas without the name of a thing that is counted: `$7$ values of $x$`."""
    kept = list(spans)
    while len(kept) > 1 and NAME.fullmatch(kept[-1].inside) and COUNTED.search(said, 0, kept[-1].start):
        kept.pop()
    return kept if re.search(r"\d", kept[-1].inside) else spans


def _without_explanation(said: str) -> str:
    first = re.search(r"[\d\\]", said)
    if (found := EXPLAINED.search(said, first.end() if first else 0)) is None or found.start() == 0:
        return said
    before = said[: found.start()]
    return (
        said
        if len(re.findall(r"[({\[]", before)) != len(re.findall(r"[)}\]]", before))
        else before.strip(MARKS + ",;")
    )
