"""Where the lines of a source text stand, read without parsing it: at the top level or inside something.

Generated text is code with prose around it, so it cannot be given to Python's parser as a whole. One
pass over its strings, comments and brackets finds where top-level statements begin, and each of these is
then parsed once. Looking for the longest text that parses instead costs the cube of its length.
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
"""A string ends at the end of its line at the latest: an apostrophe in prose opens nothing."""
TRIPLE_PARTS = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in ('"""', "'''")}
NEVER_IN_BRACKETS = re.compile(
    r"(?:async[ ]+)?def[ ]+\w+[ ]*\(|class[ ]+\w+[ ]*[:(]|import[ ]+\w|from[ ]+[\w.]+[ ]+import\b"
)
"""A line that begins so ends brackets that prose left open."""
CONTINUES = re.compile(r"(?:elif|else|except|finally)\b")
ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
NO_SPACE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
ODD_NEWLINE = re.compile("[\u0085\u2028\u2029\v]")
ODD = re.compile("|".join(pattern.pattern for pattern in (ODD_SPACE, NO_SPACE, ODD_NEWLINE)))


class Token(NamedTuple):
    """A string, comment, bracket or line end of a source text."""

    kind: str
    start: int
    end: int


class Layout(NamedTuple):
    """What `layout` finds.

    Args:
        tops: where lines begin that are no continuation of a string, a bracket or a line.
        strings: beginnings and ends of strings that go over several lines.
    """

    tops: list[int]
    strings: list[tuple[int, int]]


def tokens(text: str) -> Iterator[Token]:
    """Strings, comments, brackets and line ends. A triple quote that nothing closes is no string."""
    place, unclosed = 0, set[str]()
    while (match := TOKEN.search(text, place)) is not None:
        kind, start, place = str(match.lastgroup), match.start(), match.end()
        if kind == "triple":
            quote = match[0]
            end = None if quote in unclosed else _end_of_triple(text, place, quote)
            if end is None:
                unclosed.add(quote)
                continue
            kind, place = "string", end
        yield Token(kind, start, place)


def layout(text: str) -> Layout:
    """Where top-level lines begin, and strings over several lines."""
    found, depth = Layout([0], []), 0
    for kind, start, end in tokens(text):
        if kind == "open":
            depth += end - start
        elif kind == "close":
            depth = max(0, depth - (end - start))
        elif kind == "string" and text.find("\n", start, end) >= 0:
            found.strings.append((start, end))
        elif kind == "newline":
            if depth and NEVER_IN_BRACKETS.match(text, end):
                depth = 0
            if not depth:
                found.tops.append(end)
    return found


def chunks(text: str) -> list[str]:
    """A text cut where its top-level statements begin; together the chunks are the text."""
    starts, is_decorated = [0], False
    for place in layout(text).tops:
        first = text[place : place + 1]
        if not first or first.isspace() or first == "#" or CONTINUES.match(text, place):
            continue
        if place and not is_decorated:
            starts.append(place)
        is_decorated = first == "@"
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def ends_inside_string(text: str) -> str | None:
    """The quotes of a triple-quoted string that a text opens and does not close."""
    place = 0
    while (match := TOKEN.search(text, place)) is not None:
        place = match.end()
        if match.lastgroup == "triple":
            end = _end_of_triple(text, place, match[0])
            if end is None:
                return match[0]
            place = end
    return None


def with_plain_spaces(text: str) -> str:
    """Spaces and line ends that only look like them replaced, except in strings and comments."""
    if ODD.search(text) is None:
        return text
    pieces, place = [], 0
    for kind, start, end in tokens(text):
        if kind in ("string", "comment"):
            pieces += [_plain(text[place:start]), text[start:end]]
            place = end
    return "".join([*pieces, _plain(text[place:])])


def with_plain_tabs(text: str, width: int = 4) -> str:
    """Tabs at the beginning of lines expanded, except in strings."""
    if "\t" not in text:
        return text

    def expanded(line: str) -> str:
        code = line.lstrip(" \t")
        return line[: len(line) - len(code)].expandtabs(width) + code

    return change_lines(text, expanded)


def dedent(text: str) -> str:
    """A text without the indentation that all its lines have; lines inside strings do not count."""
    if re.match(r"\s*^\S", text, re.MULTILINE):
        return text
    margin = min(
        (_indentation(line) for line, is_code in _lines(text) if is_code and line.strip()), default=0
    )
    return change_lines(text, lambda line: line[min(margin, _indentation(line)) :]) if margin else text


def indent(text: str, by: str) -> str:
    """A text with an indentation before all its lines, except in strings and where they are empty."""
    return change_lines(text, lambda line: by + line if line.strip() else line)


def change_lines(text: str, change: Callable[[str], str]) -> str:
    """A text with its lines changed, except those that begin inside a string."""
    return "\n".join(change(line) if is_code else line for line, is_code in _lines(text))


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines, and whether they begin outside strings."""
    strings = iter(layout(text).strings)
    begin, end = next(strings, (len(text), len(text)))
    place = 0
    for line in text.split("\n"):
        while place > end:
            begin, end = next(strings, (len(text) + 1, len(text) + 1))
        yield line, not begin < place < end
        place += len(line) + 1


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _plain(text: str) -> str:
    return NO_SPACE.sub("", ODD_SPACE.sub(" ", ODD_NEWLINE.sub("\n", text)))


def _end_of_triple(text: str, place: int, quote: str) -> int | None:
    for match in TRIPLE_PARTS[quote].finditer(text, place):
        if match[0] == quote:
            return match.end()
    return None
