"""The structure of a normal form: lists, brackets, unions, matrices."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from s2t_eval.evaluation.grading.arguments import matching
from s2t_eval.evaluation.grading.spelling import normal, squeezed
from s2t_eval.evaluation.grading.text import closing_brace

__all__ = [
    "Group", "group_of", "items", "normal", "rows_of", "split", "squeezed", "variants", "without_braces",
]  # fmt: skip

PAIRS = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle"}
OPENING = {*PAIRS, "{", "\\lfloor", "\\lceil"}
CLOSING = {*PAIRS.values(), "}", "\\rfloor", "\\rceil"}
AND = re.compile(
    r",?\s*\\text\{\s*,?\s*(?:and|or)(?: also| approximately| about)?\s*,?\s*\}"
    r"|,?\s*(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])"
)
MATRIX = re.compile(
    r"(?P<scalar>[^&]*?)(?P<open>[(\[|]?)\s*\\begin\{(?P<name>[pbvBV]?(?:small)?matrix|array)\}"
    r"(?:\s*\[[a-z]\])?(?:\s*\{[lcr|@\s]*\})?"
    r"(?P<cells>.*)\\end\{(?P=name)\}\s*(?P<close>[)\]|]?)(?P<turned>\s*\^\s*\{?\s*\\?(?:T|top|intercal)\s*\}?)?",
    re.DOTALL,
)
MOST_SIGNS = 3


@dataclass(frozen=True)
class Group:
    """Items between brackets: a tuple, an interval or a set."""

    begin: str
    items: tuple[str, ...]
    end: str


def split(text: str, separators: tuple[str, ...] = (",", ";")) -> list[str]:
    """Parts of a normal form between separators that stand outside brackets of any kind."""
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(text):
        step = 1
        if text[place] == "\\":
            command = re.match(r"\\(?:[a-zA-Z]+|.)", text[place:])
            step = len(command[0]) if command else 1
        token = text[place : place + step]
        if token in OPENING:
            depth += 1
        elif token in CLOSING:
            depth -= 1
        elif depth <= 0 and token in separators:
            parts.append(text[begin:place])
            begin = place + step
        place += step
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]


def items(text: str) -> list[str]:
    """The answers of a list: `1, 2 and 3` -> three, with `a \\pm b` as two; sets are unwrapped."""
    text = AND.sub(",", text)
    group = group_of(text)
    if group is not None and group.begin == "\\{":
        return [item for part in group.items for item in items(part)]
    return [item for part in split(text, (",", ";", "\\quad", "\\qquad")) for item in variants(part)]


def variants(text: str) -> list[str]:
    """`a \\pm b` -> `a+b` and `a-b`; several independent signs give every combination."""
    count = text.count("\\pm")
    if not 0 < count <= MOST_SIGNS:
        return [text]
    if "\\mp" in text:
        return [_signed(text, (sign,) * count) for sign in "+-"]
    return [_signed(text, signs) for signs in itertools.product("+-", repeat=count)]


def _signed(text: str, signs: tuple[str, ...]) -> str:
    other = "-" if signs[0] == "+" else "+"
    for sign in signs:
        text = re.sub(r"\\pm\s*", sign, text, count=1)
    text = re.sub(r"\\mp\s*", other, text)
    return re.sub(r"(^|[=({,\[]\s*)\+", r"\1", text)


def group_of(text: str) -> Group | None:
    """The brackets around the whole of a normal form, if there are any."""
    text = text.strip()
    begin = next((opening for opening in PAIRS if text.startswith(opening)), None)
    end = next((closing for closing in PAIRS.values() if text.endswith(closing)), None)
    if begin is None or end is None or (begin in "([") != (end in ")]"):
        return None
    inner = text[len(begin) : len(text) - len(end)]
    if not _is_balanced(inner):
        return None
    return Group(begin, tuple(split(inner)), end)


def rows_of(text: str) -> list[list[str]] | None:
    """The cells of a matrix with a factor in front of it multiplied in; None where there is none."""
    found = MATRIX.fullmatch(text.strip())
    if found is None or found["name"].startswith(("v", "V")) or found["open"] == "|":
        return None
    scalar = found["scalar"].strip().removesuffix("\\cdot").strip()
    if "\\begin" in scalar or "=" in scalar:
        return None
    rows = [row for row in re.split(r"\\\\(?:\s*\[[^\]&]*\])?", found["cells"]) if row.strip()]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if scalar:
        cells = [[f"({scalar if scalar != '-' else '-1'})\\cdot ({cell})" for cell in row] for row in cells]
    return [list(column) for column in zip(*cells, strict=False)] if found["turned"] else cells


def without_braces(text: str) -> str:
    """`{x}` -> `x` and `(x)` -> `x` where they enclose everything and are no tuple."""
    text = text.strip()
    while (text.startswith("{") and closing_brace(text, 0) == len(text) - 1) or (
        text.startswith("(") and matching(text, 0) == len(text) - 1 and len(split(text[1:-1])) == 1
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
