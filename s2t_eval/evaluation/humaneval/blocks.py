"""Segmentation of an answer into parts that may be code: fenced blocks, text between them, inline code."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from s2t_eval.evaluation.grading.thinking import without_thoughts
from s2t_eval.evaluation.humaneval.layout import ends_inside_string, normalise_spaces

NOT_CODE = {"bash", "sh", "shell", "zsh", "console", "text", "txt", "plaintext", "output", "json", "diff"}
INLINE, BETWEEN, FENCED = 1, 2, 3
"""Kinds of blocks, in ascending order of the probability that they are code."""
PYTHON_NAME = r"(?i:python[\d.]*|py\d?|ipython|pycon)"
CODE_FOLLOWS = re.compile(
    rf"{PYTHON_NAME}[ \t]+(?=(?:async[ ]+)?(?:def|class|from|import|return|@)\b|@|\w+ = )"
)
FENCE_LINE = re.compile(r"^[^\n]*?(?:`{3}|~{3})[^\n]*$", re.MULTILINE)
FENCE_MARK = re.compile(r"`{3,}|~{3,}")
LEADING_TOKENS = re.compile(
    r"\A(?:[ \t]*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>(?:assistant)?|<start_of_turn>(?:model)?"
    r"|<\|assistant\|>|<\|start_header_id\|>\w*<\|end_header_id\|>|<\|start\|>\w*|<\|channel\|>\w*|<\|message\|>"
    r"|\[/INST\]|<\|python_tag\|>|<｜Assistant｜>|<\|\w{1,30}\|>|\n))+"
)
"""Special tokens before the answer; spaces after them are kept, because they may be indentation."""
END_OF_TURN = re.compile(
    r"""(?<!["'])(?:<\|[\w. -]{1,40}\|>|<｜[^｜>\n]{1,40}｜>|</s>|<eos>|<pad>|<EOT>|<end_of_(?:turn|text)>
    |\[/?INST\]|(?m:^[ \t]*\[(?:DONE|EOS|END)\][ \t]*$))""",
    re.VERBOSE,
)
USER_TURN = re.compile(
    r"^(?:#{1,6}[ ])?(?:\*\*)?(?i:human|user)(?:(?:\*\*)?[ ]?:|[ ]*$)",
    re.MULTILINE,
)
"""A further turn of the user that the model wrote itself, in plain text."""
PROGRAM_LINE = re.compile(r"^[ \t]*(?:(?:async[ ]+)?def|return)\b", re.MULTILINE)
MAX_TURNS = 8
CODE_TAG = re.compile(
    r"""(?m:^(?:'{3}|"{3})(?:python|py)[ ]*$)
    |(?m:^)\[(?:PYTHON|CODE|ANSWER|SOLUTION|BEGIN)\]|\[/(?:PYTHON|CODE|ANSWER|SOLUTION)\]
    |(?<!["'\w])(?:
        </?(?:python|code|pre|answer|solution)(?:[ ][^>\n]{0,60})?>
        |\\(?:begin|end)\{(?:lstlisting|verbatim|minted|python|code)\}(?:[\[{][^\n\]}]*[\]}])?
    )(?!["'])""",
    re.VERBOSE,
)
"""Tags that are used instead of fences; `return [CODE]` is code and not matched."""
PROMPT_PATTERNS = (
    re.compile(r"[ \t]*(?:>>>|\.\.\.)(?: |$)"),
    re.compile(r"[ \t]*(?:In \[\d+\]:|\.{3,}:)(?: |$)"),
)
LINE_PREFIXES = (re.compile(r"[ \t]*>(?: |$)"), re.compile(r"[ \t]*\d+[.:|)]?(?:[ \t]|$)"))
"""Quotation marks and line numbers, which are removed if every line begins with one."""


WRONG_CODE = re.compile(
    r"\b(?:mistakes?|incorrect|wrong|bugg?y?)\b|(?:\bnot|n['’]t)\s+(?:\w+\s+)?(?:work|correct|handle)\b",
    re.IGNORECASE,
)
CORRECTED_CODE = re.compile(
    r"(?<!\bnot\s)(?<!n['’]t\s)\b(?:correct(?:ed|ion|s)?|fix(?:ed|es|ing)?|without|right|proper)\b",
    re.IGNORECASE,
)
"""Words before code: `A common mistake is to forget the squares:` against `Here is the corrected code:`."""


class Block(NamedTuple):
    """A part of an answer that may be code.

    Args:
        kind: `FENCED`, `BETWEEN` fences, or `INLINE` code in the text between fences.
        text: content without delimiters.
        is_closed: whether its closing fence is there; default True.
        is_rejected: whether the line before its fence calls it wrong; default False.
    """

    kind: int
    text: str
    is_closed: bool = True
    is_rejected: bool = False


class Fence(NamedTuple):
    """An opening fence: its delimiter, the positions of the delimiter and of the content, its language.

    `is_rejected`: whether the line before it calls its content wrong.
    """

    mark: str
    mark_start: int
    language: str
    indent: int
    start: int
    is_rejected: bool


def extract_answer_text(answer: str) -> str | None:
    """Remove thoughts, special tokens, further turns, tags around code and characters invalid in source code.

    Returns:
        The remaining text; None if a thought never ends.
    """
    text = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    visible = without_thoughts(re.sub("[\ud800-\udfff]", "\ufffd", text))
    if visible is None:
        return None
    visible = LEADING_TOKENS.sub("", visible, count=1)
    if (end := END_OF_TURN.search(visible)) is not None and visible[: end.start()].strip():
        visible = visible[: end.start()]
    for turn in islice(USER_TURN.finditer(visible), MAX_TURNS):
        if _is_behind_program(before := visible[: turn.start()]):
            visible = before
            break
    return CODE_TAG.sub("\n", visible)


def _is_behind_program(before: str) -> bool:
    """Whether a text contains a program and ends outside its fences and strings."""
    return (
        PROGRAM_LINE.search(before) is not None
        and len(FENCE_LINE.findall(before)) % 2 == 0
        and ends_inside_string(before) is None
    )


def find_blocks(text: str) -> list[Block]:
    """Return the fenced blocks, the text between them and the inline code, in order."""
    blocks: list[Block] = []
    fence, position = None, 0
    for line in FENCE_LINE.finditer(text):
        if line.start() < position:
            continue
        if fence is None:
            if (fence := _opening_fence(text, line)) is not None:
                blocks += _unfenced_blocks(text[position : fence.mark_start])
                position = fence.start
        elif (end := _content_end(fence, line)) is not None:
            string_end = _end_of_enclosing_string(text, text[position:end], end)
            if string_end is not None:
                position = string_end  # continue after the string, so that no part is scanned twice
                continue
            blocks += _fenced_block(fence, text[fence.start : end])
            position = min(line.end() + 1, len(text))
            fence = _opening_fence(text, line) if _opens_next_fence(fence, line) else None
            if fence is not None:
                position = fence.start
    return [
        *blocks,
        *(
            _fenced_block(fence, text[fence.start :], is_closed=False)
            if fence
            else _unfenced_blocks(text[position:])
        ),
    ]


def _opening_fence(text: str, line: re.Match[str]) -> Fence | None:
    """The fence that a line opens: alone, after prose, or followed by code on the same line."""
    mark = FENCE_MARK.search(line[0])
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
    before_fence = text[max(0, line.start() - 200) : line.start() + mark.start()].rstrip().rsplit("\n", 1)[-1]
    return Fence(
        mark[0],
        line.start() + mark.start(),
        language[1].lower() if language else "",
        indent,
        start,
        WRONG_CODE.search(before_fence) is not None and CORRECTED_CODE.search(before_fence) is None,
    )


def _content_end(fence: Fence, line: re.Match[str]) -> int | None:
    """The end of the content if a line closes the fence; None otherwise.

    The closing fence may follow code on the same line, or open the next fence.
    """
    mark = FENCE_MARK.search(line[0])
    assert mark is not None
    before, after = line[0][: mark.start()], line[0][mark.end() :]
    if not mark[0].startswith(fence.mark) or mark[0][0] in after:
        return None
    if before.strip():
        return line.start() + mark.start() if not after.strip(" \t.") else None
    return line.start()


def _opens_next_fence(fence: Fence, line: re.Match[str]) -> bool:
    """Whether the line that closes a fence also opens the next one: it names a language."""
    return re.fullmatch(rf"[ \t]*{re.escape(fence.mark)}[ \t]*[\w+#.-]+[ \t]*", line[0]) is not None


def _end_of_enclosing_string(text: str, content: str, end: int) -> int | None:
    """The end of the string around a closing fence, as in docstrings with fences; None outside strings."""
    quote = ends_inside_string(content)
    if quote is None:
        return None
    closing = text.find(quote, end)
    if closing < 0 or re.search(r"^[ \t]*(?:`{3,}|~{3,})\w", text[end:closing], re.MULTILINE):
        return None
    return closing + len(quote)


def _fenced_block(fence: Fence, content: str, is_closed: bool = True) -> list[Block]:
    if fence.language in NOT_CODE or not content.strip():
        return []
    lines = content.split("\n")
    unindented = (line[min(fence.indent, len(line) - len(line.lstrip(" "))) :] for line in lines)
    return [Block(FENCED, _clean_block("\n".join(unindented)), is_closed, fence.is_rejected)]


def _unfenced_blocks(text: str) -> list[Block]:
    return (
        [Block(BETWEEN, _clean_block(text)), *(Block(INLINE, span) for span in _inline_code(text))]
        if text.strip()
        else []
    )


def _inline_code(text: str) -> list[str]:
    """The texts between equal runs of backquotes."""
    runs = list(re.finditer("`+", text))
    spans, index = [], 0
    while index + 1 < len(runs):
        opening, closing = runs[index], runs[index + 1]
        if opening[0] == closing[0]:
            span = text[opening.end() : closing.start()].strip()
            code = CODE_FOLLOWS.match(span)
            spans.append(_clean_block(span[code.end() :] if code else span))
            index += 2
        else:
            index += 1
    return spans


def _clean_block(block: str) -> str:
    """Normalise spaces, and remove prompts of interactive sessions, quotation marks and line numbers."""
    block = normalise_spaces(block)
    lines = block.split("\n")
    first = next((line for line in lines if line.strip()), "")
    for prompt in PROMPT_PATTERNS:
        if prompt.match(first) or any(re.match(r"[ \t]*(?:>>>|In \[\d+\]:) def ", line) for line in lines):
            inputs = [line[match.end() :] for line in lines if (match := prompt.match(line))]
            if inputs:
                return "\n".join(inputs)
    for prefix in LINE_PREFIXES:
        if first and all(prefix.match(line) for line in lines if line.strip()):
            return "\n".join(prefix.sub("", line, count=1) for line in lines)
    return block
