"""A model's reply as it is graded: without thoughts, end marks, and questions that it goes on with."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.remarks import is_about_answer, is_remark
from s2t_eval.evaluation.grading.statements import Statement, statements
from s2t_eval.evaluation.grading.text import Span, box_spans, sentences
from s2t_eval.evaluation.grading.thinking import without_thoughts

WIDTHS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x00A0: 0x202F}
"""Full-width characters, which models trained on Chinese write, and a space that does not break."""
ENDS = re.compile(
    r"<\|(?:endoftext|im_end|eot_id|end_of_text|end|return|eom_id|end_of_solution)\|>|</s>|<eos>|<end_of_turn>|<｜end▁of▁sentence｜>"
)
HTML = re.compile(r"</?(?:b|strong|em|u|center|h[1-6])\s?/?>")
PICTURES = re.compile("[\U0001f300-\U0001faff✅✓✔☑✨⭐\ufe0f]")
"""Ornaments beside an answer."""
RAISED = re.compile(r"(?<=[A-Za-z0-9])\s?\$\s?\^\s?(?:\{\s?(\d|\\circ)\s?\}|(\d|\\circ))\s?\$")
"""An exponent that alone is in mathematics: `42 cm$^2$`, `42$^\\circ$`."""
TURN = re.compile(r"<\|im_start\|>\s*user|<\|start_header_id\|>\s*user|<start_of_turn>user")
SPECIAL = re.compile(r"<\|[A-Za-z_]{2,40}\|>")
NEXT_QUESTION = re.compile(
    r"^[^\S\n]{0,9}(?:[#*>]{1,6}\s?)?(?:(?:Question|Q|Human|User|Instruction|Input)|(?:Problem|Exercise)(?:\s*\d+)?)(?:\*\*)?\s?[:：]",
    re.MULTILINE,
)
MOST_CUTS, MOST_BOXES = 8, 200
JOINT = re.compile(
    r"[\s$.]{0,9}(?:\\[)\]]\s?)?(?:[,;&]|and|or|\\(?:text|mbox)\{\s?(?:and|or)\s?\}|,\s?(?:and|or))\s?(?:\\[(\[]|\$)?\s?(?:\w{1,9}(?:_\{?\w\}?)?\s?=)?\s?(?:\\[(\[]|\$)?\s?"
)
"""What stands between two boxes that give one answer together: `$x = \\boxed{2}$ or $x = \\boxed{3}$`."""


class Reply:
    """A reply, or its part before the next question.

    Args:
        text: what was written, without thoughts.
        truncated: whether it ended at its length limit; None where nobody knows.
    """

    def __init__(self, text: str, truncated: bool | None = None) -> None:
        self.text = text
        self.truncated = truncated

    @cached_property
    def boxes(self) -> list[Span]:
        """Boxes in their order; such that give one answer together are one, separated by commas."""
        found: list[Span] = []
        for box in box_spans(self.text)[-MOST_BOXES:]:
            if found and _is_joined(self.text, found[-1], box):
                first = found.pop()
                inside = first.inside if first.inside == box.inside else f"{first.inside}, {box.inside}"
                box = Span(first.start, box.end, inside)
            found.append(box)
        return found

    @cached_property
    def sentences(self) -> list[Span]:
        """Its sentences, in their order."""
        return sentences(self.text)

    @cached_property
    def statements(self) -> list[Statement]:
        """What it states, in the order of the text."""
        return statements(self.text, self.sentences)

    @cached_property
    def saying(self) -> list[Span]:
        """The sentences that are no remarks, or where there are no others, those not about the answer."""
        saying = [part for part in self.sentences if not is_remark(part.inside)]
        return saying or [part for part in self.sentences if not is_about_answer(part.inside)]


def answer_of(text: str, read: Callable[[Reply], str | None]) -> str | None:
    """The answer that one rule reads in what a model wrote.

    A base model that has answered goes on with the next question, which stock tasks cut off by stop
    strings; here the reply ends there if it has given an answer by then.

    Args:
        text: what it wrote; a `GeneratedText` knows whether it was truncated.
        read: the rule.
    """
    shown = without_thoughts(text)
    if shown is None:
        return None
    shown = SPECIAL.sub("\n", ENDS.split(shown.lstrip(), maxsplit=1)[0].translate(WIDTHS))
    shown = RAISED.sub(_raised, HTML.sub("", PICTURES.sub("", shown)))
    if turn := TURN.search(shown):
        shown = shown[: turn.start()]
    for cut in list(NEXT_QUESTION.finditer(shown))[:MOST_CUTS]:
        before = shown[: cut.start()]
        if before.strip() and (answer := read(Reply(before))) is not None:
            return answer
    return read(Reply(shown, was_truncated(text)))


def _raised(match: re.Match[str]) -> str:
    exponent = match[1] or match[2]
    return "°" if exponent == "\\circ" else f"^{exponent}"


def _is_joined(text: str, first: Span, second: Span) -> bool:
    between = text[first.end : second.start]
    return len(between) <= 60 and JOINT.fullmatch(between) is not None
