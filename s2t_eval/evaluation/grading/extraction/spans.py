"""Segmentation of a text into boxes, formulas, sentences and lines; every function takes linear time."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,9}(?=\{)|\\boxed\s{0,9}(?=[^\s{])")
UNBRACED_ARGUMENT = re.compile(r"\\[dtc]?frac\s?\d\s?\d|\\[a-zA-Z]+(?:\{[^{}\n]{0,200}\})*|[^\s$]{1,200}")
"""The argument of `\\boxed` without braces. TeX would take only one token of `\\boxed 18`, which means 18."""
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
ENVIRONMENTS = (
    r"\{((?:equation|align|aligned|alignat|gather|gathered|multline|eqnarray|split|displaymath|math)\*?)\}"
)
DELIMITER = re.compile(
    rf"\\\\|\\\$|(?P<open>\\[\[(])|(?P<close>\\[\])])|(?P<dollars>\$\$?)"
    rf"|\\begin{ENVIRONMENTS}|\\end{ENVIRONMENTS}"
)
MAX_INLINE_LENGTH = 2000
SENTENCE_END = re.compile(r"(?<=[^\s.\\])[.!?。](?=[*_\"'”)\]]{0,4}(?:\s|$))|。|\n")
ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|approx|resp|Dr|Mr|Mrs|Ms|St|No|Eq|Fig)|\b[ap]\.m)$", re.I)
ROW_BREAK = re.compile(r"\\begin\{|\\end\{|\\\\(?:\[[^\]\n]{0,20}\])?")
BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*(?!\*)")
FURTHER_ASSERTION = re.compile(
    r"[=:]|\b(?:so|thus|hence|therefore|is|are|was|were|has|have|gets?|gives?|makes?|costs?|equals?|leaves?|means?)\b",
    re.I,
)
ASIAN = r"[\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A Chinese, Japanese or Korean character."""
MARKUP_CHARACTERS = " \t\r\n*_`\"'"


class Span(NamedTuple):
    """A part of a text: its position, and its content without delimiters."""

    start: int
    end: int
    content: str


def box_spans(text: str) -> list[Span]:
    """The closed, non-empty boxes, in order."""
    matches = list(BOX.finditer(text))
    closing_braces = _closing_braces(text) if matches else {}
    spans = []
    for match in matches:
        start = match.end()
        if text[start : start + 1] == "{":
            end = closing_braces.get(start, -1)
            content = text[start + 1 : end] if end >= 0 else ""
        else:
            unbraced = UNBRACED_ARGUMENT.match(text, start)
            end = unbraced.end() - 1 if unbraced else start
            content = unbraced[0].rstrip(".,;") if unbraced else ""
        if content.strip(" $~"):
            spans.append(Span(match.start(), end + 1, content.strip()))
    return spans


def unclosed_box(text: str) -> str | None:
    """The content, up to the end of the line, of a last box without closing brace; None without one."""
    match = max(BOX.finditer(text), key=lambda match: match.start(), default=None)
    if match is None or text[match.end() : match.end() + 1] != "{":
        return None
    content = re.split(r"\n|\$", text[match.end() + 1 :], maxsplit=1)[0].strip()
    return content if content.strip("} ") else None


def math_spans(text: str) -> list[Span]:
    """The formulas between dollars, in LaTeX brackets or in environments, in order."""
    marks = [mark for mark in DELIMITER.finditer(text) if mark.lastindex]
    delimiters = [_delimiter_name(mark) for mark in marks]
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(delimiters):
        positions.setdefault(name, []).append(index)
    spans, index = [], 0
    while index < len(marks):
        later = positions.get(_closing_delimiter(delimiters[index]), [])
        next_index = bisect_left(later, index + 1)
        end = later[next_index] if next_index < len(later) else None
        if end is not None and _is_math(text, marks[index], marks[end]):
            content = text[marks[index].end() : marks[end].start()].strip()
            if content:
                spans.append(Span(marks[index].start(), marks[end].end(), content))
            index = end
        index += 1
    return spans


def display_value(content: str) -> str:
    """The result of a displayed formula: the last row of an alignment, otherwise the whole formula."""
    content = re.sub(
        rf"\\(?:begin|end){ENVIRONMENTS}(?:\{{\d+\}})?|\\(?:tag\*?|label)\{{[^{{}}]*\}}|\\nonumber",
        "",
        content,
    )
    if re.search(r"&\s*=\s*&", content):
        content = re.sub(r"\\begin\{array\}(?:\{[^{}]*\})?|\\end\{array\}", "", content)
    depth, begin, rows = 0, 0, []
    for mark in ROW_BREAK.finditer(content):
        depth += {"\\begin{": 1, "\\end{": -1}.get(mark[0], 0)
        if depth == 0 and mark[0].startswith("\\\\"):
            rows.append(content[begin : mark.start()])
            begin = mark.end()
    rows = [row for row in (*rows, content[begin:]) if row.strip(" \t\n&.,")]
    if not rows:
        return ""
    row = rows[-1] if "\\begin{" in rows[-1] else re.sub(r"(?<!\\)&", " ", rows[-1])
    return re.sub(r"^\s*=", "", re.sub(r"[\s.,;]+$", "", row)).strip()


def find_sentences(text: str) -> list[Span]:
    """The sentences of a text, in order; sentence ends inside formulas are ignored."""
    formulas = math_spans(text)
    starts = [span.start for span in formulas]
    spans, begin = [], 0
    for mark in (*SENTENCE_END.finditer(text), None):
        end = len(text) if mark is None else mark.start()
        index = bisect_left(starts, end) - 1
        if mark is not None and index >= 0 and end < formulas[index].end:
            continue
        if mark is not None and mark[0] != "\n" and ABBREVIATION.search(text, max(begin, end - 8), end):
            continue
        content = text[begin:end].strip(MARKUP_CHARACTERS)
        if content.strip("$[]\\(). "):
            spans.append(Span(begin, end, content))
        begin = end if mark is None else mark.end()
    return spans


def emphasised_part(sentence: str) -> str | None:
    """The only bold part of a sentence; None if there are several, or if the sentence asserts more behind it.

    Example:
        >>> emphasised_part("So there are **4** positive divisors of 6")
        '4'
    """
    sentence = _with_both_marks(sentence)
    parts = list(BOLD.finditer(sentence))
    if len(parts) != 1 or FURTHER_ASSERTION.search(sentence, parts[0].end()):
        return None
    return parts[0][1].strip()


def _with_both_marks(sentence: str) -> str:
    """The sentence with the mark of a bold part that was stripped from its beginning or its end."""
    if sentence.count("**") % 2 == 0:
        return sentence
    return f"{sentence}**" if re.search(r"(?:^|[\s(])\*\*\S[^*]*$", sentence) else f"**{sentence}"


def nonempty_lines(text: str) -> Iterator[Span]:
    """The lines that contain more than markup, in order."""
    begin = 0
    for line in text.split("\n"):
        if line.strip(MARKUP_CHARACTERS + "#>-"):
            yield Span(begin, begin + len(line), line.strip())
        begin += len(line) + 1


def _closing_braces(text: str) -> dict[int, int]:
    """The position of the closing brace for every opening brace that is closed."""
    closing, open_positions = {}, []
    for mark in BRACE.finditer(text):
        if mark[0] == "{":
            open_positions.append(mark.start())
        elif mark[0] == "}" and open_positions:
            closing[open_positions.pop()] = mark.start()
    return closing


def _delimiter_name(mark: re.Match[str]) -> str:
    if mark[4] or mark[5]:
        return f"{mark[0][:4]}{mark[4] or mark[5]}"
    return mark[0]


def _closing_delimiter(name: str) -> str:
    if name.startswith("\\beg"):
        return f"\\end{name[4:]}"
    return {"\\[": "\\]", "\\(": "\\)", "$": "$", "$$": "$$"}.get(name, "")


def _is_math(text: str, begin: re.Match[str], end: re.Match[str]) -> bool:
    """Whether two dollar signs delimit a formula, in contrast to the signs of two prices."""
    if begin[0] != "$":
        return True
    content = text[begin.end() : min(end.start(), begin.end() + MAX_INLINE_LENGTH + 1)]
    if len(content) > MAX_INLINE_LENGTH or "\n\n" in content or not content.strip():
        return False
    if text[end.end() : end.end() + 1].isdigit() or re.match(r"\d[\d.,]*\s[a-z]{2,}", content):
        return False
    return content[0].isspace() == content[-1].isspace()
