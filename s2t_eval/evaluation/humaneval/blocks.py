"""The parts of an answer that may be code: fenced blocks, the text between them, code within a line."""

from __future__ import annotations

import re
from typing import NamedTuple

from s2t_eval.evaluation.grading.thinking import without_thoughts
from s2t_eval.evaluation.humaneval.layout import ends_inside_string, with_plain_spaces

NOT_CODE = {"bash", "sh", "shell", "zsh", "console", "text", "txt", "plaintext", "output", "json", "diff"}
INLINE, BETWEEN, FENCED = 1, 2, 3
"""Kinds of blocks, the likelier code the higher."""
PYTHON = r"(?i:python[\d.]*|py\d?|ipython|pycon)"
CODE_FOLLOWS = re.compile(rf"{PYTHON}[ \t]+(?=(?:async[ ]+)?(?:def|class|from|import|return|@)\b|@|\w+ = )")
MARKED_LINE = re.compile(r"^[^\n]*?(?:`{3}|~{3})[^\n]*$", re.MULTILINE)
MARK = re.compile(r"`{3,}|~{3,}")
BEGINNING = re.compile(
    r"\A(?:[ \t]*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>(?:assistant)?|<start_of_turn>(?:model)?"
    r"|<\|assistant\|>|<\|start_header_id\|>\w*<\|end_header_id\|>|<\|start\|>\w*|<\|channel\|>\w*|<\|message\|>"
    r"|\[/INST\]|<\|python_tag\|>|<｜Assistant｜>|<\|\w{1,30}\|>|\n))+"
)
"""Special tokens before the answer; the spaces behind them may be a body's indentation."""
END_OF_TURN = re.compile(
    r"""(?<!["'])(?:<\|[\w. -]{1,40}\|>|<｜[^｜>\n]{1,40}｜>|</s>|<eos>|<pad>|<EOT>|<end_of_(?:turn|text)>
    |\[/?INST\]|(?m:^[ \t]*\[(?:DONE|EOS|END)\][ \t]*$))""",
    re.VERBOSE,
)
TAG = re.compile(
    r"""(?m:^(?:'{3}|"{3})(?:python|py)[ ]*$)
    |(?m:^)\[(?:PYTHON|CODE|ANSWER|SOLUTION|BEGIN)\]|\[/(?:PYTHON|CODE|ANSWER|SOLUTION)\]
    |(?<!["'\w])(?:
        </?(?:python|code|pre|answer|solution)(?:[ ][^>\n]{0,60})?>
        |\\(?:begin|end)\{(?:lstlisting|verbatim|minted|python|code)\}(?:[\[{][^\n\]}]*[\]}])?
    )(?!["'])""",
    re.VERBOSE,
)
"""What stands around code in place of a fence. `return [CODE]` is code."""
PROMPTS = (
    re.compile(r"[ \t]*(?:>>>|\.\.\.)(?: |$)"),
    re.compile(r"[ \t]*(?:In \[\d+\]:|\.{3,}:)(?: |$)"),
)
PREFIXES = (re.compile(r"[ \t]*>(?: |$)"), re.compile(r"[ \t]*\d+[.:|)]?(?:[ \t]|$)"))
"""A quotation's marks, and line numbers, where every line has them."""


class Block(NamedTuple):
    """A part of an answer that may be code.

    Args:
        kind: `FENCED`, `BETWEEN` fences, or `INLINE` between backquotes in the text there.
        text: without the marks around it.
    """

    kind: int
    text: str


class Fence(NamedTuple):
    """An opened fence: its marks, where they stand, and where its content starts."""

    mark: str
    mark_start: int
    language: str
    indent: int
    start: int


def answer_text(answer: str) -> str | None:
    """The answer without thoughts, special tokens, tags around code and characters no source may have.

    None where it never gets beyond its thoughts.
    """
    text = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    said = without_thoughts(re.sub("[\ud800-\udfff]", "\ufffd", text))
    if said is None:
        return None
    said = BEGINNING.sub("", said, count=1)
    if (end := END_OF_TURN.search(said)) is not None and said[: end.start()].strip():
        said = said[: end.start()]
    return TAG.sub("\n", said)


def blocks(text: str) -> list[Block]:
    """An answer's fenced blocks, the text between them and the code within that, in their order."""
    found: list[Block] = []
    fence, place = None, 0
    for line in MARKED_LINE.finditer(text):
        if line.start() < place:
            continue
        if fence is None:
            if (fence := _opened(text, line)) is not None:
                found += _unfenced(text[place : fence.mark_start])
                place = fence.start
        elif (end := _closed(fence, line)) is not None:
            beyond = _inside_string(text, text[place:end], end)
            if beyond is not None:
                place = beyond  # no string is open there, so that no part is searched twice
                continue
            found += _fenced(fence, text[fence.start : end])
            place = min(line.end() + 1, len(text))
            fence = _opened(text, line) if _is_opening(fence, line) else None
            if fence is not None:
                place = fence.start
    return [*found, *(_fenced(fence, text[fence.start :]) if fence else _unfenced(text[place:]))]


def _opened(text: str, line: re.Match[str]) -> Fence | None:
    """The fence that a line opens: alone, behind prose, or with code behind the language."""
    mark = MARK.search(line[0])
    assert mark is not None
    before, info = line[0][: mark.start()], line[0][mark.end() :]
    if mark[0][0] in info or (
        before.strip() and (mark[0][0] == "~" or re.fullmatch(r"[\w+.#-]*\s*", info) is None)
    ):
        return None
    code = CODE_FOLLOWS.match(info.lstrip())
    start = line.end() - len(info.lstrip()) + code.end() if code else min(line.end() + 1, len(text))
    language = re.match(r"\W*([\w+-]*)", info)
    indent = len(before) if not before.strip() else 0
    return Fence(mark[0], line.start() + mark.start(), language[1].lower() if language else "", indent, start)


def _closed(fence: Fence, line: re.Match[str]) -> int | None:
    """Where the content ends if a line closes the fence, be it glued to code or the opening of another."""
    mark = MARK.search(line[0])
    assert mark is not None
    before, after = line[0][: mark.start()], line[0][mark.end() :]
    if not mark[0].startswith(fence.mark) or mark[0][0] in after:
        return None
    if before.strip():
        return line.start() + mark.start() if not after.strip(" \t.") else None
    return line.start()


def _is_opening(fence: Fence, line: re.Match[str]) -> bool:
    """Whether the line that ends a fence opens the next, because it names a language."""
    return re.fullmatch(rf"[ \t]*{re.escape(fence.mark)}[ \t]*[\w+#.-]+[ \t]*", line[0]) is not None


def _inside_string(text: str, content: str, end: int) -> int | None:
    """Where the string ends that a closing mark stands in (a docstring may hold fences); None outside one."""
    quote = ends_inside_string(content)
    if quote is None:
        return None
    closing = text.find(quote, end)
    if closing < 0 or re.search(r"^[ \t]*(?:`{3,}|~{3,})\w", text[end:closing], re.MULTILINE):
        return None
    return closing + len(quote)


def _fenced(fence: Fence, content: str) -> list[Block]:
    if fence.language in NOT_CODE or not content.strip():
        return []
    lines = content.split("\n")
    unindented = (line[min(fence.indent, len(line) - len(line.lstrip(" "))) :] for line in lines)
    return [Block(FENCED, _plain("\n".join(unindented)))]


def _unfenced(text: str) -> list[Block]:
    return (
        [Block(BETWEEN, _plain(text)), *(Block(INLINE, span) for span in _inline(text))]
        if text.strip()
        else []
    )


def _inline(text: str) -> list[str]:
    """What stands between equal runs of backquotes."""
    runs = list(re.finditer("`+", text))
    spans, place = [], 0
    while place + 1 < len(runs):
        opening, closing = runs[place], runs[place + 1]
        if opening[0] == closing[0]:
            span = text[opening.end() : closing.start()].strip()
            code = CODE_FOLLOWS.match(span)
            spans.append(_plain(span[code.end() :] if code else span))
            place += 2
        else:
            place += 1
    return spans


def _plain(block: str) -> str:
    """A block with plain spaces, without an interactive session's prompts, a quotation's marks or numbers."""
    block = with_plain_spaces(block)
    lines = block.split("\n")
    first = next((line for line in lines if line.strip()), "")
    for prompt in PROMPTS:
        if prompt.match(first) or any(re.match(r"[ \t]*(?:>>>|In \[\d+\]:) def ", line) for line in lines):
            inputs = [line[match.end() :] for line in lines if (match := prompt.match(line))]
            if inputs:
                return "\n".join(inputs)
    for prefix in PREFIXES:
        if first and all(prefix.match(line) for line in lines if line.strip()):
            return "\n".join(prefix.sub("", line, count=1) for line in lines)
    return block
