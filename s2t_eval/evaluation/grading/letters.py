"""The letter of a multiple-choice answer: where one is given, never a letter in passing.

All letters are read alike. What tells the article "a" and the pronoun "I" from an answer is what
follows: an answer ends there, or goes on with a mark or a reason.
"""

from __future__ import annotations

import re
from itertools import chain

from s2t_eval.evaluation.grading.remarks import is_denied, is_remark, without_filler
from s2t_eval.evaluation.grading.reply import Reply
from s2t_eval.evaluation.grading.text import MARKS, lines

LETTERS = "ABCDEFGHIJ"
LONGEST = 2000
"""Characters at the end of a sentence that may choose a letter: a sentence without end is longer."""
DRESS = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|mathcal|bm|boldsymbol|boxed|fbox|underline|mbox|rm|bf|large|Large)\s*(?=[{\s])"
    r"|\\[()\[\],;:! ]|\\(?:left|right|q?quad)(?![a-z])|[${}`\"“”~*]|(?<![A-Za-z\d}])_+|_+(?=[\s.)\]]|$)|\\\\"
)
QUOTED = re.compile(r"['‘](\(?[A-Ja-j]\)?)['’](?![A-Za-z])")
LABEL = (
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final|answer)\s+)*"
    r"(?:option|choice|answers?|letter|statement)\s*(?:is\s*)?[:#]?\s*)?"
)
MARKED = re.compile(
    rf"\s*{LABEL}(?:[(\[<（【]\s*([A-Ja-j])\s*[)\]>）】]|(?<![A-Za-z])([A-Ja-j])\s?\))(?![\w^_])", re.I
)
BARE = re.compile(
    rf"\s*{LABEL}((?-i:[A-Ja-j]))(?![\w\\^+/=({{[<>|&'’°%-])(?!\s*[=^+<>|\\*/\[{{≈~_]|\s*\((?![a-z]{{2,}}\s))(?!\s*[-–—]\s*(?:\d|[a-z]\b))",
    re.I,
)
DASH = re.compile(r"\s+[-—–]+\s+\S")
END = re.compile(r"[\s.!,;:)\]。]*$")
SLASHED = re.compile(rf"\s*{LABEL}\(?[A-J]\)?(?:\s*/\s*\(?[A-J]\)?)+(?![\w/^(])")
OPTION_TEXT = re.compile(r"\s*[.:)]\s+(?![A-J]\.(?:\s|$))\S|\s*\n")
REASON = re.compile(
    r"""\s*(?:[,;—–(]|--|because\b|since\b|as\b|due\b|by\b|which\b|with\b|for\b|given\b|based\b|where\b|so\b|according\b|per\b|via\b|after\b|on\b
    |rather\b|not\b|instead\b|over\b|and\s+not\b|but\b|thanks\b|considering\b|from\b|according\b|here\b|if\b|in\s+(?:this|the)\b|\.)""",
    re.IGNORECASE | re.VERBOSE,
)
SEVERAL = re.compile(
    r"""\s*(?:[,;/&+]|(?:,\s*)?(?:and|or)\b(?:\s*/\s*or\b)?|to\b)\s*(?:(?:and|or)\s+)?(?:(?:option|choice|answer)\s+)?
    (?:[(\[]\s*[A-J]\s*[)\]]|[A-J](?![\w'’^=+]))(?!\s+(?:is|are|was|were|would|fails?|does|do|cannot|can|ha[sd])\b)""",
    re.VERBOSE,
)
SPECIES = re.compile(
    r"""\s*\.\s*(?:coli|difficile|elegans|pylori|aureus|albicans|subtilis|cerevisiae|melanogaster|thaliana|falciparum
    |botulinum|tetani|perfringens|gondii|burgdorferi|tuberculosis|influenzae|pneumoniae|anthracis|cereus|fragilis|faecalis
    |faecium|sapiens|erectus|habilis|lupus|histolytica|lamblia|intestinalis|diphtheriae|jejuni|trachomatis|psittaci
    |burnetii|henselae|pertussis|abortus|baumannii|fumigatus|flavus|niger|neoformans|immitis|dermatitidis|capsulatum
    |granulosus|vermicularis|lumbricoides|duodenale|gallus|rerio|discoideum|nidulans|crassa|reinhardtii|glabrata
    |auris|vaginalis|mellifera|aegypti|gambiae|robusta|arabica|afarensis|africanus|floridanus|domestica|taurus
    |hominis|equina|japonica|gorilla|familiaris|catus|caballus|diff|g\.|e\.|a\.)(?![a-z])""",
    re.VERBOSE,
)
"""What makes `C. difficile` the name of a species, or `e.g.` an abbreviation, and no choice."""
INITIAL = re.compile(r"\s*\.\s*[A-Z]\.")
ARTICLE = re.compile(r"[aAI]$")
TAKEN_BACK = re.compile(
    r"[\s)\].,*]*(?:is|was|would\s+be|seems)\s+(?:wrong|incorrect|not\b|false|tempting|out\b)|[\s)\].,*]*(?:isn|wasn|can)['’]?t\b",
    re.I,
)
NAMED = re.compile(
    r"(?:(?:option|choice|answer|letter)\s*[(\[<]?\s*((?-i:[A-J]))(?![\w'’^=+(-])\s*[)\]>]?|[(\[]\s*((?-i:[A-J]))\s*[)\]])",
    re.I,
)
CHOSEN = re.compile(
    r"""(?:\b(?:
        (?:it|this|that|which|he|answer)(?:\s+(?:is|must\s+be|has\s+to\s+be|should\s+be|would\s+be|can\s+only\s+be)|['’]s)
        |has\s+to\s+be|must\s+be
        |(?:I|we|I['’](?:d|ll)|we['’](?:d|ll)|would|will)\s+(?:\w+\s+)?(?:choose|select|pick|go\s+with|go\s+for|say|answer)
        |(?:correspond(?:s|ing)?|match(?:es|ing)?|lead(?:s|ing)?|point(?:s|ing)?|equal|agree(?:s|ing)?|consistent)(?:\s+(?:to|with))?
        |select(?:ing)?|choos(?:e|ing)|pick(?:ing)?|mark(?:ing)?|leav(?:es|ing)(?:\s+us)?(?:\s+with)?(?:\s+only)?
        |(?:closest|nearest|best|correct|right|most\s+\w+)(?:\s+(?!not\b)\w+){0,3}?\s+(?:is|would\s+be|must\s+be)
        |let['’]?s\s+(?:go\s+with|choose|pick|select)
        |(?:statement|exception|claim|item|one|conclusion|description|sentence)(?:\s+(?!not\b)\w+){0,4}?\s+(?:is|would\s+be|must\s+be)
        |is(?=\s+\([A-J]\)\W*$)
        |namely|therefore|thus|hence|so(?!\s+is\b)|^only
    )\b|\bi\.e\.)\s*[,:]?\s*(?:is\s+)?(?:the\s+)?(?:(?:correct|right|best)\s+)?""",
    re.IGNORECASE | re.VERBOSE,
)
JUDGED = re.compile(
    r"""(?:is|must\s+be|has\s+to\s+be|should\s+be|would\s+be|are(?:\s+(?:both|all))?|seems(?:\s+to\s+be)?|appears\s+to\s+be|looks)\s+(?:\w+ly\s+)?(?:the\s+)?(?:only\s+)?(?:(?:most|single|one)\s+)?
    (?:correct|right|best|true|appropriate|accurate|intended|suitable|likely)\b(?!\s+(?:if|when|only|that|for\s+\w+\s+but))""",
    re.IGNORECASE | re.VERBOSE,
)
LAST_LETTER = re.compile(r"(?:^|[\s,:;])[(\[]?([A-J])[)\]]?\s*$")
LABELLED = re.compile(
    r"(?:[(\[]([A-J])[)\]]|\b(?:option|choice|answer|statement)\s+[(\[]?((?-i:[A-J]))[)\]]?(?![\w'’]))(?:[.:)]?\s+[^.,;:()]{1,60})?\s*$",
    re.I,
)
"""A letter before `is correct`, with its option's text at most."""
OPTION_DOT = re.compile(r"(?:^|[\s*(])[A-J]\.\s[^.]*$")
ALSO = re.compile(
    r"(?:^|[\s(])((?-i:[A-J]))[)\]]?\s*(?:,|and|or|&|/)\s*(?:(?:option|choice)\s+)?[(\[]?$", re.I
)
SPEAKER = re.compile(
    r"^(?:\d{1,2}[.)]\s|(?:assistant|response|output|model|bot|AI)\s?:\s*|A\s?:\s+(?=\(?[A-J]\)?(?:[.:)\s]|$)))",
    re.I,
)
"""What may stand before a letter that is a line: a number, who speaks, `A:` behind `Q:`."""
NEITHER = re.compile(r"\bneither\b", re.I)
SUPPOSED = re.compile(r"\b(?:if|whether|suppose|assum\w*|unless|why|that)\b[^.,;:\n]*$", re.I)


def read_letter(reply: Reply) -> str | None:
    """The last letter that a box or a statement names, or else the one that the reply is or ends with.

    Several letters at once are an answer, and not a letter.
    """
    boxed = [(box.start, _boxed(box.inside)) for box in reply.boxes]
    stated = [(item.start, _stated(item.line)) for item in reply.statements]
    judged = [(match_start, letter) for match_start, letter in _judged(reply.text)]
    given = [
        item for item in sorted(chain(boxed, stated, judged), key=lambda item: item[0]) if item[1] is not None
    ]
    if given:
        return given[-1][1]
    return _alone(reply.text) or _chosen(reply)


def _boxed(inside: str) -> str | None:
    """The letter of a box, with its option's text at most; a formula that begins with a letter is none."""
    return _leading(_undressed(inside), boxed=True)


def _stated(line: str) -> str | None:
    if "\\boxed" in line:
        return None  # the box is read by itself
    line, _ = without_filler(_undressed(line))
    if is_denied(line):
        return None
    line = re.sub(r"^(?:both|either|only|all\s+of)\s+", "", line)
    return _leading(line, boxed=False) or _named_later(line)


def _leading(line: str, boxed: bool) -> str | None:
    """The letter that a line begins with, if what follows lets it be an answer."""
    if (slashed := SLASHED.match(line)) is not None:
        return " ".join(slashed[0].split())
    found = MARKED.match(line)
    if found is None:
        found = BARE.match(line)
        if found is None or not _may_follow(line, found, boxed):
            return None
    rest = line[found.end() :]
    if TAKEN_BACK.match(rest):
        return None
    letter = next(group for group in found.groups() if group).upper()
    if SEVERAL.match(rest) and not (boxed and re.match(r"\s*,\s*[A-J]\s+[a-z]", rest)):
        return " ".join(line.split())[:60]
    return letter


def _may_follow(line: str, found: re.Match[str], boxed: bool) -> bool:
    """Whether a bare letter is an answer, by what stands behind it."""
    rest = line[found.end() :]
    if SPECIES.match(rest) or INITIAL.match(rest):
        return False
    if END.match(rest) or SEVERAL.match(rest):
        return True
    if re.match(r"\s*[.:)]\s*\S|\s*\n", rest) and (OPTION_TEXT.match(rest) or rest[:1] == ")"):
        return True
    if DASH.match(rest):
        return True
    return bool(not boxed and REASON.match(rest)) or bool(
        boxed and re.match(r"\s*(?:[,;]|because|since)", rest)
    )


def _named_later(line: str) -> str | None:
    """The one letter that a stated value is followed by: `42, which is option (C)`, `42 (C)`."""
    sentence = re.split(r"(?<=[^\s.])[.!?](?=\s|$)", line, maxsplit=1)[0]
    if re.match(r"(?:I|we|you|they)\b", sentence) or not sentence.strip():
        return None
    letters = [
        next(group for group in found.groups() if group)
        for found in NAMED.finditer(sentence)
        if not TAKEN_BACK.match(sentence, found.end())
        and not re.search(r"\b(?:not|than|of|like|unlike)\s+$", sentence[: found.start()])
    ]
    if not letters:
        return None
    return letters[0] if len(set(letters)) == 1 else ", ".join(dict.fromkeys(letters))


def _judged(text: str) -> list[tuple[int, str]]:
    """Letters that are called the answer: `(C) is the correct answer`, `Option C must be right`."""
    found = []
    for match in JUDGED.finditer(text):
        line = text[max(0, match.start() - 120) : match.start()].rsplit("\n", 1)[-1]
        before = _undressed(
            re.split(r"(?<=[^\s.][.!?])\s", line)[-1] if not OPTION_DOT.search(line) else line
        )
        asked = "?" in text[match.end() : match.end() + 60].split("\n")[0].split(".")[0]
        letter = LAST_LETTER.search(before) or LABELLED.search(before)
        if letter is None or asked or SUPPOSED.search(before) or NEITHER.search(before):
            continue
        name = next(group for group in letter.groups() if group).upper()
        others = ALSO.search(before[: letter.start(letter.lastindex or 0)])
        found.append((match.start(), f"{others[1]}, {name}" if others else name))
    return found


def _alone(text: str) -> str | None:
    """The letter that is a line of its own, the first or the last, where no other line has another."""
    said = [_undressed(SPEAKER.sub("", line.inside.strip(MARKS + "#>-=→⇒∴"))) for line in lines(text)]
    letters = [_own_line(line) for line in said]
    if not said or len({letter for letter in letters if letter}) != 1:
        return None
    return letters[0] or letters[-1]


def _own_line(line: str) -> str | None:
    letter = _leading(without_filler(line)[0], boxed=True)
    if letter is None or ARTICLE.match(line) is None:
        return letter
    return letter


def _chosen(reply: Reply) -> str | None:
    """The letter that the last sentence chooses: `So it has to be C`, `which matches option (C)`."""
    for part in reversed(reply.sentences):
        said = _undressed(part.inside[-LONGEST:])
        for found in reversed(list(CHOSEN.finditer(said))):
            rest = said[found.end() :]
            if not is_denied(rest) and (letter := _leading(rest, boxed=False)) is not None:
                return letter
        if not is_remark(part.inside):
            return None
    return None


def _undressed(text: str) -> str:
    """A text without markup around its words and letters."""
    text = QUOTED.sub(r"\1", text)
    previous = None
    while previous != text:
        previous, text = text, DRESS.sub(lambda m: " " if m[0] in ("~", r"\ ", r"\,") else "", text)
    return re.sub(r"\(\s*\(([A-Ja-j])\)\s*\)", r"(\1)", text).strip()
