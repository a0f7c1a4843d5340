"""Preprocessing of a response: thoughts, special tokens and self-generated further questions are removed."""

from __future__ import annotations

import itertools
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
USER_TURN = re.compile(
    r"<\|im_start\|>\s{0,9}user|<\|start_header_id\|>\s{0,9}user|<start_of_turn>\s{0,9}user|\[INST\]"
    r"|<[|｜](?:user|human|user_token|start_of_role[|｜]>user)[|｜]>",
    re.IGNORECASE,
)
SPECIAL_TOKEN = re.compile(r"<\|[A-Za-z_]{2,40}\|>")
LABEL_MARK = r"^[^\S\n]{0,9}(?:[#*>]{1,6}\s?)?"
NEXT_QUESTION = re.compile(
    rf"""{LABEL_MARK}(?:
    (?:(?i:question|human|user)|Q|Instruction|Input|(?i:problem|exercise)(?:\s*\#?\d+)?|(?P<part>(?i:question|q)\s?\#?\d{{1,3}}))
        (?:\*\*)?\s?[:：]
    |(?P<after_answer>
        (?i:(?:(?P<next>next|new|another)|further|additional|follow-?up|bonus|practice|similar|related|your)\s{{1,3}}
            (?:question|problem|exercise|example|task)(?:\s?\#?\d{{1,3}})?)(?:\*\*)?\s?(?:[:：]|(?:\*\*)?[^\S\n]{{0,9}}$)
        |(?P<numbered>(?i:question|q|example|task)\s?\#?\d{{1,3}})(?:\*\*)?\s?(?:[:：.]|(?:\*\*)?[^\S\n]{{0,9}}$)
        |(?i:problem|exercise)\s?\#?\d{{1,3}}(?:\*\*)?\.?[^\S\n]{{0,9}}$
        |(?:(?<=[\#*])|(?<=[\#*]\s))(?i:question|problem|exercise)(?:\*\*)?[^\S\n]{{0,9}}$
        |(?:user|human)[^\S\n]{{0,9}}$
        |(?i:(?:now,?\s)?(?:(?:can|could)\syou\s(?:please\s)?(?:solve|answer)\b|(?:(?:please\s)?solve|given)\sthe\s(?:following|next)\s(?:problem|question|exercise)\b))
        |\[(?i:question|problem)\]|<(?i:question|problem)>
        |(?:问题|題目|题目|問題|질문|문제)\s?\d{{0,3}}\s?[:：]
    ))""",
    re.MULTILINE | re.VERBOSE,
)
"""The label of a further question. Without a colon, or with one behind words that a solution also uses
(`Example 2:`), it is one only behind a stated answer."""
FIRST_PART = re.compile(
    rf"{LABEL_MARK}(?:question|q|example|task)\s?#?1\b|\bfirst\s+(?:sub-?)?(?:question|problem|exercise|example|task)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""The first of the questions into which a reply divides its own problem."""
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
WIDE_SPACE = r"(?:\s?\\q?quad(?![a-zA-Z])\s?)?"
BOX_JOINER = re.compile(
    rf"[\s$.]{{0,9}}{WIDE_SPACE}(?:\\[)\]]\s?)?"
    r"(?:[,;&]|and|or|\\(?:text|mbox)\{\s?(?:and|or)\s?\}|,\s?(?:and|or)|(?<=quad)|(?<=quad\s))"
    rf"{WIDE_SPACE}\s?(?:\\[(\[]|\$)?\s?(?:\w{{1,9}}(?:_\{{?\w\}}?)?\s?=)?\s?(?:\\[(\[]|\$)?\s?"
)
"""Text between two boxes that form one answer: `$x = \\boxed{2}$ or $x = \\boxed{3}$`."""
NAME = r"(?P<name>\\?[A-Za-z]\w{0,3}(?:_\{\w\})?)\s{0,3}=(?!=)"
NAME_BEFORE_BOX = re.compile(rf"(?:^|(?<=[\s$,;&({{\[])){NAME}\s{{0,3}}(?:\\[(\[]|\$)?\s{{0,3}}$")
NAME_IN_BOX = re.compile(NAME)
OPENING_BRACKET = re.compile(r"(?P<bracket>(?<!\\)[(\[]|\\\{)\s{0,3}\$?\s{0,3}$")
CLOSING_BRACKET = re.compile(r"\s{0,3}\$?\s{0,3}(?:\\right\s?)?(?P<bracket>[)\]]|\\\})")
MAX_NAME_LENGTH = 30


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
        groups: list[list[Span]] = []
        for box in box_spans(self.text)[-MAX_BOXES:]:
            if groups and _is_joined(self.text, groups[-1][-1], box):
                groups[-1].append(box)
            else:
                groups.append([box])
        return [_merged(self.text, group) for group in groups]

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
    visible = END_TOKEN.split(visible.lstrip(), maxsplit=1)[0]
    if (turn := USER_TURN.search(visible)) is not None and visible[: turn.start()].strip():
        visible = visible[: turn.start()]
    visible = SPECIAL_TOKEN.sub("\n", visible.translate(FULL_WIDTH_TO_ASCII))
    visible = DETACHED_EXPONENT.sub(_attached_exponent, HTML_TAG.sub("", EMOJI.sub("", visible)))
    visible = JSON_ANSWER.sub(_stated_member, BORDER_OF_SCRIPTS.sub(" ", visible))
    for before in _answered_parts(visible):
        if (answer := _extract_corrected(before, extract)) is not None:
            return answer
    return _extract_corrected(Reply(visible, was_truncated(text)), extract)


def _extract_corrected(reply: Reply, extract: Callable[[Reply], str | None]) -> str | None:
    """The answer behind the words that withdraw the last stated one, otherwise that of the whole reply."""
    boxes, statements = reply.boxes[-1:], [part for part in reply.statements if part.is_certain][-1:]
    start = None
    if boxes or statements:
        # `If she forgot them, the answer would be 21` replaces no box, so its refutation withdraws none.
        decisive = [part.end for part in statements if part.opens_sentence or not boxes]
        start = correction_start(
            reply.text,
            max([*(box.start for box in boxes), *(part.start for part in statements)]),
            max([*(box.end for box in boxes), *decisive]),
            reply.sentences,
        )
    corrected = None if start is None else extract(Reply(reply.text[start:], reply.truncated))
    return extract(reply) if corrected is None else corrected


def _answered_parts(text: str) -> Iterator[Reply]:
    """The parts before a question that answer a problem, and do not only restate it."""
    restated = 0
    for cut in list(NEXT_QUESTION.finditer(text))[:MAX_CUTS]:
        before = Reply(text[: cut.start()])
        if not _is_part(before.text, cut) and (
            states_answer(before.boxes, before.statements)
            or (
                not cut["after_answer"]
                and not introduces_problem(before.text, before.sentences, restated, text[cut.start() :])
            )
        ):
            yield before
        line = QUESTION_LINE.match(text, cut.end())
        restated = line.end() if line else cut.end()


def _is_part(before: str, label: re.Match[str]) -> bool:
    """Whether a label continues the questions into which a reply divides its own problem."""
    continues = label["part"] or label["numbered"] or label["next"]
    return continues is not None and FIRST_PART.search(before) is not None


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


def _merged(text: str, boxes: list[Span]) -> Span:
    """The boxes of one answer as one: a list of values, of equations if their names differ, or a tuple."""
    start, end = boxes[0].start, boxes[-1].end
    equations = [_equation(text, box) for box in boxes]
    names = [name for name, _ in equations]
    if None not in names and len(set(names)) > 1:
        return Span(start, end, ", ".join(equation for _, equation in equations))
    merged = boxes[0]
    for box in boxes[1:]:
        is_repeated = merged.content == box.content or _is_same_number(text, merged, box)
        content = merged.content if is_repeated else f"{merged.content}, {box.content}"
        merged = Span(start, box.end, content)
    brackets = _brackets_around(text, boxes)
    if brackets is not None:
        content = ", ".join(box.content for box in boxes)
        return Span(start, end, f"{brackets[0]}{content}{brackets[1]}")
    return merged


def _equation(text: str, box: Span) -> tuple[str | None, str]:
    """The name of the value in a box, before or within it, and the equation of both; None without a name."""
    if (inner := NAME_IN_BOX.match(box.content)) is not None:
        return _plain_name(inner), box.content
    before = NAME_BEFORE_BOX.search(text[max(0, box.start - MAX_NAME_LENGTH) : box.start])
    if before is None:
        return None, box.content
    return _plain_name(before), f"{_plain_name(before)} = {box.content}"


def _plain_name(match: re.Match[str]) -> str:
    return re.sub(r"[{}]", "", match["name"])


def _brackets_around(text: str, boxes: list[Span]) -> tuple[str, str] | None:
    """The brackets around boxes that are separated by commas, `(\\boxed{2}, \\boxed{3})`; None without."""
    begin = OPENING_BRACKET.search(text[max(0, boxes[0].start - MAX_NAME_LENGTH) : boxes[0].start])
    end = CLOSING_BRACKET.match(text, boxes[-1].end)
    if len(boxes) < 2 or begin is None or end is None:
        return None
    pairs = itertools.pairwise(boxes)
    if any(re.search(r"\b(?:and|or)\b", text[first.end : second.start]) for first, second in pairs):
        return None
    return begin["bracket"], end["bracket"]


def _is_same_number(text: str, previous: Span, second: Span) -> bool:
    """Whether two boxes with `or` between them are one number in two notations: `\\frac34` or 0.75."""
    if re.search(r"\bor\b", text[previous.end : second.start]) is None:
        return False
    values = [parse_number(box.content) for box in (previous, second)]
    return values[0] is not None and values[0] == values[1]


def _is_joined(text: str, previous: Span, second: Span) -> bool:
    between = text[previous.end : second.start]
    return len(between) <= 60 and BOX_JOINER.fullmatch(between) is not None
