"""Reads the top-level statements of generated text, prose between them left out.

Each statement keeps its own source: nothing is written anew from a syntax tree, so a sum of a thousand
terms or an integer of five thousand digits stays what it was.
"""

from __future__ import annotations
import __future__

import ast
import functools
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass

from s2t_eval.evaluation.humaneval.layout import chunks, dedent, tokens, with_plain_tabs
from s2t_eval.evaluation.humaneval.names import Names, names_of

END_MARK = re.compile(r"```|~~~|<\|[^|>\n]{1,40}\|>|</?[\w:]{1,20}>|\[/\w{1,20}\]|\\end\{|\\\s*\Z")
"""What follows an answer on its last line: a fence, a special token, a closing tag."""
COMPOUND = re.compile(r"@|(?:async\s+)?(?:def|class|for|while|if|with|try)\b")
LONG_NUMBER = re.compile(r"\b[1-9][0-9_]{3000,}\b")
"""Python refuses to read longer decimal numbers than 4,300 digits, the sandbox does not."""
UNFINISHED = re.compile(r"(?:.*:|\s*@.*)\s*(?:#.*)?")
EMPTY = re.compile(r"\s*(?:#[^\n]*(?:\n\s*|\Z))*\Z")
"""Comments and empty lines."""
WORDS = "|".join([*keyword.kwlist, *keyword.softkwlist, "print", "exec"])
PROSE = re.compile(
    rf"(?!(?:{WORDS})\b)[^\W\d]\w*(?:'\w+)?[,:]?[ ]+(?!(?:{WORDS})\b)[^\W\d]\w*(?:'\w+)?[ ]+[^\W\d]"
)
"""Three words one after another that begin no statement: most prose is known without the parser."""
MOST_CUTS = 12
MOST_REREADS = 8
FREE_CHARACTERS = 100_000
CHARGE = 20
PASSES = 5

Fault = SyntaxError | ValueError | RecursionError | MemoryError


@dataclass(frozen=True, eq=False)
class Statement:
    """A top-level statement.

    Args:
        source: as it was written.
        node: parsed; None where it is nested too deep for Python's parser.
        is_whole: False where its end was cut off, so that a whole one of the same name is better.
    """

    source: str
    node: ast.stmt | None
    is_whole: bool = True

    @functools.cached_property
    def names(self) -> Names:
        """The global names in it."""
        return names_of(with_short_numbers(self.source), self.node)

    def binds(self, name: str) -> bool:
        """Whether it gives a global name its value: `name = lambda ...` and imports do too."""
        return name in self.source and name in self.names.bound

    @property
    def is_known_future(self) -> bool:
        """Whether it is a `from __future__ import` that Python knows; it has to stand first in a program."""
        node = self.node
        if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
            return False
        return all(alias.name in __future__.all_feature_names for alias in node.names)

    @property
    def ends_function(self) -> bool:
        """Whether nothing behind it in the same body is ever reached."""
        if self.node is None:
            return re.match(r"(?:return|raise)\b", self.source) is not None
        return isinstance(self.node, ast.Return | ast.Raise)


class Reader:
    """Reads one answer, and bounds the characters that it parses for it.

    Args:
        entry_point: name of the asked function; its definition may stand behind prose on its line.
        length: of the answer; the bound is a multiple of it.
    """

    def __init__(self, entry_point: str, length: int) -> None:
        self._known: dict[str, ast.Module | Fault] = {}
        self._left = FREE_CHARACTERS + PASSES * length
        self._entry = re.compile(rf"\b(?:async\s+)?def\s+{re.escape(entry_point)}\s*\(")

    def read(self, text: str, rereads: int = MOST_REREADS) -> Iterator[Statement | None]:
        """Statements in their order; None stands for a part that is no Python."""
        for chunk in chunks(dedent(text)):
            if EMPTY.match(chunk) is None:
                yield from self._read_chunk(chunk, rereads)

    def _read_chunk(self, chunk: str, rereads: int) -> Iterator[Statement | None]:
        text = chunk
        if PROSE.match(chunk) is None or self._entry.search(chunk.split("\n", 1)[0]):
            for text in self._repairs(chunk):
                tree = self._parse(text)
                if isinstance(tree, ast.Module):
                    yield from _statements(text, tree)
                    return
                if isinstance(tree, RecursionError | MemoryError):
                    yield Statement(text.rstrip(), None)
                    return
            if COMPOUND.match(text):
                yield self._cut(text)
                return
        yield None
        _, newline, rest = chunk.partition("\n")
        if rereads and newline and EMPTY.match(rest) is None and self._afford(rest):
            yield from self.read(rest, rereads - 1)

    def _repairs(self, chunk: str) -> Iterator[str]:
        """The chunk as it is, then with one repair after another."""
        yield chunk
        if (plain := with_plain_tabs(chunk)) != chunk:
            chunk = plain
            yield chunk
        if (end := _end_mark(chunk)) is not None and EMPTY.match(chunk[:end]) is None:
            chunk = chunk[:end]
            yield chunk
        line = chunk.split("\n", 1)[0]
        if (entry := self._entry.search(line)) is not None and line[: entry.start()].strip():
            yield chunk[entry.start() :]

    def _cut(self, text: str) -> Statement | None:
        """The lines of a compound statement up to the one that is no Python."""
        lines = text.split("\n")
        for _ in range(MOST_CUTS):
            tree = self._parse("\n".join(lines))
            if isinstance(tree, ast.Module):
                first = next(_statements("\n".join(lines), tree), None)
                return Statement(first.source, first.node, is_whole=False) if first else None
            if not isinstance(tree, SyntaxError) or tree.lineno is None:
                return None
            lines = lines[: min(tree.lineno, len(lines)) - 1]
            if "'except' or 'finally'" in tree.msg:
                lines = lines[: max((i for i, line in enumerate(lines) if line.strip() == "try:"), default=0)]
            while lines and (not lines[-1].strip() or UNFINISHED.fullmatch(lines[-1])):
                lines.pop()
            if not lines:
                return None
        return None

    def _parse(self, text: str) -> ast.Module | Fault:
        """A syntax tree, or why there is none."""
        if text not in self._known:
            fault = ValueError("too much text was read already")
            self._known[text] = parse(text) if self._afford(text) else fault
        return self._known[text]

    def _afford(self, text: str) -> bool:
        self._left -= len(text) + CHARGE
        return self._left >= 0


def parse(text: str) -> ast.Module | Fault:
    """A syntax tree, or why Python cannot read the text."""
    try:
        return ast.parse(with_short_numbers(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        return fault


def with_short_numbers(text: str) -> str:
    """Text of the same length whose long decimal numbers are hexadecimal, which is read in linear time."""
    return LONG_NUMBER.sub(lambda match: "0x" + "1" * (len(match[0]) - 2), text)


def _end_mark(text: str) -> int | None:
    """Where the first mark outside strings and comments begins."""
    place = 0
    for kind, start, end in tokens(text):
        if kind in ("string", "comment"):
            if (mark := END_MARK.search(text, place, start)) is not None:
                return mark.start()
            place = end
    mark = END_MARK.search(text, place)
    return mark.start() if mark is not None else None


def _statements(text: str, tree: ast.Module) -> Iterator[Statement]:
    """The statements of a parsed text, each with its source."""
    if len(tree.body) == 1:
        yield Statement(text.rstrip(), tree.body[0])
        return
    lines = text.encode().split(b"\n")
    for node in tree.body:
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        start = node.col_offset if first == node.lineno else 0
        last, end = node.end_lineno, node.end_col_offset
        assert last is not None and end is not None  # the parser always gives both
        if first == last:
            part = [lines[first - 1][start:end]]
        else:
            part = [lines[first - 1][start:], *lines[first : last - 1], lines[last - 1][:end]]
        yield Statement(b"\n".join(part).decode(), node)
