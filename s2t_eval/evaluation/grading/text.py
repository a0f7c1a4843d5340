"""What a text is made of: boxes, mathematics between marks, sentences. Every function is linear."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,9}(?=\{)|\\boxed\s{0,9}(?=[^\s{])")
UNBRACED = re.compile(r"\\[dtc]?frac\s?\d\s?\d|\\[a-zA-Z]+(?:\{[^{}\n]{0,200}\})*|[^\s$]{1,200}")
"""What `\\boxed` without braces takes; more than TeX would, as writers mean it: `\\boxed 18`."""
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
ENVIRONMENTS = (
    r"\{((?:equation|align|aligned|alignat|gather|gathered|multline|eqnarray|split|displaymath|math)\*?)\}"
)
DELIMITER = re.compile(
    rf"\\\\|\\\$|(?P<open>\\[\[(])|(?P<close>\\[\])])|(?P<dollars>\$\$?)"
    rf"|\\begin{ENVIRONMENTS}|\\end{ENVIRONMENTS}"
)
LONGEST_INLINE = 2000
SENTENCE_END = re.compile(r"(?<=[^\s.\\])[.!?。](?=[*_\"'”)\]]{0,4}(?:\s|$))|。|\n")
ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|approx|resp|Dr|Mr|Mrs|Ms|St|No|Eq|Fig)|\b[ap]\.m)$", re.I)
ROWS = re.compile(r"\\begin\{|\\end\{|\\\\(?:\[[^\]\n]{0,20}\])?")
MARKS = " \t\r\n*_`\"'"


class Span(NamedTuple):
    """A part of a text: where it stands, and what it holds without its marks."""

    start: int
    end: int
    inside: str


def boxes(text: str) -> list[str]:
    """Contents of the boxes that are closed and not empty, in their order."""
    return [box.inside for box in box_spans(text)]


def box_spans(text: str) -> list[Span]:
    """The boxes that are closed and not empty, in their order."""
    matches = list(BOX.finditer(text))
    closing = _closing_braces(text) if matches else {}
    found = []
    for match in matches:
        start = match.end()
        if text[start : start + 1] == "{":
            end = closing.get(start, -1)
            content = text[start + 1 : end] if end >= 0 else ""
        else:
            unbraced = UNBRACED.match(text, start)
            end = unbraced.end() - 1 if unbraced else start
            content = unbraced[0].rstrip(".,;") if unbraced else ""
        if content.strip(" $~"):
            found.append(Span(match.start(), end + 1, content.strip()))
    return found


def unclosed_box(text: str) -> str | None:
    """What stands in a last box whose brace is missing, to the end of its line; None where there is none."""
    last = max(BOX.finditer(text), key=lambda match: match.start(), default=None)
    if last is None or text[last.end() : last.end() + 1] != "{":
        return None
    content = re.split(r"\n|\$", text[last.end() + 1 :], maxsplit=1)[0].strip()
    return content if content.strip("} ") else None


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at `start`; escaped braces do not count."""
    depth, place = 0, start
    while place < len(text):
        if text[place] == "\\":
            place += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
        place += 1
    return None


def math_spans(text: str) -> list[Span]:
    """What stands between dollars, LaTeX's own brackets, or in an environment, in their order."""
    marks = [mark for mark in DELIMITER.finditer(text) if mark.lastindex]
    names = [_name(mark) for mark in marks]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    found, place = [], 0
    while place < len(marks):
        later = places.get(_closes(names[place]), [])
        index = bisect_left(later, place + 1)
        end = later[index] if index < len(later) else None
        if end is not None and _is_math(text, marks[place], marks[end]):
            inside = text[marks[place].end() : marks[end].start()].strip()
            if inside:
                found.append(Span(marks[place].start(), marks[end].end(), inside))
            place = end
        place += 1
    return found


def display_value(inside: str) -> str:
    """What a display comes to: the last row of an alignment without its marks, or else all of it."""
    inside = re.sub(
        rf"\\(?:begin|end){ENVIRONMENTS}(?:\{{\d+\}})?|\\(?:tag\*?|label)\{{[^{{}}]*\}}|\\nonumber",
        "",
        inside,
    )
    if re.search(r"&\s*=\s*&", inside):
        inside = re.sub(r"\\begin\{array\}(?:\{[^{}]*\})?|\\end\{array\}", "", inside)
    depth, begin, rows = 0, 0, []
    for mark in ROWS.finditer(inside):
        depth += {"\\begin{": 1, "\\end{": -1}.get(mark[0], 0)
        if depth == 0 and mark[0].startswith("\\\\"):
            rows.append(inside[begin : mark.start()])
            begin = mark.end()
    rows = [row for row in (*rows, inside[begin:]) if row.strip(" \t\n&.,")]
    if not rows:
        return ""
    row = rows[-1] if "\\begin{" in rows[-1] else re.sub(r"(?<!\\)&", " ", rows[-1])
    return re.sub(r"^\s*=", "", re.sub(r"[\s.,;]+$", "", row)).strip()


def sentence_end(text: str, start: int) -> int:
    """Where the sentence ends that stands at `start`; its mark of punctuation is not in it."""
    for mark in SENTENCE_END.finditer(text, start):
        if mark[0] == "\n" or not ABBREVIATED.search(text, max(start, mark.start() - 8), mark.start()):
            return mark.start()
    return len(text)


def sentences(text: str) -> list[Span]:
    """The sentences of a text, in their order; none ends inside mathematics."""
    spans = math_spans(text)
    starts = [span.start for span in spans]
    found, begin = [], 0
    for mark in (*SENTENCE_END.finditer(text), None):
        end = len(text) if mark is None else mark.start()
        inside = bisect_left(starts, end) - 1
        if mark is not None and inside >= 0 and end < spans[inside].end:
            continue
        if mark is not None and mark[0] != "\n" and ABBREVIATED.search(text, max(begin, end - 8), end):
            continue
        said = text[begin:end].strip(MARKS)
        if said.strip("$[]\\(). "):
            found.append(Span(begin, end, said))
        begin = end if mark is None else mark.end()
    return found


def lines(text: str) -> Iterator[Span]:
    """The lines that say something, in their order."""
    begin = 0
    for line in text.split("\n"):
        if line.strip(MARKS + "#>-"):
            yield Span(begin, begin + len(line), line.strip())
        begin += len(line) + 1


def _closing_braces(text: str) -> dict[int, int]:
    """For every opening brace that is closed, where."""
    found, opened = {}, []
    for mark in BRACE.finditer(text):
        if mark[0] == "{":
            opened.append(mark.start())
        elif mark[0] == "}" and opened:
            found[opened.pop()] = mark.start()
    return found


def _name(mark: re.Match[str]) -> str:
    if mark[4] or mark[5]:
        return f"{mark[0][:4]}{mark[4] or mark[5]}"
    return mark[0]


def _closes(name: str) -> str:
    if name.startswith("\\beg"):
        return f"\\end{name[4:]}"
    return {"\\[": "\\]", "\\(": "\\)", "$": "$", "$$": "$$"}.get(name, "")


def _is_math(text: str, begin: re.Match[str], end: re.Match[str]) -> bool:
    """Whether two dollars enclose mathematics; the dollars of two prices do not."""
    if begin[0] != "$":
        return True
    inside = text[begin.end() : min(end.start(), begin.end() + LONGEST_INLINE + 1)]
    if len(inside) > LONGEST_INLINE or "\n\n" in inside or not inside.strip():
        return False
    if text[end.end() : end.end() + 1].isdigit() or re.match(r"\d[\d.,]*\s[a-z]{2,}", inside):
        return False
    return inside[0].isspace() == inside[-1].isspace()
