"""LaTeX commands and their arguments: wrappers removed, braces where LaTeX lets them out."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.text import closing_brace

KEPT = set(
    "boxed fbox framebox underline uline bm boldsymbol mathbf mathsf mathtt mathit mathcal mathnormal pmb "
    "ensuremath bold".split()
)
"""Commands of one argument that change how it looks, not what it is."""
TEXTS = set(
    "text textbf textit textrm textsf texttt textnormal textsc textup mbox hbox emph mathrm "
    "operatorname".split()
)
DROPPED = set("color phantom hphantom vphantom hspace vspace label tag".split())
COLOURED = {"textcolor", "colorbox"}
NAMES = "|".join(sorted(KEPT | TEXTS | DROPPED | COLOURED, key=len, reverse=True))
MACRO = re.compile(rf"\\({NAMES})(?![a-zA-Z])\*?(?:\[[^\[\]]*\])?\s*")
FUNCTION = re.compile(
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm|det"
)
FRACTIONS = set("frac dfrac tfrac cfrac nicefrac sfrac xfrac".split())
BINOMIALS = set("binom dbinom tbinom".split())
TAKING = re.compile(
    rf"\\({'|'.join(sorted(FRACTIONS | BINOMIALS))}|sqrt)(?![a-zA-Z])|[\^_](?=\s*\\(?:[dtc]?frac|sqrt))"
)
CLOSING = {"(": ")", "[": "]", "{": "}"}


def without_macros(text: str) -> str:
    """Colours, fonts, boxes unwrapped; every kind of text as `\\text{…}`."""
    place = 0
    while (macro := MACRO.search(text, place)) is not None:
        start = macro.end()
        name = macro[1]
        end = closing_brace(text, start) if text[start : start + 1] == "{" else None
        if end is None:  # `\bf x`, `\mathbf x`: the command alone, or nothing that can be read
            text = text[: macro.start()] + " " + text[start:] if name in KEPT else text
            place = macro.start() if name in KEPT else macro.end()
            continue
        content, rest = text[start + 1 : end], text[end + 1 :]
        if name in DROPPED:
            content = ""
        elif name in COLOURED:
            skipped = re.match(r"\s*(?=\{)", rest)
            last = closing_brace(rest, skipped.end()) if skipped else None
            if skipped and last is not None:
                content, rest = rest[skipped.end() + 1 : last], rest[last + 1 :]
        elif name in TEXTS:
            content = _text(content, name)
        text = text[: macro.start()] + content + rest
        place = macro.start() + (len(content) if name in TEXTS else 0)
    return text


def _text(content: str, name: str) -> str:
    """`\\text{12 apples}` -> `12\\text{apples}`; `\\mathrm{e}` -> `e`; `\\operatorname{lcm}` -> `\\lcm`."""
    said = re.sub(r"\\[,;: ]|~", " ", content).strip()
    said = without_macros(said) if "\\" in said else said
    if name in ("mathrm", "operatorname"):
        if FUNCTION.fullmatch(said):
            return rf"\{said} "
        if re.fullmatch(r"[a-zA-Z]", said) and name == "mathrm" and said in "eidxyzabcnkABCPE":
            return said
    if re.fullmatch(r"(?:[\d\s.,;+\-/()%$:^{}=]|\\)*", said):
        return said
    number = re.match(r"([-+]?\s*[$€£]?\s*\d[\d.,/:]*)\s+(?=[a-zA-Z])", said)
    if number and not re.match(r"(?:and|or|base|in base)\b", said[number.end() :]):
        return rf"{number[1]}\text{{{re.sub('[{}]', '', said[number.end() :])}}}"
    return rf"\text{{{re.sub('[{}]', '', said)}}}"


def with_braces(text: str) -> str:
    """`\\frac12`, `\\frac\\pi2`, `\\sqrt2`, `\\sqrt(2)` with braces around each argument."""
    parts, place = [], 0
    while (command := TAKING.search(text, place)) is not None:
        parts.append(text[place : command.start()])
        place = command.end()
        name = command[1] or ""
        count = 1 if name in ("sqrt", "") else 2
        head = r"\frac" if name in FRACTIONS else r"\binom" if name in BINOMIALS else command[0]
        if name == "sqrt" and (root := re.match(r"\s*\[([^\[\]]*)\]", text[place:])):
            head, place = rf"\sqrt[{root[1].strip()}]", place + root.end()
            head = r"\sqrt" if root[1].strip() in ("", "2") else head
        parts.append(head)
        for _ in range(count):
            argument, place = _argument(text, place, is_root=name == "sqrt")
            parts.append(f"{{{with_braces(argument)}}}")
    return "".join(parts) + text[place:]


def _argument(text: str, place: int, is_root: bool = False) -> tuple[str, int]:
    """The argument that begins here, and where it ends."""
    while text[place : place + 1].isspace():
        place += 1
    first = text[place : place + 1]
    if first == "{" or (is_root and first == "("):
        end = matching(text, place)
        return (text[place + 1 :], len(text)) if end is None else (text[place + 1 : end].strip(), end + 1)
    if first != "\\":
        return first, place + 1
    command = re.match(r"\\(?:[a-zA-Z]+|.)", text[place:])
    end = place + len(command[0]) if command else place + 1
    taking = TAKING.match(text, place)
    for _ in range(0 if taking is None else 1 if taking[1] == "sqrt" else 2):
        _, end = _argument(text, end, is_root=bool(taking and taking[1] == "sqrt"))
    if command and command[0] == r"\text" and text[end : end + 1] == "{":
        end = (closing_brace(text, end) or len(text) - 1) + 1
    return text[place:end], end


def matching(text: str, place: int) -> int | None:
    """Index of the bracket that closes the one here."""
    begin, end, depth = text[place], CLOSING[text[place]], 0
    while place < len(text):
        if text[place] == "\\":
            place += 2
            continue
        depth += (text[place] == begin) - (text[place] == end)
        if depth == 0:
            return place
        place += 1
    return None


def without_infix(text: str, infix: str, command: str) -> str:
    """`{a \\over b}` -> `\\frac{a}{b}`, and `{n \\choose k}` likewise."""
    while (found := re.search(rf"\\{infix}(?![a-zA-Z])\s*", text)) is not None:
        begin, end = _opening(text, found.start()), found.end()
        depth = 0
        while end < len(text) and not (text[end] == "}" and depth == 0):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        above, below = text[begin : found.start()].strip(), text[found.end() : end].strip()
        outer = (begin - 1, end + 1) if begin > 0 and end < len(text) else (begin, end)
        text = rf"{text[: outer[0]]}\{command}{{{above}}}{{{below}}}{text[outer[1] :]}"
    return text


def _opening(text: str, place: int) -> int:
    """Where the group that this place is in begins."""
    depth = 0
    while place > 0:
        depth += (text[place - 1] == "}") - (text[place - 1] == "{")
        if depth < 0:
            return place
        place -= 1
    return 0
