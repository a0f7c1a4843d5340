"""LaTeX commands and their arguments: removal of formatting, completion of omitted braces."""

from __future__ import annotations

import re

STYLE_COMMANDS = set(
    "boxed fbox framebox underline uline bm boldsymbol mathbf mathsf mathtt mathit mathcal mathnormal pmb "
    "ensuremath bold".split()
)
"""Commands with one argument that change its appearance only."""
TEXT_COMMANDS = set(
    "text textbf textit textrm textsf texttt textnormal textsc textup mbox hbox emph mathrm "
    "operatorname".split()
)
DROPPED_COMMANDS = set("color phantom hphantom vphantom hspace vspace label tag".split())
COLOUR_COMMANDS = {"textcolor", "colorbox"}
NAMES = "|".join(
    sorted(STYLE_COMMANDS | TEXT_COMMANDS | DROPPED_COMMANDS | COLOUR_COMMANDS, key=len, reverse=True)
)
MACRO = re.compile(rf"\\({NAMES})(?![a-zA-Z])\*?(?:\[[^\[\]]*\])?\s*")
FUNCTION = re.compile(
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm|det"
)
FRACTION_COMMANDS = set("frac dfrac tfrac cfrac nicefrac sfrac xfrac".split())
BINOMIAL_COMMANDS = set("binom dbinom tbinom".split())
COMMAND_WITH_ARGUMENTS = re.compile(
    rf"\\({'|'.join(sorted(FRACTION_COMMANDS | BINOMIAL_COMMANDS))}|sqrt)(?![a-zA-Z])"
    r"|[\^_](?=\s*\\(?:[dtc]?frac|sqrt))"
)
CLOSING_BRACKET = {"(": ")", "[": "]", "{": "}"}


def expand_macros(text: str) -> str:
    """Remove colours, fonts and boxes, and convert every kind of text command to `\\text{…}`."""
    position = 0
    while (macro := MACRO.search(text, position)) is not None:
        start = macro.end()
        name = macro[1]
        end = closing_brace(text, start) if text[start : start + 1] == "{" else None
        if end is None:  # `\bf x`, `\mathbf x`: without braces only the command is removed
            text = text[: macro.start()] + " " + text[start:] if name in STYLE_COMMANDS else text
            position = macro.start() if name in STYLE_COMMANDS else macro.end()
            continue
        content, rest = text[start + 1 : end], text[end + 1 :]
        if name in DROPPED_COMMANDS:
            content = ""
        elif name in COLOUR_COMMANDS:
            skipped = re.match(r"\s*(?=\{)", rest)
            last = closing_brace(rest, skipped.end()) if skipped else None
            if skipped and last is not None:
                content, rest = rest[skipped.end() + 1 : last], rest[last + 1 :]
        elif name in TEXT_COMMANDS:
            content = _normalise_text_command(content, name)
        text = text[: macro.start()] + content + rest
        position = macro.start() + (len(content) if name in TEXT_COMMANDS else 0)
    return text


def _normalise_text_command(content: str, name: str) -> str:
    """Move a number out of a text command, `\\text{12 apples}`, and unwrap symbols and function names."""
    text = re.sub(r"\\[,;: ]|~", " ", content).strip()
    text = expand_macros(text) if "\\" in text else text
    if name in ("mathrm", "operatorname"):
        if FUNCTION.fullmatch(text):
            return rf"\{text} "
        if re.fullmatch(r"[a-zA-Z]", text) and name == "mathrm" and text in "eidxyzabcnkABCPE":
            return text
    if re.fullmatch(r"(?:[\d\s.,;+\-/()%$:^{}=]|\\)*", text):
        return text
    number = re.match(r"([-+]?\s*[$€£]?\s*\d[\d.,/:]*)\s+(?=[a-zA-Z])", text)
    if number and not re.match(r"(?:and|or|base|in base)\b", text[number.end() :]):
        return rf"{number[1]}\text{{{re.sub('[{}]', '', text[number.end() :])}}}"
    return rf"\text{{{re.sub('[{}]', '', text)}}}"


def add_braces(text: str) -> str:
    """Add the omitted braces around arguments: `\\frac12`, `\\frac\\pi2`, `\\sqrt2`, `\\sqrt(2)`."""
    parts, position = [], 0
    while (command := COMMAND_WITH_ARGUMENTS.search(text, position)) is not None:
        parts.append(text[position : command.start()])
        position = command.end()
        name = command[1] or ""
        count = 1 if name in ("sqrt", "") else 2
        head = (
            r"\frac" if name in FRACTION_COMMANDS else r"\binom" if name in BINOMIAL_COMMANDS else command[0]
        )
        if name == "sqrt" and (root := re.match(r"\s*\[([^\[\]]*)\]", text[position:])):
            head, position = rf"\sqrt[{root[1].strip()}]", position + root.end()
            head = r"\sqrt" if root[1].strip() in ("", "2") else head
        parts.append(head)
        for _ in range(count):
            argument, position = _argument(text, position, is_root=name == "sqrt")
            parts.append(f"{{{add_braces(argument)}}}")
    return "".join(parts) + text[position:]


def _argument(text: str, position: int, is_root: bool) -> tuple[str, int]:
    """The command argument that begins at a position, and the position after it."""
    while text[position : position + 1].isspace():
        position += 1
    first = text[position : position + 1]
    if first == "{" or (is_root and first == "("):
        end = matching_bracket(text, position)
        return (
            (text[position + 1 :], len(text)) if end is None else (text[position + 1 : end].strip(), end + 1)
        )
    if first != "\\":
        return first, position + 1
    command = re.match(r"\\(?:[a-zA-Z]+|.)", text[position:])
    end = position + len(command[0]) if command else position + 1
    inner = COMMAND_WITH_ARGUMENTS.match(text, position)
    for _ in range(0 if inner is None else 1 if inner[1] == "sqrt" else 2):
        _, end = _argument(text, end, is_root=bool(inner and inner[1] == "sqrt"))
    if command and command[0] == r"\text" and text[end : end + 1] == "{":
        end = (closing_brace(text, end) or len(text) - 1) + 1
    return text[position:end], end


def closing_brace(text: str, start: int) -> int | None:
    """The position of the brace that closes the one at `start`, ignoring escaped braces; None if unclosed."""
    depth, position = 0, start
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
        position += 1
    return None


def matching_bracket(text: str, position: int) -> int | None:
    """The position of the bracket that closes the one at `position`; None if it is not closed."""
    begin, end, depth = text[position], CLOSING_BRACKET[text[position]], 0
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        depth += (text[position] == begin) - (text[position] == end)
        if depth == 0:
            return position
        position += 1
    return None


def infix_to_command(text: str, infix: str, command: str) -> str:
    """Convert an infix command to a prefix one: `{a \\over b}` to `\\frac{a}{b}`."""
    while (match := re.search(rf"\\{infix}(?![a-zA-Z])\s*", text)) is not None:
        begin, end = _group_start(text, match.start()), match.end()
        depth = 0
        while end < len(text) and not (text[end] == "}" and depth == 0):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        left, right = text[begin : match.start()].strip(), text[match.end() : end].strip()
        outer = (begin - 1, end + 1) if begin > 0 and end < len(text) else (begin, end)
        text = rf"{text[: outer[0]]}\{command}{{{left}}}{{{right}}}{text[outer[1] :]}"
    return text


def _group_start(text: str, position: int) -> int:
    """The position at which the group around a position begins."""
    depth = 0
    while position > 0:
        depth += (text[position - 1] == "}") - (text[position - 1] == "{")
        if depth < 0:
            return position
        position -= 1
    return 0
