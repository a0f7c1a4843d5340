"""Where in a text its answer stands: boxes, statements, the last line."""

from __future__ import annotations

import re

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{)|\\boxed\s+(?=[^\s{])")
STATEMENT = re.compile(
    r"""(?:final|correct|right|best|my)?\s*\b(?:answer|result|option|choice|solution)\b
        (?:\s+(?:to|for)\s+(?:the|this)\s+(?:question|problem|exercise))?
        [\s*_]*(?:\b(?:is|are|equals|would\s+be|must\s+be|should\s+be|will\s+be|=)(?![a-z])|:)
        (?![\s*_:]*not\b)[\s*_:]*""",
    re.IGNORECASE | re.VERBOSE,
)
"""What introduces an answer; a denied one ("the answer is not 5") introduces nothing."""
HASHES = re.compile(r"^\s*#{4}\s*(?=\S)", re.MULTILINE)
MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[^\s.])[.!?](?=\s|$)|\n")
MARKS = " \t\r\n*_`\"'"


def boxes(text: str) -> list[str]:
    """Contents of the boxes that are closed and not empty, in their order."""
    found = []
    for match in BOX.finditer(text):
        start = match.end()
        if text[start : start + 1] == "{":
            end = closing_brace(text, start)
            content = text[start + 1 : end] if end is not None else ""
        else:
            content = re.split(r"[\s$]", text[start:], maxsplit=1)[0].rstrip(".,;")
        if content.strip(" $~"):
            found.append(content.strip())
    return found


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at `start`; escaped braces do not count."""
    depth, place = 0, start
    while place < len(text):
        if text[place] == "\\":
            place += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
        place += 1
    return None


def statements(text: str) -> list[str]:
    """What follows "the answer is", "Answer:" or "####", to the end of the sentence, in their order."""
    places = sorted({m.end() for pattern in (STATEMENT, HASHES) for m in pattern.finditer(text)})
    found = []
    for place in places:
        rest = text[place:].lstrip(MARKS)
        if math := MATH.match(rest):
            found.append(segment(math))
            continue
        said = SENTENCE_END.split(rest, maxsplit=1)[0].strip(MARKS)
        if said:
            found.append(said)
    return found


def last_sentence(text: str) -> str:
    """The last sentence of the last line that says something."""
    sentences = [said.strip(MARKS) for said in SENTENCE_END.split(text)]
    return next((said for said in reversed(sentences) if said.strip("$[]\\(). ")), "")


def math_segments(text: str) -> list[str]:
    """What stands between dollars or LaTeX's own brackets."""
    return [segment(match) for match in MATH.finditer(text)]


def segment(match: re.Match[str]) -> str:
    """The inside of a match of `MATH`."""
    return next(group for group in match.groups() if group is not None).strip()
