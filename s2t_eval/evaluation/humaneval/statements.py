"""Parsing of the top-level statements of generated text; prose between them is skipped.

Each statement keeps its source text. Nothing is unparsed from a syntax tree, which would fail for a sum of
a thousand terms or an integer of five thousand digits.
"""

from __future__ import annotations
import __future__

import ast
import functools
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass

from s2t_eval.evaluation.humaneval.layout import dedent, expand_tabs, split_statements, tokenize
from s2t_eval.evaluation.humaneval.names import Names, find_names

ANSWER_END = re.compile(r"```|~~~|<\|[^|>\n]{1,40}\|>|</?[\w:]{1,20}>|\[/\w{1,20}\]|\\end\{|\\\s*\Z")
"""Text after the code on its last line: a fence, a special token, a closing tag."""
COMPOUND = re.compile(r"@|(?:async\s+)?(?:def|class|for|while|if|with|try)\b")
LONG_NUMBER = re.compile(r"\b[1-9][0-9_]{3000,}\b")
"""Decimal integers of more than 4,300 digits, which this process's parser rejects and the sandbox accepts."""
UNFINISHED = re.compile(r"(?:.*:|\s*@.*)\s*(?:#.*)?")
EMPTY = re.compile(r"\s*(?:#[^\n]*(?:\n\s*|\Z))*\Z")
"""Comments and empty lines."""
WORDS = "|".join([*keyword.kwlist, *keyword.softkwlist, "print", "exec"])
PROSE = re.compile(
    rf"(?!(?:{WORDS})\b)[^\W\d]\w*(?:'\w+)?[,:]?[ ]+(?!(?:{WORDS})\b)[^\W\d]\w*(?:'\w+)?[ ]+[^\W\d]"
)
"""Three consecutive words that begin no statement: most prose is recognised without the parser."""
MAX_CUTS = 12
MAX_REREADS = 8
BASE_BUDGET = 100_000
COST_PER_PARSE = 20
BUDGET_PER_CHARACTER = 5

ParseError = SyntaxError | ValueError | RecursionError | MemoryError


@dataclass(frozen=True, eq=False)
class Statement:
    """A top-level statement.

    Args:
        source: source text.
        node: syntax tree; None if the statement is nested too deeply for Python's parser.
        is_whole: False if its end was truncated, so that a complete definition has precedence; default True.
    """

    source: str
    node: ast.stmt | None
    is_whole: bool = True

    @functools.cached_property
    def names(self) -> Names:
        """The global names in the statement."""
        return find_names(shorten_numbers(self.source), self.node)

    def binds(self, name: str) -> bool:
        """Whether the statement binds a global name; `name = lambda ...` and imports do so too."""
        return name in self.source and name in self.names.bound

    @property
    def is_known_future(self) -> bool:
        """Whether it is a valid `from __future__ import`, which must be first in a program."""
        node = self.node
        if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
            return False
        return all(alias.name in __future__.all_feature_names for alias in node.names)

    @property
    def ends_function(self) -> bool:
        """Whether statements after it in the same body are unreachable."""
        if self.node is None:
            return re.match(r"(?:return|raise)\b", self.source) is not None
        return isinstance(self.node, ast.Return | ast.Raise)


class Reader:
    """Parses one answer with a budget of characters, so that the time is linear in the answer's length.

    Args:
        entry_point: name of the requested function; its definition may follow prose on the same line.
        length: length of the answer in characters; the budget is a multiple of it.
    """

    def __init__(self, entry_point: str, length: int) -> None:
        self._parsed: dict[str, ast.Module | ParseError] = {}
        self._budget = BASE_BUDGET + BUDGET_PER_CHARACTER * length
        self._entry = re.compile(rf"\b(?:async\s+)?def\s+{re.escape(entry_point)}\s*\(")

    def read(self, text: str, max_rereads: int = MAX_REREADS) -> Iterator[Statement | None]:
        """Yield the statements in order, and None for a part that is not valid Python."""
        for chunk in split_statements(dedent(text)):
            if EMPTY.match(chunk) is None:
                yield from self._read_chunk(chunk, max_rereads)

    def _read_chunk(self, chunk: str, max_rereads: int) -> Iterator[Statement | None]:
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
                yield self._parse_truncated(text)
                return
        yield None
        _, newline, rest = chunk.partition("\n")
        if max_rereads and newline and EMPTY.match(rest) is None and self._spend(rest):
            yield from self.read(rest, max_rereads - 1)

    def _repairs(self, chunk: str) -> Iterator[str]:
        """Yield the chunk unchanged, then with repairs applied cumulatively."""
        yield chunk
        if (plain := expand_tabs(chunk)) != chunk:
            chunk = plain
            yield chunk
        if (end := _find_answer_end(chunk)) is not None and EMPTY.match(chunk[:end]) is None:
            chunk = chunk[:end]
            yield chunk
        line = chunk.split("\n", 1)[0]
        if (entry := self._entry.search(line)) is not None and line[: entry.start()].strip():
            yield chunk[entry.start() :]

    def _parse_truncated(self, text: str) -> Statement | None:
        """Parse the lines of a compound statement before the first invalid one."""
        lines = text.split("\n")
        for _ in range(MAX_CUTS):
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

    def _parse(self, text: str) -> ast.Module | ParseError:
        """Return the syntax tree, or the error."""
        if text not in self._parsed:
            error = ValueError("the parsing budget is exhausted")
            self._parsed[text] = parse(text) if self._spend(text) else error
        return self._parsed[text]

    def _spend(self, text: str) -> bool:
        self._budget -= len(text) + COST_PER_PARSE
        return self._budget >= 0


def parse(text: str) -> ast.Module | ParseError:
    """Return the syntax tree of a text, or the error that Python's parser raises."""
    try:
        return ast.parse(shorten_numbers(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return error


def shorten_numbers(text: str) -> str:
    """Replace long decimal integers by hexadecimal ones of the same length, which parse in linear time."""
    return LONG_NUMBER.sub(lambda match: "0x" + "1" * (len(match[0]) - 2), text)


def _find_answer_end(text: str) -> int | None:
    """The position of the first end mark outside strings and comments; None without one."""
    position = 0
    for kind, start, end in tokenize(text):
        if kind in ("string", "comment"):
            if (mark := ANSWER_END.search(text, position, start)) is not None:
                return mark.start()
            position = end
    mark = ANSWER_END.search(text, position)
    return mark.start() if mark is not None else None


def _statements(text: str, tree: ast.Module) -> Iterator[Statement]:
    """Yield the statements of a parsed text with their source."""
    if len(tree.body) == 1:
        yield Statement(text.rstrip(), tree.body[0])
        return
    lines = text.encode().split(b"\n")
    for node in tree.body:
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        start = node.col_offset if first == node.lineno else 0
        last, end = node.end_lineno, node.end_col_offset
        assert last is not None and end is not None  # the parser always sets both
        if first == last:
            part = [lines[first - 1][start:end]]
        else:
            part = [lines[first - 1][start:], *lines[first : last - 1], lines[last - 1][:end]]
        yield Statement(b"\n".join(part).decode(), node)
