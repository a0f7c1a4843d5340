"""The letter of an option at the start of a text, distinguished from other letters by the text after it.

All letters are treated alike. The article "a" and the pronoun "I" are distinguished from answers by the
text after them: after an answer the text ends or continues with punctuation, an option's text or a reason.
"""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.spans import ASIAN

CHOICE_LABEL = (
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final|answer)\s+)*"
    r"(?:option|choice|answers?|letter|statement|letra|opci[oó]n|op[cç][aã]o|alternativa|réponse|respuesta|resposta|antwort)\s*(?:is\s*)?[:#]?\s*)?"
)
BRACKETED_LETTER = re.compile(
    rf"\s*{CHOICE_LABEL}(?:[(\[<（【]\s*([A-Ja-j])\s*[)\]>）】]|(?<![A-Za-z])([A-Ja-j])\s?\))(?![\w^_])"
    r"|\s*(?:the\s+)?(?:option|choice)\s+((?-i:[A-J]))(?=\s+\()",
    re.I,
)
OPENED_LETTER = re.compile(
    rf"\s*{CHOICE_LABEL}[(\[]\s*((?-i:[A-J]))(?:(?=\s*$)|(?=\s?[.:](?:\s|[)\]]|$)|\s+[-–—]\s+[a-z]{{2}})(?![^()\n]{{0,400}}[,;]\s*[A-J]\s?[.:]))",
    re.I,
)
"""A letter in one bracket with its option's text, `(D. as they recover)`, or at the end of the text."""
OPTION_BEHIND_DASH = (
    r"\s+(?:—+\s+\d|[-–]+\s+\d[\d.,/]{0,30}(?:\s?[°%]|\s?\\[a-zA-Z]|\s{1,3}[a-zA-Z]{2})"
    r"|[-–—]+\s+an?\s+[a-z]{2})"
)
"""A dash with spaces and the option's text, `A - 25,000 ergs`, in contrast to the difference `A - 2`."""
BARE_LETTER = re.compile(
    rf"\s*{CHOICE_LABEL}((?-i:[A-Ja-j]))(?![\w\\^+/=({{[<>|&'’°%-])(?!\s*[=^+<>|\\*/\[{{≈~_]|\s+\(\s*[a-z]\s*[,)])(?:(?={OPTION_BEHIND_DASH})|(?!\s*[-–—]\s*(?:\d|[a-z]\b)))",
    re.I,
)
OPTION_TEXT_IN_BRACKETS = re.compile(
    r"\s+\((?:[^()]|\([^()]*\))+\)(?=\s*(?:[.,;:!?—–]|$|(?:because|since|as|which|by|due|for|with|not|rather)\b))"
)
"""The rest of `B (mitosis)`, in contrast to `a (positive) integer`."""
DASHED_TEXT = re.compile(r"\s+[-—–]+\s+\S")
ANSWER_END = re.compile(rf"[\s.!,;:)\]。]*(?:{ASIAN}.*)?$", re.S)
SLASH_LIST = re.compile(rf"\s*{CHOICE_LABEL}\(?[A-J]\)?(?:\s*/\s*\(?[A-J]\)?)+(?![\w/^(])")
OPTION_TEXT = re.compile(r"\s*[.:)]\s+(?![A-J]\.(?:\s|$))\S|\s*\n")
REASON = re.compile(
    r"""\s*(?:[,;—–]|--|because\b|since\b|as\b|due\b|by\b|which\b|with\b|for\b|given\b|based\b|where\b|so\b|according\b|per\b|via\b|after\b|on\b
    |rather\b|not\b|instead\b|over\b|and\s+not\b|but\b|thanks\b|considering\b|from\b|according\b|here\b|if\b|in\s+(?:this|the)\b|\.)""",
    re.IGNORECASE | re.VERBOSE,
)
PRONOUN = r"I\s+(?!(?:and|or|are|is|because|since|as|for)\b)[a-z]"
"""`I` with its verb: `(C), I believe`."""
FURTHER_LETTER = re.compile(
    rf"""\s*(?:[,;/&+]|(?:,\s*)?(?:and|or)\b(?:\s*/\s*or\b)?|to\b)\s*(?:(?:and|or)\s+)?(?:(?:option|choice|answer)\s+)?
    (?:[(\[]\s*[A-J]\s*[)\]]|(?!{PRONOUN})[A-J](?![\w'’^=+]))(?!\s+(?:is|are|was|were|would|fails?|does|do|cannot|can|ha[sd])\b)""",
    re.VERBOSE,
)
SPECIES = re.compile(
    r"""\s*\.\s*(?:coli|difficile|elegans|pylori|aureus|albicans|subtilis|cerevisiae|melanogaster|thaliana|falciparum
    |botulinum|tetani|perfringens|gondii|burgdorferi|tuberculosis|influenzae|pneumoniae|anthracis|cereus|fragilis|faecalis
    |faecium|sapiens|erectus|habilis|lupus|histolytica|lamblia|intestinalis|diphtheriae|jejuni|trachomatis|psittaci
    |burnetii|henselae|pertussis|abortus|baumannii|fumigatus|flavus|niger|neoformans|immitis|dermatitidis|capsulatum
    |granulosus|vermicularis|lumbricoides|duodenale|gallus|rerio|discoideum|nidulans|crassa|reinhardtii|glabrata
    |auris|vaginalis|mellifera|aegypti|gambiae|robusta|arabica|afarensis|africanus|floridanus|domestica|taurus
    |hominis|equina|japonica|gorilla|familiaris|catus|caballus|diff|g\.|e\.|a\.|m\.)(?![a-z])""",
    re.VERBOSE,
)
"""Continuations that make a letter part of a species name (`C. difficile`) or an abbreviation (`e.g.`)."""
INITIAL = re.compile(r"\s*\.\s*[A-Z]\.")
RETRACTION = re.compile(
    r"[\s)\].,*]*(?:is|was|would\s+be|seems)\s+(?:wrong|incorrect|not\b|false|tempting|out\b)|[\s)\].,*]*(?:(?:isn|wasn|can)['’]?t|can\s?not)\b",
    re.I,
)
OTHER_LETTER = re.compile(
    r"\s*[,(]?\s*(?:rather\s+than|not|over|instead\s+of)\s+(?:(?:option|choice)\s+)?[(\[]?[A-J]\b"
)
"""The rest of `G rather than B`."""
REJECTED_LETTERS = re.compile(
    r"(?:\s*(?:[,/&]|(?:,\s*)?(?:and|or)\b)\s*(?:(?:and|or)\s+)?[(\[]?[A-J](?![\w'’])[)\]]?)+\s+(?:\w+\s+)?"
    r"(?:is|are|were|do|does|can|cannot|could|would|have|seem)\b(?!\s+(?:(?:both|all|\w+ly)\s+)*(?:be\s+)?(?:the\s+)?(?:correct|right|true|valid|answers?)\b)"
)
"""The rest of `A, B and D are wrong`."""
OPTION_TEXT_AFTER_COMMA = re.compile(r"\s*,\s*[A-J]\s+(?!(?:and|or)\b)[a-z]")


def leading_letter(line: str, is_boxed: bool) -> str | None:
    """The letter at the start of a line, if the text after it is compatible with an answer."""
    if (slashed := SLASH_LIST.match(line)) is not None:
        return " ".join(slashed[0].split())
    match = BRACKETED_LETTER.match(line) or OPENED_LETTER.match(line)
    if match is not None and match.re is OPENED_LETTER and _is_abbreviation(line[match.end() :]):
        return None
    if match is None:
        match = BARE_LETTER.match(line)
        if match is None or not _is_answer_letter(line, match, is_boxed):
            return None
    rest = line[match.end() :]
    if RETRACTION.match(rest):
        return None
    letter = next(group for group in match.groups() if group).upper()
    if REJECTED_LETTERS.match(rest):
        return None
    if FURTHER_LETTER.match(rest) and not (is_boxed and OPTION_TEXT_AFTER_COMMA.match(rest)):
        return " ".join(line.split())[:60]
    return letter


def _is_answer_letter(line: str, match: re.Match[str], is_boxed: bool) -> bool:
    """Whether the text after a letter without brackets is compatible with an answer."""
    rest = line[match.end() :]
    if _is_abbreviation(rest):
        return False
    if ANSWER_END.match(rest) or FURTHER_LETTER.match(rest) or OPTION_TEXT_IN_BRACKETS.match(rest):
        return True
    if re.match(r"\s*[.:)]\s*\S|\s*\n", rest) and (OPTION_TEXT.match(rest) or rest[:1] == ")"):
        return True
    if DASHED_TEXT.match(rest) or OTHER_LETTER.match(rest):
        return True
    return bool(not is_boxed and REASON.match(rest)) or bool(
        is_boxed and re.match(r"\s*(?:[,;]|because|since)", rest)
    )


def _is_abbreviation(rest: str) -> bool:
    """Whether the text behind a letter makes it part of a species name or the initial of a name."""
    initial = INITIAL.match(rest)
    is_initial = initial is not None and SPECIES.match(rest, initial.end() - 1) is None  # `E. E. coli`
    return is_initial or SPECIES.match(rest) is not None
