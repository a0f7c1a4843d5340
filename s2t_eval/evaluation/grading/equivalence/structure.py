"""Parsing of the structure of a normal form: lists, brackets, unions, matrices."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from s2t_eval.evaluation.grading.equivalence.macros import closing_brace, matching_bracket

PAIRS = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle"}
OPENING = {*PAIRS, "{", "\\lfloor", "\\lceil"}
CLOSING = {*PAIRS.values(), "}", "\\rfloor", "\\rceil"}
CONJUNCTION = re.compile(
    r",?\s*\\text\{\s*,?\s*(?:and|or)(?: also| approximately| about)?\s*,?\s*\}"
    r"|,?\s*(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])"
)
MATRIX = re.compile(
    r"(?P<scalar>[^&]*?)(?P<open>[(\[|]?)\s*\\begin\{(?P<name>[pbvBV]?(?:small)?matrix|array)\}"
    r"(?:\s*\[[a-z]\])?(?:\s*\{[lcr|@\s]*\})?"
    r"(?P<cells>.*)\\end\{(?P=name)\}\s*(?P<close>[)\]|]?)(?P<turned>\s*\^\s*\{?\s*\\?(?:T|top|intercal)\s*\}?)?",
    re.DOTALL,
)
MAX_PLUS_MINUS = 3


@dataclass(frozen=True)
class Group:
    """Items between brackets: a tuple, an interval or a set."""

    begin: str
    items: tuple[str, ...]
    end: str


def split_top_level(text: str, separators: tuple[str, ...] = (",", ";")) -> list[str]:
    """Split a normal form at separators outside brackets of any kind; empty parts are dropped.

    Example:
        >>> split_top_level("(1, 2), 3")
        ['(1, 2)', '3']
    """
    parts, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        step = 1
        if text[position] == "\\":
            command = re.match(r"\\(?:[a-zA-Z]+|.)", text[position:])
            step = len(command[0]) if command else 1
        token = text[position : position + step]
        if token in OPENING:
            depth += 1
        elif token in CLOSING:
            depth -= 1
        elif depth <= 0 and token in separators:
            parts.append(text[begin:position])
            begin = position + step
        position += step
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]


def list_items(text: str) -> list[str]:
    """The items of a list such as `1, 2 and 3`; `a \\pm b` gives two items, and sets are unwrapped."""
    text = CONJUNCTION.sub(",", text)
    group = parse_group(text)
    if group is not None and group.begin == "\\{":
        return [item for part in group.items for item in list_items(part)]
    return [
        item
        for part in split_top_level(text, (",", ";", "\\quad", "\\qquad"))
        for item in expand_plus_minus(part)
    ]


def expand_plus_minus(text: str) -> list[str]:
    """Expand `a \\pm b` to `a+b` and `a-b`; several independent signs give every combination.

    The signs of `\\frac{2 \\pm \\sqrt{76}}{2} = 1 \\pm \\sqrt{19}`, one on each side, belong together.
    """
    count = text.count("\\pm")
    if not 0 < count <= MAX_PLUS_MINUS:
        return [text]
    is_chain = count > 1 and all(side.count("\\pm") < 2 for side in split_top_level(text, ("=",)))
    if "\\mp" in text or is_chain:
        return [_signed(text, (sign,) * count) for sign in "+-"]
    return [_signed(text, signs) for signs in itertools.product("+-", repeat=count)]


def _signed(text: str, signs: tuple[str, ...]) -> str:
    other = "-" if signs[0] == "+" else "+"
    for sign in signs:
        text = re.sub(r"\\pm\s*", sign, text, count=1)
    text = re.sub(r"\\mp\s*", other, text)
    return re.sub(r"(^|[=({,\[]\s*)\+", r"\1", text)


def parse_group(text: str) -> Group | None:
    """Parse brackets that enclose the whole normal form; None if there are none."""
    text = text.strip()
    begin = next((opening for opening in PAIRS if text.startswith(opening)), None)
    end = next((closing for closing in PAIRS.values() if text.endswith(closing)), None)
    if begin is None or end is None or (begin in "([") != (end in ")]"):
        return None
    inner = text[len(begin) : len(text) - len(end)]
    if not _is_balanced(inner):
        return None
    return Group(begin, tuple(split_top_level(inner)), end)


NESTED_LIST = re.compile(r"\[\s*(\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])+)\s*\]")
"""A matrix as a list of rows, as programs write it."""


def parse_matrix(text: str) -> list[list[str]] | None:
    """The rows of a matrix, multiplied by the factor before it; None if the text is not a matrix."""
    if (nested := NESTED_LIST.fullmatch(text.strip())) is not None:
        return [[cell.strip() for cell in row.split(",")] for row in re.findall(r"\[([^\[\]]*)\]", nested[1])]
    match = MATRIX.fullmatch(text.strip())
    if match is None or match["name"].startswith(("v", "V")) or match["open"] == "|":
        return None
    scalar = match["scalar"].strip().removesuffix("\\cdot").strip()
    if "\\begin" in scalar or "=" in scalar:
        return None
    rows = [row for row in re.split(r"\\\\(?:\s*\[[^\]&]*\])?", match["cells"]) if row.strip()]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if scalar:
        cells = [[f"({scalar if scalar != '-' else '-1'})\\cdot ({cell})" for cell in row] for row in cells]
    return [list(column) for column in zip(*cells, strict=False)] if match["turned"] else cells


def strip_outer_brackets(text: str) -> str:
    """Remove braces and parentheses that enclose the whole text, unless they form a tuple."""
    text = text.strip()
    while (text.startswith("{") and closing_brace(text, 0) == len(text) - 1) or (
        text.startswith("(")
        and matching_bracket(text, 0) == len(text) - 1
        and len(split_top_level(text[1:-1])) == 1
    ):
        text = text[1:-1].strip()
    return text


def _is_balanced(text: str) -> bool:
    depth = 0
    for token in re.findall(r"\\[a-zA-Z]+|\\.|[()\[\]{}]", text):
        depth += (token in OPENING) - (token in CLOSING)
        if depth < 0:
            return False
    return depth == 0
