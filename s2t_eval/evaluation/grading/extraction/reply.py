"""Preprocessing of a response: thoughts, special tokens and self-generated further questions are removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.extraction.corrections import correction_start
from s2t_eval.evaluation.grading.extraction.introductions import (
    introduces_problem,
    is_announcement,
    states_answer,
)
from s2t_eval.evaluation.grading.extraction.remarks import (
    begins_check,
    concludes,
    is_about_answer,
    is_remark,
)
from s2t_eval.evaluation.grading.extraction.spans import ASIAN, Span, box_spans, find_sentences
from s2t_eval.evaluation.grading.extraction.statements import Statement, find_statements
from s2t_eval.evaluation.grading.numbers.parsing import parse_number
from s2t_eval.evaluation.grading.thinking import without_thoughts

FULL_WIDTH_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x00A0: 0x202F}
"""Full-width characters, which models trained on Chinese produce, and the no-break space."""
END_TOKEN = re.compile(
    r"<\|(?:endoftext|im_end|eot_id|end_of_text|end|return|eom_id|end_of_solution)\|>|</s>|<eos>|<end_of_turn>|<｜end▁of▁sentence｜>"
)
HTML_TAG = re.compile(r"</?(?:b|strong|em|u|center|h[1-6])\s?/?>")
EMOJI = re.compile("[\U0001f300-\U0001faff✅✓✔☑✨⭐\ufe0f]")
"""Decorative characters beside an answer."""
DETACHED_EXPONENT = re.compile(r"(?<=[A-Za-z0-9])\s?\$\s?\^\s?(?:\{\s?(\d|\\circ)\s?\}|(\d|\\circ))\s?\$")
"""An exponent in its own formula: `42 cm$^2$`, `42$^\\circ$`."""
USER_TURN = re.compile(r"<\|im_start\|>\s*user|<\|start_header_id\|>\s*user|<start_of_turn>user")
SPECIAL_TOKEN = re.compile(r"<\|[A-Za-z_]{2,40}\|>")
NEXT_QUESTION = re.compile(
    r"^[^\S\n]{0,9}(?:[#*>]{1,6}\s?)?(?:(?:Question|Q|Human|User|Instruction|Input)|(?:Problem|Exercise)(?:\s*\d+)?)(?:\*\*)?\s?[:：]",
    re.MULTILINE,
)
QUESTION_LINE = re.compile(r"[*_\s]*[^\n]*")
QUESTION = re.compile(
    r"\W*(?:(?:next|another|final)\s+question\b|(?:so|and|but|now)?\W*(?:how|what|which|who|where|why|is|are|do|does|did|would|could|can|should|if)\b)",
    re.I,
)
"""The start of a question, which some models write for themselves; others end their answer with a mark."""
REASONS = re.compile(
    r"[.!]?[\s*_#>-]*(?:explanation|reason(?:ing)?|justification|rationale)\b[*_\s]*:", re.IGNORECASE
)
"""A heading that separates an answer from the explanation behind it."""
REASONS_BEHIND_RESULT = re.compile(
    r"^[\s*_#>-]{0,12}(?:here(?:['’]s|\s+is)\s+(?:the|my|a|an)\s+)?"
    r"(?:explanation|reason(?:ing)?|justification|rationale|breakdown|key\s+takeaways?)\b[*_\s]{0,9}:",
    re.IGNORECASE | re.MULTILINE,
)
"""A heading behind a derived result; what follows it explains the result if it derives nothing more."""
JSON_ANSWER = re.compile(
    r"""(?P<mark>["'])(?:final[_ ]?)?answer(?P=mark)\s{0,9}:\s{0,9}
    (?:(?P<quote>["'])(?P<text>(?:(?!(?P=quote))[^\\\n]|\\.)+)(?P=quote)|(?P<bare>[^\s"',{}\[\]]+))
    (?=\s{0,99}[,}])\s{0,99}\}?""",
    re.IGNORECASE | re.VERBOSE,
)
"""The member of a JSON object that holds the answer."""
SINGLE_BACKSLASH = re.compile(r"(?<!\\)\\(?:\\\\)*(?!\\)")
BORDER_OF_SCRIPTS = re.compile(rf"(?<={ASIAN})(?=[\w$\\(-])(?!{ASIAN})|(?<=[A-Za-z\d$)])(?={ASIAN})")
"""Where Asian text meets an answer without a space: `每天赚18美元`, `정답은 C입니다`."""
MAX_CUTS, MAX_BOXES = 8, 200
BOX_JOINER = re.compile(
    r"[\s$.]{0,9}(?:\\[)\]]\s?)?(?:[,;&]|and|or|\\(?:text|mbox)\{\s?(?:and|or)\s?\}|,\s?(?:and|or))\s?(?:\\[(\[]|\$)?\s?(?:\w{1,9}(?:_\{?\w\}?)?\s?=)?\s?(?:\\[(\[]|\$)?\s?"
)
"""Text between two boxes that form one answer: `$x = \\boxed{2}$ or $x = \\boxed{3}$`."""


class Reply:
    """A preprocessed response, or its part before the next question; parses are computed once.

    Args:
        text: the response without thoughts and special tokens.
        truncated: whether generation stopped at the length limit; None (default) if unknown.
    """

    def __init__(self, text: str, truncated: bool | None = None) -> None:
        self.text = text
        self.truncated = truncated

    @cached_property
    def boxes(self) -> list[Span]:
        """The boxes in order; boxes that form one answer together are merged, separated by commas."""
        boxes: list[Span] = []
        for box in box_spans(self.text)[-MAX_BOXES:]:
            if boxes and _is_joined(self.text, boxes[-1], box):
                previous = boxes.pop()
                content = (
                    previous.content
                    if previous.content == box.content or _is_same_number(self.text, previous, box)
                    else f"{previous.content}, {box.content}"
                )
                box = Span(previous.start, box.end, content)
            boxes.append(box)
        return boxes

    @cached_property
    def sentences(self) -> list[Span]:
        """The sentences in order."""
        return find_sentences(self.text)

    @cached_property
    def statements(self) -> list[Statement]:
        """The statements of an answer, in order.

        Without one that a truncated text breaks off, where the text states its answer before: a reply that
        repeats its answer until the length limit ends with `The answer is 12` for 1260.
        """
        statements = find_statements(self.text, self.sentences)
        if not self.truncated:
            return statements
        complete = [statement for statement in statements if statement.is_complete(self.text)]
        return complete if states_answer(self.boxes, complete) else statements

    @cached_property
    def answer_sentences(self) -> list[Span]:
        """The sentences that may contain the answer: those that are neither remarks nor questions.

        If every sentence is a remark, those that do not assess the answer. If the first sentence has a
        number, and the heading of an explanation follows it, that sentence alone. Behind a derived result,
        an explanation that derives nothing more is left out.
        """
        first = self.sentences[0] if self.sentences else None
        if (
            first is not None
            and REASONS.match(self.text, first.end)
            and re.search(r"\d", first.content)
            and not is_announcement(first.content)
        ):
            return [first]
        answer_sentences = [
            part
            for part in self._sentences_outside_checks()
            if part.start < self._explanation_start
            and not is_remark(part.content)
            and not (self.text[part.end : part.end + 1] == "?" and QUESTION.match(part.content))
        ]
        return answer_sentences or [part for part in self.sentences if not is_about_answer(part.content)]

    @cached_property
    def _explanation_start(self) -> int:
        """Position of the explanation of a derived result; the end of the text without one."""
        for heading in islice(REASONS_BEHIND_RESULT.finditer(self.text), MAX_CUTS):
            before = [part for part in self.sentences if part.end <= heading.start()]
            after = self.sentences[len(before) :]
            if before and _derives(before[-1].content) and not any(_derives(part.content) for part in after):
                return heading.start()
        return len(self.text) + 1

    def _sentences_outside_checks(self) -> Iterator[Span]:
        """The sentences without those behind a heading such as "Verification:", up to a conclusion."""
        in_check = False
        for part in self.sentences:
            in_check = (in_check and not concludes(part.content)) or begins_check(
                part.content, self.text[part.end : part.end + 1]
            )
            if not in_check:
                yield part


def extract_answer(text: str, extract: Callable[[Reply], str | None]) -> str | None:
    """Preprocess a response and apply an extraction function to it.

    A base model often continues with another question after its answer. Stock tasks prevent this with stop
    strings; here the response is cut at that question if its problem was answered before it. A response that
    introduces and restates its own problem is read to its end.

    Args:
        text: the response; a `GeneratedText` records whether it was truncated.
        extract: function that extracts an answer from a reply, or returns None.

    Returns:
        The answer; None if there is none, or if a thought never ends.
    """
    visible = without_thoughts(text)
    if visible is None:
        return None
    visible = SPECIAL_TOKEN.sub(
        "\n", END_TOKEN.split(visible.lstrip(), maxsplit=1)[0].translate(FULL_WIDTH_TO_ASCII)
    )
    visible = DETACHED_EXPONENT.sub(_attached_exponent, HTML_TAG.sub("", EMOJI.sub("", visible)))
    visible = JSON_ANSWER.sub(_stated_member, BORDER_OF_SCRIPTS.sub(" ", visible))
    if turn := USER_TURN.search(visible):
        visible = visible[: turn.start()]
    for before in _answered_parts(visible):
        if (answer := _extract_corrected(before, extract)) is not None:
            return answer
    return _extract_corrected(Reply(visible, was_truncated(text)), extract)


def _extract_corrected(reply: Reply, extract: Callable[[Reply], str | None]) -> str | None:
    """The answer behind the words that withdraw the last stated one, otherwise that of the whole reply."""
    starts = [box.start for box in reply.boxes[-1:]]
    starts += [statement.start for statement in reply.statements if statement.is_certain][-1:]
    start = correction_start(reply.text, max(starts)) if starts else None
    corrected = None if start is None else extract(Reply(reply.text[start:], reply.truncated))
    return extract(reply) if corrected is None else corrected


def _answered_parts(text: str) -> Iterator[Reply]:
    """The parts before a question that answer a problem, and do not only restate it."""
    restated = 0
    for cut in list(NEXT_QUESTION.finditer(text))[:MAX_CUTS]:
        before = Reply(text[: cut.start()])
        if states_answer(before.boxes, before.statements) or not introduces_problem(
            before.text, before.sentences, restated, text[cut.start() :]
        ):
            yield before
        line = QUESTION_LINE.match(text, cut.end())
        restated = line.end() if line else cut.end()


def _stated_member(match: re.Match[str]) -> str:
    """The answer of a JSON object as a statement; not every model escapes the backslashes of LaTeX."""
    value = match["text"] or match["bare"]
    if not SINGLE_BACKSLASH.search(value):
        value = value.replace("\\\\", "\\")
    return f"\n\nAnswer: {value}\n"


def _attached_exponent(match: re.Match[str]) -> str:
    exponent = match[1] or match[2]
    return "°" if exponent == "\\circ" else f"^{exponent}"


def _derives(sentence: str) -> bool:
    """Whether a sentence computes a number or concludes with one."""
    return re.search(r"\d", sentence) is not None and ("=" in sentence or concludes(sentence))


def _is_same_number(text: str, previous: Span, second: Span) -> bool:
    """Whether two boxes with `or` between them are one number in two notations: `\\frac34` or 0.75."""
    if re.search(r"\bor\b", text[previous.end : second.start]) is None:
        return False
    values = [parse_number(box.content) for box in (previous, second)]
    return values[0] is not None and values[0] == values[1]


def _is_joined(text: str, previous: Span, second: Span) -> bool:
    between = text[previous.end : second.start]
    return len(between) <= 60 and BOX_JOINER.fullmatch(between) is not None
