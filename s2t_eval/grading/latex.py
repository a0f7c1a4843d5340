"""The shape of a written answer: one spelling for many, lists, brackets, unions, matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s2t_eval.grading.numbers import MINUS
from s2t_eval.grading.text import closing_brace

SPELLINGS = (
    (r"\\(?:d|t|c)frac(?![a-zA-Z])", r"\\frac"),
    (r"\\(?:left|right|displaystyle|textstyle|limits|big|Big|bigg|Bigg)(?![a-zA-Z])", ""),
    (r"\\geqslant|\\geq(?![a-z])|≥", r"\\ge"),
    (r"\\leqslant|\\leq(?![a-z])|≤", r"\\le"),
    (r"\\neq(?![a-z])|≠", r"\\ne"),
    (r"\\(?:to|rightarrow)(?![a-z])", r"\\to"),
    (r"\\lbrace", r"\\{"),
    (r"\\rbrace", r"\\}"),
    (r"∞|\\infin(?![a-z])", r"\\infty"),
    (r"π", r"\\pi"),
    (r"√\s*\(?(\d+)\)?", r"\\sqrt{\1}"),
    (r"∪", r"\\cup"),
    (r"±", r"\\pm"),
    (r"×", r"\\times"),
    (r"°|\\degree(?![a-z])|\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
    (r"\{,\}", ","),
    (r",\\!|\\!", lambda m: "," if m[0].startswith(",") else ""),
    (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-z])", " "),
    (r"\\%", "%"),
    (r"\\\$|(?<!\\)\\[()\[\]](?=\s|$)|^\\[(\[]|\$", ""),
    (r"\\(?:mathrm|mathbf|mathit|boldsymbol|operatorname|rm|bf)(?![a-zA-Z])\s*", ""),
    (r"\\(?:text|textbf|textit|textrm|mbox|hbox)\s*", r"\\text"),
    (r"\\lvert|\\rvert|\\vert|\\mid", "|"),
    (r"\\sqrt\s*(\d)(?!\d*\])", r"\\sqrt{\1}"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
)
PAIRS = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle"}
AND = re.compile(r"\\text\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b")
MATRIX = re.compile(r"\\begin\{([pb]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)


@dataclass(frozen=True)
class Group:
    """Items between brackets: a tuple, an interval or a set."""

    begin: str
    items: tuple[str, ...]
    end: str


def normal(text: str) -> str:
    """One spelling for what is written alike: no spacing, no styles, one minus."""
    text = text.translate(MINUS).strip()
    for pattern, replacement in SPELLINGS:
        text = re.sub(pattern, replacement, text)
    return text.strip(" .;:*\n")


def squeezed(text: str) -> str:
    """The normal form without any space: equal texts are equal answers."""
    return re.sub(r"\s+", "", normal(text))


def split(text: str, separators: tuple[str, ...] = (",", ";")) -> list[str]:
    """Parts of a normal form between separators that stand outside brackets of any kind."""
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(text):
        step = 1
        if text[place] == "\\":
            command = re.match(r"\\(?:[a-zA-Z]+|.)", text[place:])
            step = len(command[0]) if command else 1
        token = text[place : place + step]
        if token in ("(", "[", "{", "\\{", "\\langle"):
            depth += 1
        elif token in (")", "]", "}", "\\}", "\\rangle"):
            depth -= 1
        elif depth == 0 and token in separators:
            parts.append(text[begin:place])
            begin = place + step
        place += step
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]


def items(text: str) -> list[str]:
    """The answers of a list: `1, 2 and 3` -> three, with `a \\pm b` as two; sets are unwrapped."""
    text = AND.sub(",", text)
    group = group_of(text)
    if group is not None and group.begin == "\\{" and group.end == "\\}":
        return [item for part in group.items for item in items(part)]
    return [item for part in split(text) for item in _both_signs(part)]


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
    """The cells of a matrix, None where there is none."""
    found = MATRIX.fullmatch(text.strip())
    if found is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", found[2]) if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def without_braces(text: str) -> str:
    """`{x}` -> `x` where the braces enclose everything."""
    text = text.strip()
    while text.startswith("{") and closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _both_signs(text: str) -> list[str]:
    if text.count("\\pm") != 1 or "=" in text:
        return [text]
    before, after = text.split("\\pm")
    return [f"{before}+{after}" if before.strip() else after, f"{before}-{after}"]


def _is_balanced(text: str) -> bool:
    depth = 0
    for token in re.findall(r"\\[a-zA-Z]+|\\.|[()\[\]{}]", text):
        depth += {"(": 1, "[": 1, "{": 1, "\\{": 1, "\\langle": 1}.get(token, 0)
        depth -= {")": 1, "]": 1, "}": 1, "\\}": 1, "\\rangle": 1}.get(token, 0)
        if depth < 0:
            return False
    return depth == 0
