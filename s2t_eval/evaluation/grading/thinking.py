"""Thoughts that a reasoning model writes before its answer: how they are marked, and a text without them.

What stands inside a thought is no answer, whatever it says. A thought that never ends has none behind it.
Nothing of ours is imported, so that decoding may use it too (a stop string inside a thought ends nothing).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TAGS = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|inner_monologue)"
"""Names of tags: `<think>` (DeepSeek-R1, Qwen3, Phi-4), `<thought>` (EXAONE, Marco-o1), `<seed:think>`."""


@dataclass(frozen=True)
class Marker:
    """One family of marks.

    Args:
        name: whose it is.
        begin: what opens a thought.
        end: what closes it.
        closes_alone: whether an end without a beginning closes a thought too, because chat templates
            of this family put the beginning into the prompt.
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
    """What a text says outside its thoughts; None where a thought never ends.

    An end without a beginning closes a thought that the prompt opened: all before it is thought.

    Args:
        text: what a model wrote.
        is_open: whether the prompt is known to have opened a thought (see `opens_thought`).
        end: one more mark that closes a thought (the harness's `think_end_token`).
    """
    if end and end in text:
        text, is_open = text.rsplit(end, 1)[1], False
    kept: list[str] = []
    place = 0
    if is_open:
        if (closing := END.search(text)) is None:
            return None
        place = closing.end()
    while (mark := EITHER.search(text, place)) is not None:
        marker = _opened_by(text, mark.start())
        if marker is None:
            kept, place = [], mark.end()
            continue
        closing = marker.end.search(text, mark.end())
        if closing is None:
            return None
        kept.append(text[place : mark.start()])
        place = closing.end()
    return "".join([*kept, text[place:]])


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside a thought, as those of many reasoning models' chat templates do."""
    last = max(EITHER.finditer(prompt), key=lambda mark: mark.start(), default=None)
    return (
        last is not None and _opened_by(prompt, last.start()) is not None and not prompt[last.end() :].strip()
    )


def _opened_by(text: str, place: int) -> Marker | None:
    """The family of a mark that opens a thought; None of one that closes."""
    return next((marker for marker in MARKERS if marker.begin.match(text, place)), None)
