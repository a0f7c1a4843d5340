"""Lexical structure of a source text: strings, comments, brackets and the starts of top-level lines.

Generated text mixes code and prose, so Python's parser cannot process it as a whole. One pass over strings,
comments and brackets finds the starts of top-level statements, and each statement is then parsed once.
Searching for the longest text that parses would take cubic time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<triple>\"{3}|'{3})
      | (?P<string>"(?:[^"\\\n]+|\\.)*"?|'(?:[^'\\\n]+|\\.)*'?)
      | (?P<open>[\[({]+)
      | (?P<close>[\])}]+)
      | (?P<joined>\\\n)
      | (?P<newline>\n+)""",
    re.VERBOSE | re.DOTALL,
)
"""A string ends at the end of its line at the latest, so an apostrophe in prose opens no string."""
TRIPLE_QUOTE = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in ('"""', "'''")}
STATEMENT_START = re.compile(
    r"(?:async[ ]+)?def[ ]+\w+[ ]*\(|class[ ]+\w+[ ]*[:(]|import[ ]+\w|from[ ]+[\w.]+[ ]+import\b"
)
"""The start of a statement, which closes brackets that prose left open."""
CLAUSE_START = re.compile(r"(?:elif|else|except|finally)\b")
UNUSUAL_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
ZERO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
UNUSUAL_NEWLINE = re.compile("[\u0085\u2028\u2029\v]")
UNUSUAL = re.compile("|".join(pattern.pattern for pattern in (UNUSUAL_SPACE, ZERO_WIDTH, UNUSUAL_NEWLINE)))
CODE_LINE = re.compile(r"\s*[^\s#]")
TAB_WIDTH = 4


class Token(NamedTuple):
    """A string, comment, bracket or line end of a source text."""

    kind: str
    start: int
    end: int


class Layout(NamedTuple):
    """Positions in a source text.

    Args:
        line_starts: starts of lines that do not continue a string, a bracket or a line.
        multiline_strings: starts and ends of strings over several lines.
    """

    line_starts: list[int]
    multiline_strings: list[tuple[int, int]]


def tokenize(text: str) -> Iterator[Token]:
    """Yield strings, comments, brackets and line ends; an unclosed triple quote is not a string."""
    position, unclosed_quotes = 0, set[str]()
    while (match := TOKEN.search(text, position)) is not None:
        kind, start, position = str(match.lastgroup), match.start(), match.end()
        if kind == "triple":
            quote = match[0]
            end = None if quote in unclosed_quotes else _end_of_triple(text, position, quote)
            if end is None:
                unclosed_quotes.add(quote)
                continue
            kind, position = "string", end
        yield Token(kind, start, position)


def find_layout(text: str) -> Layout:
    """Return the starts of top-level lines and the strings over several lines."""
    layout, depth = Layout([0], []), 0
    for kind, start, end in tokenize(text):
        if kind == "open":
            depth += end - start
        elif kind == "close":
            depth = max(0, depth - (end - start))
        elif kind == "string" and text.find("\n", start, end) >= 0:
            layout.multiline_strings.append((start, end))
        elif kind == "newline":
            if depth and STATEMENT_START.match(text, end):
                depth = 0
            if not depth:
                layout.line_starts.append(end)
    return layout


def split_statements(text: str) -> list[str]:
    """Split a text at the starts of its top-level statements; the parts concatenate to the text."""
    starts, is_decorated = [0], False
    for position in find_layout(text).line_starts:
        first = text[position : position + 1]
        if not first or first.isspace() or first == "#" or CLAUSE_START.match(text, position):
            continue
        if position and not is_decorated:
            starts.append(position)
        is_decorated = first == "@"
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def ends_inside_string(text: str) -> str | None:
    """Return the quotes of an unclosed triple-quoted string at the end of a text; None without one."""
    position = 0
    while (match := TOKEN.search(text, position)) is not None:
        position = match.end()
        if match.lastgroup == "triple":
            end = _end_of_triple(text, position, match[0])
            if end is None:
                return match[0]
            position = end
    return None


def normalise_spaces(text: str) -> str:
    """Replace unusual Unicode spaces and line ends by plain ones, except in strings and comments."""
    if UNUSUAL.search(text) is None:
        return text
    pieces, position = [], 0
    for kind, start, end in tokenize(text):
        if kind in ("string", "comment"):
            pieces += [_normalise(text[position:start]), text[start:end]]
            position = end
    return "".join([*pieces, _normalise(text[position:])])


def expand_tabs(text: str) -> str:
    """Expand tabs at the start of lines to `TAB_WIDTH` columns, except in strings."""
    if "\t" not in text:
        return text

    def expand(line: str) -> str:
        code = line.lstrip(" \t")
        return line[: len(line) - len(code)].expandtabs(TAB_WIDTH) + code

    return change_lines(text, expand)


def dedent(text: str) -> str:
    """Remove the common indentation of all lines, ignoring comments and lines inside strings."""
    if re.match(r"\s*^[^\s#]", text, re.MULTILINE):
        return text
    margin = min(
        (_indentation(line) for line, is_code in _lines(text) if is_code and CODE_LINE.match(line)), default=0
    )
    return change_lines(text, lambda line: line[min(margin, _indentation(line)) :]) if margin else text


def indent(text: str, by: str) -> str:
    """Indent all lines except empty ones and those inside strings."""
    return change_lines(text, lambda line: by + line if line.strip() else line)


def change_lines(text: str, function: Callable[[str], str]) -> str:
    """Apply a function to every line that does not begin inside a string."""
    return "\n".join(function(line) if is_code else line for line, is_code in _lines(text))


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines, and whether they begin outside strings."""
    strings = iter(find_layout(text).multiline_strings)
    begin, end = next(strings, (len(text), len(text)))
    position = 0
    for line in text.split("\n"):
        while position > end:
            begin, end = next(strings, (len(text) + 1, len(text) + 1))
        yield line, not begin < position < end
        position += len(line) + 1


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _normalise(text: str) -> str:
    return ZERO_WIDTH.sub("", UNUSUAL_SPACE.sub(" ", UNUSUAL_NEWLINE.sub("\n", text)))


def _end_of_triple(text: str, position: int, quote: str) -> int | None:
    for match in TRIPLE_QUOTE[quote].finditer(text, position):
        if match[0] == quote:
            return match.end()
    return None
