"""Extraction of a function's body from an answer that continues the prompt."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from s2t_eval.evaluation.humaneval.layout import dedent, expand_tabs, find_layout
from s2t_eval.evaluation.humaneval.names import executed_nodes
from s2t_eval.evaluation.humaneval.statements import Reader, Statement

DEFINITION = re.compile(r"\s*(?:async\s+def|def|class)\b")
"""A definition; the lines after it belong to it, whatever their indentation."""


class Body(NamedTuple):
    """The statements of a function's body.

    Args:
        has_result: whether it returns or yields a value, or raises an exception.
        num_lines: number of lines.
        source: source text without indentation.
        remainder: statements after the body, which may be helpers; parsed lazily.
    """

    has_result: bool
    num_lines: int
    source: str
    remainder: Iterator[Statement | None]


def begins_with_body(text: str, entry_point: str) -> bool:
    """Return whether the first line of code is indented and the indented lines do not define the function."""
    region, _ = _indented_region(text.lstrip("\n"))
    name = re.escape(entry_point)
    defines = re.compile(rf"^\s*(?:(?:async\s+)?def\s+{name}\b|{name}\s*=[^=])", re.MULTILINE)
    return region.strip() != "" and region[:1].isspace() and defines.search(region) is None


def read_body(text: str, reader: Reader) -> Body | None:
    """Return the longest body at the start of a text with possibly damaged indentation; None without one."""
    bodies = [_take_body(reader.read(region), remainder, reader) for region, remainder in _regions(text)]
    return max((body for body in bodies if body is not None), key=lambda body: body[:2], default=None)


def _regions(text: str) -> Iterator[tuple[str, str]]:
    """Yield candidate splits into the body without indentation and the remaining text."""
    text = expand_tabs(text.strip("\n"))
    first_line, newline, following = text.partition("\n")
    is_indented = first_line[:1].isspace()
    region, remainder = _indented_region(text if is_indented else following)
    if is_indented:
        yield dedent(region), remainder
        first_line, _, region = region.partition("\n")
    else:
        yield text, ""
    margin = _margin(region)
    has_deeper = re.match(rf"\s*^{margin}[ ]", region, re.MULTILINE) is not None
    if newline and region.strip() and (has_deeper or DEFINITION.match(first_line) is None):
        yield dedent(f"{margin}{first_line.strip()}\n{region}"), remainder


def _margin(region: str) -> str:
    """The common indentation of all lines of code."""
    before = next((line for line in region.split("\n") if line.strip()), "")
    after = next((line for line in dedent(region).split("\n") if line.strip()), "")
    return before[: len(before) - len(after)]


def _indented_region(text: str) -> tuple[str, str]:
    """Split a text before its first line of code without indentation."""
    for position in find_layout(text).line_starts:
        if text[position : position + 1].strip() and text[position] != "#":
            return text[:position], text[position:]
    return text, ""


def _take_body(statements: Iterator[Statement | None], remainder: str, reader: Reader) -> Body | None:
    body: list[Statement] = []
    for statement in statements:
        if statement is not None:
            body.append(statement)
        if body and (statement is None or statement.ends_function):
            break
    if not any(map(_is_effective, body)):
        return None
    source = "\n".join(statement.source for statement in body)
    has_result = any(map(_has_result, body))
    return Body(
        has_result, source.count("\n") + 1, source, itertools.chain(statements, reader.read(remainder))
    )


def _is_effective(statement: Statement) -> bool:
    """Whether a statement is more than a name or a constant."""
    node = statement.node
    return not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom)


def _has_result(statement: Statement) -> bool:
    if statement.node is None:
        return statement.ends_function
    results = ast.Return | ast.Raise | ast.Yield | ast.YieldFrom
    return any(isinstance(part, results) for part in executed_nodes(statement.node))
