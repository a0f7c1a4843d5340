"""Reads a function's body out of an answer that goes on where the prompt's docstring ended."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from s2t_eval.evaluation.humaneval.layout import dedent, layout, with_plain_tabs
from s2t_eval.evaluation.humaneval.names import run_at_once
from s2t_eval.evaluation.humaneval.statements import Reader, Statement

DEFINITION = re.compile(r"\s*(?:async\s+def|def|class)\b")
"""What follows it belongs to it, whatever the indentation."""


class Body(NamedTuple):
    """The statements of a body.

    Args:
        has_result: whether a value is returned, yielded or an exception raised.
        num_lines: how much of the answer it holds.
        source: without indentation.
        rest: what stands behind it, which may be helpers; read when it is asked for.
    """

    has_result: bool
    num_lines: int
    source: str
    rest: Iterator[Statement | None]


def begins_with_body(text: str, entry_point: str) -> bool:
    """Whether the first line of code is indented, and the indented lines do not define the function."""
    region, _ = _indented_region(text.lstrip("\n"))
    name = re.escape(entry_point)
    defines = re.compile(rf"^\s*(?:(?:async\s+)?def\s+{name}\b|{name}\s*=[^=])", re.MULTILINE)
    return region.strip() != "" and region[:1].isspace() and defines.search(region) is None


def read_body(text: str, reader: Reader) -> Body | None:
    """The longest body that a text begins with, whatever became of its indentation; None if there is none."""
    found = [_body(reader.read(region), rest, reader) for region, rest in _regions(text)]
    return max((body for body in found if body is not None), key=lambda body: body[:2], default=None)


def _regions(text: str) -> Iterator[tuple[str, str]]:
    """Ways to tell body and rest apart, the body without its indentation."""
    text = with_plain_tabs(text.strip("\n"))
    first, newline, others = text.partition("\n")
    is_indented = first[:1].isspace()
    region, rest = _indented_region(text if is_indented else others)
    if is_indented:
        yield dedent(region), rest
        first, _, region = region.partition("\n")
    else:
        yield text, ""
    margin = _margin(region)
    has_deeper = re.match(rf"\s*^{margin}[ ]", region, re.MULTILINE) is not None
    if newline and region.strip() and (has_deeper or DEFINITION.match(first) is None):
        yield dedent(f"{margin}{first.strip()}\n{region}"), rest


def _margin(region: str) -> str:
    """The indentation that all lines of code in a text have."""
    before = next((line for line in region.split("\n") if line.strip()), "")
    after = next((line for line in dedent(region).split("\n") if line.strip()), "")
    return before[: len(before) - len(after)]


def _indented_region(text: str) -> tuple[str, str]:
    """The lines before the first one of code without indentation, and all from there on."""
    for place in layout(text).tops:
        if text[place : place + 1].strip() and text[place] != "#":
            return text[:place], text[place:]
    return text, ""


def _body(statements: Iterator[Statement | None], rest: str, reader: Reader) -> Body | None:
    taken: list[Statement] = []
    for statement in statements:
        if statement is not None:
            taken.append(statement)
        if taken and (statement is None or statement.ends_function):
            break
    if not any(map(_does_something, taken)):
        return None
    source = "\n".join(statement.source for statement in taken)
    has_result = any(map(_has_result, taken))
    return Body(has_result, source.count("\n") + 1, source, itertools.chain(statements, reader.read(rest)))


def _does_something(statement: Statement) -> bool:
    """Whether it is more than a word or a constant."""
    node = statement.node
    return not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom)


def _has_result(statement: Statement) -> bool:
    if statement.node is None:
        return statement.ends_function
    results = ast.Return | ast.Raise | ast.Yield | ast.YieldFrom
    return any(isinstance(part, results) for part in run_at_once(statement.node))
