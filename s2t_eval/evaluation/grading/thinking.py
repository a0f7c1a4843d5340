"""Thoughts of reasoning models: their delimiters, and removal of thoughts from a response.

The content of a thought is never an answer, and a response whose thought never ends has no answer. The
module imports nothing of this package, so that decoding can use it too: stop strings inside a thought are
ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TAGS = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|inner_monologue)"
"""Tag names: `<think>` (DeepSeek-R1, Qwen3, Phi-4), `<thought>` (EXAONE, Marco-o1), `<seed:think>`."""


@dataclass(frozen=True)
class Marker:
    """A pair of delimiters of a thought.

    Args:
        name: name of the model family.
        begin: opening delimiter.
        end: closing delimiter.
        closes_alone: whether a closing delimiter alone ends a thought; default True, because chat templates
            of these families put the opening delimiter into the prompt.
    """

    name: str
    begin: re.Pattern[str]
    end: re.Pattern[str]
    closes_alone: bool = True


MARKERS = (
    Marker("tags", re.compile(rf"<{TAGS}>", re.I), re.compile(rf"</{TAGS}>", re.I)),
    Marker("Mistral", re.compile(r"\[THINK\]"), re.compile(r"\[/THINK\]")),
    Marker("Kimi", re.compile("◁think▷"), re.compile("◁/think▷")),
    Marker("OpenThinker", re.compile(r"<\|begin_of_thought\|>"), re.compile(r"<\|end_of_thought\|>")),
    Marker("Cohere", re.compile(r"<\|START_THINKING\|>"), re.compile(r"<\|END_THINKING\|>")),
    Marker("Apertus", re.compile(r"<\|inner_prefix\|>"), re.compile(r"<\|inner_suffix\|>")),
    Marker("Gemma", re.compile(r"<\|channel>thought"), re.compile(r"<channel\|>")),
    Marker("MedGemma", re.compile(r"<unused94>"), re.compile(r"<unused95>")),
    Marker("s1", re.compile(r"<\|im_start\|>think"), re.compile(r"<\|im_start\|>answer")),
    Marker(
        "gpt-oss",
        re.compile(r"<\|channel\|>\s*(?:analysis|commentary)"),
        re.compile(r"<\|channel\|>\s*final(?:[^<\n]{0,80}?<\|message\|>)?"),
    ),
    Marker(
        "gpt-oss without special tokens",
        re.compile(r"\A\s*analysis(?=[A-Z\"'(])|assistantanalysis"),
        re.compile(r"assistantfinal"),
    ),
    Marker(
        "Granite",
        re.compile(r"\A\s*Here(?:'s| is) my thought process:"),
        re.compile(r"Here(?:'s| is) my response:"),
        closes_alone=False,
    ),
)
BEGIN = re.compile("|".join(f"(?:{marker.begin.pattern})" for marker in MARKERS), re.I)
END = re.compile("|".join(f"(?:{marker.end.pattern})" for marker in MARKERS if marker.closes_alone), re.I)
EITHER = re.compile(rf"(?=[<\[◁AHah])(?:{BEGIN.pattern}|{END.pattern})", re.I)


def without_thoughts(text: str, is_open: bool = False, end: str | None = None) -> str | None:
    """Remove the thoughts of a response.

    A closing delimiter without an opening one ends a thought that the prompt opened, so all text before it is
    removed.

    Args:
        text: the response.
        is_open: whether the prompt opened a thought (see `opens_thought`); default False.
        end: additional closing delimiter (the harness's `think_end_token`); default None.

    Returns:
        The text outside thoughts; None if a thought never ends.

    Example:
        >>> without_thoughts("<think>6 * 3</think>18")
        '18'
    """
    if end and end in text:
        text, is_open = text.rsplit(end, 1)[1], False
    visible: list[str] = []
    position = 0
    if is_open:
        if (closing := END.search(text)) is None:
            return None
        position = closing.end()
    while (delimiter := EITHER.search(text, position)) is not None:
        marker = _family_opened_at(text, delimiter.start())
        if marker is None:
            visible, position = [], delimiter.end()
            continue
        closing = marker.end.search(text, delimiter.end())
        if closing is None:
            return None
        visible.append(text[position : delimiter.start()])
        position = closing.end()
    return "".join([*visible, text[position:]])


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends with an opening delimiter, as in chat templates of reasoning models."""
    last = max(EITHER.finditer(prompt), key=lambda delimiter: delimiter.start(), default=None)
    return (
        last is not None
        and _family_opened_at(prompt, last.start()) is not None
        and not prompt[last.end() :].strip()
    )


def _family_opened_at(text: str, position: int) -> Marker | None:
    """The family of the opening delimiter at a position; None for a closing one."""
    return next((marker for marker in MARKERS if marker.begin.match(text, position)), None)
