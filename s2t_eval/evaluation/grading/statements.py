"""Where a text states its answer: "the answer is 5", "Answer: 5", a heading, a tag, "5 is the answer"."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from s2t_eval.evaluation.grading.remarks import is_denied, without_filler
from s2t_eval.evaluation.grading.text import MARKS, Span, sentences

BE = r"""(?:(?:would|must|should|will|shall|can(?:\s+only)?|could(?:\s+only)?|may|might
    |ha(?:s|ve|d)\s+to|needs\s+to
    |ought\s+to|turns?\s+out\s+to|turned\s+out\s+to|seems?\s+to|appears?\s+to|works\s+out\s+to|comes\s+out\s+to
    |happens\s+to|proves\s+to)\s+be|comes\s+(?:out\s+)?(?:to|as)|turns\s+out\s+as|is|are|was|were|equals?|becomes|remains)"""
INTRO = re.compile(
    rf"""\b(?:(?P<certain>answers?|ans(?:\.(?=\s?[:=]))?)|(?P<weak>results?|solutions?|option|choice|conclusion(?=[*_\s]*[:：])))(?:\b|(?<=\.))
    (?!\s+(?:choices|options|key)\b)(?P<between>[^.:;!?\n=：→<>\[\]]{{0,80}}?)
    (?P<verb>(?<![\w\\]){BE}(?![\w'’])|[:：=→➜]|[-=]+>|\\(?:to|rightarrow|implies)(?![a-z])|(?<=\b[Aa]ns)\.(?=\s)|(?<=\bANS)\.(?=\s)|(?<=[rt*])\s+[-—–](?=\s))
    [\s*_:]*""",
    re.IGNORECASE | re.VERBOSE,
)
CHINESE = re.compile(
    r"(?P<certain>答案|答え|正确选项|正解)(?P<weak>)(?:应该|应)?(?P<verb>是|为|は|[:：])[\s*_:：]*"
    r"|(?P<certain_choice>[故应]选|^选|因此选|所以选)择?(?:项|选项)?[\s*_:：]*",
    re.MULTILINE,
)
FOREIGN = re.compile(
    r"\b(?P<certain>réponse|respuesta|resposta|risposta|antwort|ответ|jawaban)\b(?P<weak>)"
    r"[^.:;!?\n=<>\[\]]{0,40}?(?P<verb>\b(?:est|es|é|è|ist|adalah)\b|[:：]|—)(?:\s+(?:la|el|a|o|le|die)\b)?[\s*_:]*",
    re.IGNORECASE,
)
HASHES = re.compile(r"^[^\S\n]*#{4}[^\S\n]*(?=\S)", re.MULTILINE)
HEADING = re.compile(
    r"^[^\S\n]*(?=[\w#*_>])[#*_>\s]{0,12}(?:the\s+)?(?:final\s+|correct\s+)?"
    r"(?P<certain>answer)s?[ \t*_.]{0,9}\n\s*",
    re.I | re.MULTILINE,
)
TAG = re.compile(r"<(/?)(?:final_?)?answer>|\[(/?)(?:FINAL_)?ANSWER\]", re.I)
REVERSED = re.compile(
    rf"""(?<![\w\\]){BE}\s+(?:\w+ly\s+|thus\s+|indeed\s+|therefore\s+)?(?:the|our|my)\s+(?:[\w-]+\s+){{0,3}}?
    (?:answer|choice|option|solution)\b(?!\s*[:=]|\s+(?:is|are|choices)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|assum\w*|unless|say|claim(?:s|ed)?|imagine)\b[^.,;:\n]*$", re.I
)
FINAL = re.compile(r"\bfinal\s+answer", re.I)
PARAGRAPH_END = re.compile(r"[.!?]?[*_\s]{0,4}(?:\n[^\S\n]*\n|\Z)")
MOST, LONGEST, LONGEST_LINE = 64, 1500, 400
"""The last statements that are looked at, and how far: a text that repeats itself for ever has more."""
STEP = re.compile(r"\bStep\s*\d", re.I)


class Statement(NamedTuple):
    """What a text states.

    Args:
        start: where its introduction begins.
        said: what is stated, to the end of the sentence.
        line: the same to the end of the line.
        end: where `said` ends.
        certain: it speaks of an answer; a result or a solution may be one on the way.
        heading: it stands behind a colon or a heading, where a derivation may begin.
        final: it is a sentence of its own paragraph behind "Final answer:".
    """

    start: int
    said: str
    line: str
    end: int
    certain: bool
    heading: bool
    final: bool = False


def statements(text: str, parts: Sequence[Span] | None = None) -> list[Statement]:
    """All statements that are neither denied, nor a supposition, nor a question, nor a step on the way.

    Args:
        text: what a model answered.
        parts: its sentences where they are known.
    """
    parts = sentences(text) if parts is None else parts
    starts = [part.start for part in parts]
    found = [*_tagged(text), *_reversed(text, parts)]
    for match in _introductions(text):
        place = bisect_right(starts, match.end()) - 1
        if place >= 0 and match.end() < parts[place].end and not _is_supposed(text, match.start()):
            found.append(_statement(text, match, parts[place].end))
    steps = [step.start() for step in STEP.finditer(text)]
    return [item for item in sorted(found)[-MOST:] if _is_stated(text, item, steps)]


def _introductions(text: str) -> list[re.Match[str]]:
    """What introduces a statement, in the order of the text; the last ones of very many."""
    matches = [
        match for pattern in (INTRO, CHINESE, FOREIGN, HASHES, HEADING) for match in pattern.finditer(text)
    ]
    return sorted(matches, key=lambda match: match.start())[-MOST:]


def _statement(text: str, match: re.Match[str], end: int) -> Statement:
    groups = match.groupdict()
    verb = (groups.get("verb") or ":").strip(" *_")
    line = text[match.end() : match.end() + LONGEST_LINE].split("\n", 1)[0]
    said = text[match.end() : min(end, match.end() + LONGEST)].strip(MARKS)
    is_final = (
        FINAL.search(text, max(0, match.start() - 12), match.end()) is not None
        and PARAGRAPH_END.match(text, end) is not None
    )
    return Statement(
        match.start(), said, line.strip(), end, not groups.get("weak"), not verb[:1].isalpha(), is_final
    )


def _tagged(text: str) -> list[Statement]:
    """What stands between `<answer>` and `</answer>`, or the end."""
    found, opened = [], None
    for tag in [*TAG.finditer(text), None]:
        closes = tag is None or bool(tag[1] or tag[2])
        if opened is not None and (closes or tag is None):
            end = len(text) if tag is None else tag.start()
            said = text[opened.end() : min(end, opened.end() + LONGEST)].strip()
            found.append(Statement(opened.start(), said, said[:LONGEST_LINE], end, True, True))
        opened = None if closes else tag
    return found[-MOST:]


def _reversed(text: str, parts: Sequence[Span]) -> list[Statement]:
    """`18 is the answer`: what stands before, in the same sentence."""
    found = []
    for part in parts:
        match = REVERSED.search(text, part.start, part.end)
        if match is None or _is_supposed(text, match.start()):
            continue
        said = text[max(part.start, match.start() - LONGEST) : match.start()].strip(MARKS + "#>,")
        found.append(Statement(part.start, said, said[:LONGEST_LINE], part.end, True, False))
    return found[-MOST:]


def _is_supposed(text: str, start: int) -> bool:
    return SUPPOSED.search(text, max(0, start - 60), start) is not None


def _is_stated(text: str, item: Statement, steps: list[int]) -> bool:
    said, _ = without_filler(item.said)
    if not said or is_denied(said) or text[item.end : item.end + 1] == "?":
        return False
    before = bisect_right(steps, item.end)
    return not 0 < before < len(steps)
