"""Statements of an answer: "the answer is 5", "Answer: 5", headings, tags, "5 is the answer"."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from s2t_eval.evaluation.grading.extraction.remarks import is_negated, strip_filler
from s2t_eval.evaluation.grading.extraction.spans import MARKUP_CHARACTERS, Span

COPULA = r"""(?:(?:would|must|should|will|shall|can(?:\s+only)?|could(?:\s+only)?|may|might
    |ha(?:s|ve|d)\s+to|needs\s+to
    |ought\s+to|turns?\s+out\s+to|turned\s+out\s+to|seems?\s+to|appears?\s+to|works\s+out\s+to|comes\s+out\s+to
    |happens\s+to|proves\s+to|is\s+(?:most\s+|very\s+)?(?:likely|bound|going)\s+to)\s+be|comes\s+(?:out\s+)?(?:to|as)|turns\s+out\s+as|is|are|was|were|equals?|becomes|remains)"""
INTRODUCTION = re.compile(
    rf"""\b(?:(?P<certain>answers?|ans(?:\.(?=\s?[:=]))?)|(?P<weak>results?|solutions?|(?<!each\s)(?<!every\s)(?:option|choice)|conclusion(?=[*_\s]*[:：])))(?:\b|(?<=\.))
    (?!\s+(?:choices|options|key)\b)(?P<between>(?:[^.:;!?\n=：→<>\[\]]|(?<=\d)\.(?=\d)){{0,80}}?)
    (?P<verb>(?<![\w\\]){COPULA}(?![\w'’])|[:：=→➜]|[-=]+>|\\(?:to|rightarrow|implies)(?![a-z])|(?<=\b[Aa]ns)\.(?=\s)|(?<=\bANS)\.(?=\s)|(?<=[rst*])[^\S\n]+[-—–](?=\s))
    [\s*_:]*""",
    re.IGNORECASE | re.VERBOSE,
)
CHINESE = re.compile(
    r"(?P<certain>答案|答え|正确的?选项|正确的|正解|正答|정답|답)(?P<weak>)(?:应该|应)?(?P<verb>是|为|は|은|选|[:：])[\s*_:：]*"
    r"|(?P<certain_choice>(?:[故应]|因此|所以)[,，]?\s?(?:我们)?选|^选)择?(?:项|选项)?[\s*_:：]*",
    re.MULTILINE,
)
FOREIGN = re.compile(
    r"\b(?P<certain>option\s+correcte|opci[oó]n\s+correcta|op[cç][aã]o\s+corr?eta|richtige\s+option|réponse|respuesta|resposta|risposta|antwort|ответ|jawaban)\b(?P<weak>)"
    r"[^.:;!?\n=<>\[\]]{0,40}?(?P<verb>\b(?:est|es|é|è|ist|adalah)\b|[:：]|—)(?:\s+(?-i:la|el|a|o|le|die)\b)?[\s*_:]*",
    re.IGNORECASE,
)
HASH_MARKER = re.compile(r"^[^\S\n]*#{4}[^\S\n]*(?=\S)", re.MULTILINE)
HEADING = re.compile(
    r"^[^\S\n]*(?=[\w#*_>])[#*_>\s]{0,12}(?:the\s+)?(?:final\s+|correct\s+)?"
    r"(?P<certain>answer)s?[ \t*_.]{0,9}\n\s*",
    re.I | re.MULTILINE,
)
ANSWER_TAG = re.compile(r"<(/?)(?:final_?)?answer>|\[(/?)(?:FINAL_)?ANSWER\]", re.I)
OTHER_THAN_CORRECT = (
    r"(?:wrong|incorrect|false|invalid|second|next|worst|least|opposite|other|alternative|tempting|common|popular"
    r"|usual|naive|intuitive|\S*-known)"
)
INVERTED = re.compile(
    rf"""(?<![\w\\]){COPULA}\s+(?:(?!hardly|scarcely)\w+ly\s+|thus\s+|indeed\s+|therefore\s+)?(?:the|our|my)\s+(?:(?!{OTHER_THAN_CORRECT}\s)[\w-]+\s+){{0,3}}?
    (?:answer|choice|option|solution)\b(?!\s*[:=]|\s+(?:is|are|choices)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
OPINION_OF_OTHERS = (
    r"(?:many|most|some)\s+(?:people\s+|students\s+)?(?:think|believe|say|assume)"
    r"|(?:one|some|you|students?|many|people)\s+(?:might|may|could|would)\s+(?:\w+\s+)?(?:think|believe|guess|expect|conclude|argue|say|claim|assume)"
    r"|(?:mistake|wrong|incorrect|tempting)\s+to\s+(?:think|believe|conclude|argue|say|claim|assume)"
)
HYPOTHETICAL = re.compile(
    rf"\b(?:if|whether|suppose|assum\w*|unless|say|claim(?:s|ed)?|imagine|{OPINION_OF_OTHERS})\b[^.,;:\n]*$",
    re.I,
)
PAST = r"were|was|had|did|sold|bought|gave|got|made|took|paid|came|went|ate|spent|kept|lost|ran|left|\w{2,}ed"
COUNTERFACTUAL = re.compile(
    rf"\bif\b(?!\s+(?:I|we|you|one)\s+(?:had|were)\s+to\s+(?:guess|choose|pick|select|answer)\b)[^.;\n]*\b(?:{PAST})\b[^.;\n]*$",
    re.I,
)
"""The start of a sentence about another case: "If she sold 3 more, the answer would be 24"."""
SENTENCE_OPENING = re.compile(
    r"""[\W_]*(?:(?:so|thus|hence|therefore|then|finally|overall|consequently|and|but|now|wait|actually|sorry|in\s+(?:conclusion|summary|total|short|fact)
    |(?:(?:we|I)\s+(?:conclude|find|see|get|have)|it\s+follows)(?:\s+that)?)[\s,:*—–-]{1,9}){0,4}
    (?:(?:the|our|my|final|correct|corrected|right|revised|new|updated|actual|real|true|required|desired|numerical)[\s*_]{1,9}){0,4}[\W_]*""",
    re.IGNORECASE | re.VERBOSE,
)
"""The text before `answer` in a sentence that states the answer of the problem itself."""
CHECKED = re.compile(r"\b(?:check|verif|confirm)\w*\s+(?:\w+\s+){0,3}$", re.I)
"""The text before `answer:` in the heading of a check: "Let's verify our answer:"."""
CONDITION = re.compile(r"\s+(?:only|if|when|unless|most|many)\b", re.I)
FINAL_ANSWER = re.compile(r"\bfinal\s+answer", re.I)
PARAGRAPH_END = re.compile(r"[.!?]?[*_\s]{0,4}(?:\n[^\S\n]*\n|\Z)")
MAX_STATEMENTS, MAX_PHRASE_LENGTH, MAX_LINE_LENGTH = 64, 1500, 400
"""Limits for degenerate text that repeats itself: number of statements from the end, characters of each."""
STEP_HEADING = re.compile(r"\bStep\s*\d", re.I)


class Statement(NamedTuple):
    """One statement of an answer.

    Args:
        start: position at which its introduction begins.
        phrase: the stated text up to the end of the sentence.
        line: the stated text up to the end of the line.
        end: position at which `phrase` ends.
        is_certain: whether it mentions an answer; a "result" or a "solution" may be an intermediate one.
        is_heading: whether it follows a colon or a heading, after which a derivation may begin.
        is_final: whether it follows "Final answer:" and ends its paragraph; default False.
        subject: the words between "answer" or "option" and the verb: " to part (b) "; default empty.
        opens_sentence: whether nothing but a conclusion's words stand before it: "So the answer is 5", in
            contrast to "For 2 boxes the answer is 8"; default True.
    """

    start: int
    phrase: str
    line: str
    end: int
    is_certain: bool
    is_heading: bool
    is_final: bool = False
    subject: str = ""
    opens_sentence: bool = True

    def is_complete(self, text: str) -> bool:
        """Whether more than markup follows what it states: a mark, a new line, or words."""
        return self.end < len(text) or not text[self.start :].strip(MARKUP_CHARACTERS).endswith(self.phrase)


def find_statements(text: str, sentences: Sequence[Span]) -> list[Statement]:
    """Return all statements that are not negated, hypothetical, a question or an intermediate step.

    Args:
        text: a preprocessed response.
        sentences: its sentences.

    Example:
        >>> text = "So the answer is 5 m."
        >>> [statement.phrase for statement in find_statements(text, find_sentences(text))]
        ['5 m']
    """
    starts = [part.start for part in sentences]
    candidates = [*_tagged_statements(text), *_inverted_statements(text, sentences)]
    for match in _introductions(text):
        index = bisect_right(starts, match.end()) - 1
        if (
            index >= 0
            and match.end() < sentences[index].end
            and not _is_hypothetical(text, match.start(), match.groupdict().get("verb") or "")
        ):
            begin = sentences[bisect_right(starts, match.start()) - 1].start
            candidates.append(_statement(text, match, begin, sentences[index].end))
    steps = [step.start() for step in STEP_HEADING.finditer(text)]
    return [
        statement
        for statement in sorted(candidates)[-MAX_STATEMENTS:]
        if _is_assertion(text, statement, steps)
    ]


def _introductions(text: str) -> list[re.Match[str]]:
    """Introductions of statements, in order; at most the last `MAX_STATEMENTS`."""
    matches = [
        match
        for pattern in (INTRODUCTION, CHINESE, FOREIGN, HASH_MARKER, HEADING)
        for match in pattern.finditer(text)
    ]
    return sorted(matches, key=lambda match: match.start())[-MAX_STATEMENTS:]


def _statement(text: str, match: re.Match[str], begin: int, end: int) -> Statement:
    groups = match.groupdict()
    verb = (groups.get("verb") or ":").strip(" *_")
    line = text[match.end() : match.end() + MAX_LINE_LENGTH].split("\n", 1)[0]
    phrase = text[match.end() : min(end, match.end() + MAX_PHRASE_LENGTH)].strip(MARKUP_CHARACTERS)
    if "\n" in match[0]:
        phrase = re.sub(r"^[-–—•]\s+", "", phrase)  # the marker of a list behind a heading
    is_final = (
        FINAL_ANSWER.search(text, max(0, match.start() - 12), match.end()) is not None
        and PARAGRAPH_END.match(text, end) is not None
    )
    return Statement(
        match.start(),
        phrase,
        line.strip(),
        end,
        not groups.get("weak"),
        not verb[:1].isalpha(),
        is_final,
        groups.get("between") or "",
        match.re is not INTRODUCTION or _opens_sentence(text[max(0, begin) : match.start()]),
    )


def _opens_sentence(before: str) -> bool:
    return len(before) <= MAX_LINE_LENGTH and SENTENCE_OPENING.fullmatch(before) is not None


def _tagged_statements(text: str) -> list[Statement]:
    """Statements between `<answer>` and `</answer>` or the end of the text."""
    statements, opening = [], None
    for tag in [*ANSWER_TAG.finditer(text), None]:
        is_closing = tag is None or bool(tag[1] or tag[2])
        if opening is not None and (is_closing or tag is None):
            end = len(text) if tag is None else tag.start()
            phrase = text[opening.end() : min(end, opening.end() + MAX_PHRASE_LENGTH)].strip()
            statements.append(Statement(opening.start(), phrase, phrase[:MAX_LINE_LENGTH], end, True, True))
        opening = None if is_closing else tag
    return statements[-MAX_STATEMENTS:]


def _inverted_statements(text: str, sentences: Sequence[Span]) -> list[Statement]:
    """Statements with the answer first: `18 is the answer`."""
    statements = []
    for sentence in sentences:
        match = INVERTED.search(text, sentence.start, sentence.end)
        if (
            match is None
            or _is_hypothetical(text, match.start(), match[0])
            or CONDITION.match(text, match.end())
        ):
            continue
        phrase = text[max(sentence.start, match.start() - MAX_PHRASE_LENGTH) : match.start()].strip(
            MARKUP_CHARACTERS + "#>,"
        )
        statements.append(
            Statement(sentence.start, phrase, phrase[:MAX_LINE_LENGTH], sentence.end, True, False)
        )
    return statements[-MAX_STATEMENTS:]


def _is_hypothetical(text: str, start: int, verb: str) -> bool:
    if HYPOTHETICAL.search(text, max(0, start - 60), start) is not None:
        return True
    if verb == ":" and CHECKED.search(text, max(0, start - 60), start) is not None:
        return True
    return verb.startswith("would") and COUNTERFACTUAL.search(text, max(0, start - 120), start) is not None


def _is_cut_off(text: str, statement: Statement) -> bool:
    """Whether the text ends within a formula of the statement."""
    return statement.end >= len(text.rstrip()) and any(
        statement.phrase.count(opening) > statement.phrase.count(closing)
        for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"))
    )


def _is_assertion(text: str, statement: Statement, steps: list[int]) -> bool:
    phrase, _ = strip_filler(statement.phrase)
    if (
        not phrase
        or is_negated(phrase)
        or _is_cut_off(text, statement)
        or text[statement.end : statement.end + 1] == "?"
    ):
        return False
    steps_before = bisect_right(steps, statement.end)
    return not 0 < steps_before < len(steps)
