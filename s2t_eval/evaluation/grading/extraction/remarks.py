"""Detection of remarks that contain no answer: "the answer is correct", "I hope this helps"."""

from __future__ import annotations

import re

ASSESSMENT_START = r"""(?:
    correct|incorrect|right|wrong|valid|invalid|unique|verified|confirmed|consistent|complete|exact|reasonable
    |sensible|plausible|clear|obvious|evident|simple|easy|surprising|interesting|known|given|found|shown|obtained
    |derived|computed|calculated|determined|checked|boxed|below|above|here|as\s+(?:follows|desired|required|expected
    |claimed|needed|stated|above|shown|before)|following|final|done|ready|acceptable|accurate|precise|proven|proved
    |established|justified|meaningful|good|fine|ok|okay|perfect|satisfactory|satisfied|expected|desired|required
    |needed|stated|written|expressed|presented|supported|trivial|immediate|well-defined|well\s+defined|close|similar
    |(?:in\s+)?agree(?:s|ment)|the\s+same|identical|always|already|indeed|in\s+(?:the\s+)?(?:\w+\s+)?(?:form|terms
    |agreement|accordance|line)|based|supposed|meant|going|to\s+\w+|due|from|what|that\s+which|looks?|seems?|makes?
    |checks?|correctly|within|between\s+0\s+and|legitimate|sound|robust|trustworthy|logical|believable|realistic
    |feasible|self-consistent|achievable|attained|guaranteed|certain|sure|uniquely|fully|completely|rigorous
    |nonsense|absurd|too|very|quite|so\s+\w+|not|no\s+longer|never|neither|unlikely|unknown|unclear|(?:in)?dependent\s+(?:of|on)
    |(?:this|that|it|these|those|which|there)(?=\W*$)
)\b"""
"""First words of an assessment; a phrase that begins with one of them is not an answer."""
ASSESSMENT = re.compile(ASSESSMENT_START, re.IGNORECASE | re.VERBOSE)
DESCRIPTION = re.compile(
    r"(?:an?|one|some)\s+(?:\S+\s+){0,3}?(?:integer|number|decimal|fraction|value|expression|letter|result|answer)\b",
    re.IGNORECASE,
)
"""A description of the required answer in a restated problem: "an integer between 0 and 999"."""
SUBJECT = r"""(?:(?:so|thus|hence|therefore|and|also|clearly|indeed|now|finally|we\s+(?:see|conclude)\s+that)
    [\s,]+)*(?:the|this|that|our|my|these|it|which|all|both|everything|they(?!\s+are\s+(?:going|supposed|due|meant|given|known|found|shown)\b))"""
ABOUT_ANSWER = re.compile(
    rf"""[\s*_\#>~-]*(?:
    (?:{SUBJECT})(?:\s+(?:\w+\s+){{0,2}}?(?:answer|solution|result|value|proof|work|reasoning|computation|calculation
        |check|equation|conditions?|one)s?)?\s+(?:is|are|was|were|has\s+been|looks?|seems?|must\s+be|should\s+be)
        \s+(?:\w+ly\s+|also\s+|thus\s+|therefore\s+|indeed\s+)?(?:(?!as\s+follows\s*:|(?:obtained|given|found|derived|computed|calculated|determined|shown)\s+(?:by|from|as|using|to|in)\b){ASSESSMENT_START}|{DESCRIPTION.pattern}|(?:the|our|my)\s+(?:\w+\s+){{0,2}}(?:answer|solution|result|value)\b|(?:the|our)\s+(?:required|desired|requested|sought)\b)
    |(?:{SUBJECT})(?:\s+(?:\w+\s+){{0,2}}?(?:answer|solution|result|value|proof|work)s?)?\s+
        (?:makes?\s+sense|checks?\s+out|holds|works|agrees|matches|completes|confirms|satisf|verif|proves|concludes)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""Start of a sentence that assesses or describes the answer."""
CHECK = r"""(?:(?:wait|now|finally|so|ok(?:ay)?|hmm|but|and)[,.…\s]+)*
    (?:let['’]?s|let\s+(?:us|me)|I(?:['’]ll|\s+(?:should|will|can|must|need\s+to|want\s+to))|we\s+(?:should|could|must|need\s+to))
    \s+(?:quickly\s+|also\s+|now\s+|just\s+)?(?:double[-\s]?check|check|verify|confirm)\b"""
"""Start of a sentence that announces a check of the answer."""
READER_ADDRESS = re.compile(
    rf"""[\s*_\#>~-]*(?:
    I\s+(?:hope|am\s+(?:sure|confident|certain))|hope|let\s+me\s+know|feel\s+free|please|thank|is\s+there|if\s+you(?:['’]d|\s+(?:have|need|want|would|are|still|like))\b|note\s*[*_]*:
    |do\s+you|would\s+you|any\s+(?:other|more)?\s*questions|checks?\b|checking|(?:double[-\s]?)check|verif|to\s+(?:verify|confirm|(?:double[-\s]?)?check)\b
    |we\s+(?:can\s+)?(?:verify|check|double[-\s]?check)|{CHECK}|q\.?\s?e\.?\s?d|done|as\s+(?:desired|required|claimed|expected|needed)
    |note\s+that\b(?!.*(?:=|\b(?:so|thus|hence|therefore|leav\w+|only|must)\b))|good\s+luck|have\s+a
    |\\(?:blacksquare|square|qed)|[□■∎]|\((?-i:[A-Z])[a-z][^()]*$
    )""",
    re.IGNORECASE | re.VERBOSE,
)
CHECK_HEADING = re.compile(
    rf"""[\s*_\#>~-]*(?:{CHECK}[^.\\]{{0,40}}|(?:to\s+)?(?:(?:double[-\s]?)?check|verify|confirm)\b[^.\d]{{0,40}}|checking(?:\s+(?:the|our)\s+\w+)?|verification|double[-\s]?check):?[\s*_]*:?[\s*_]*""",
    re.IGNORECASE | re.VERBOSE,
)
"""A heading or an introduction, after which the answer is checked."""
CONCLUDING = re.compile(
    r"[\s*_#>~-]*(?:so|thus|hence|therefore|however|final|answer|the\s+(?:final|correct|answer)|in\s+conclusion|conclusion|consequently)\b",
    re.I,
)
FILLER = re.compile(
    r"""(?:[\s,:]*(?:therefore|thus|hence|then|so|now|indeed|clearly|obviously|simply|just|only|exactly|precisely
    |definitely|certainly|surely|probably|most\s+likely|likely|also|still|again|actually|in\s+fact|of\s+course|finally
    |ultimately|equal\s+to|given\s+by|found\s+to\s+be|as\s+follows(?=\s*:)|a\s+total\s+of|in\s+total|overall)\b(?:[\s,:]+|$))+""",
    re.IGNORECASE | re.VERBOSE,
)
CORRECTION = re.compile(r"not\s+[^.;:\n]{1,40}?[\s,]but\s+(?:rather\s+|instead\s+)?(?=[$\\\d(\[*A-J-])")
"""A negated answer that is followed by its correction: `not B but C`."""
APPROXIMATION = re.compile(
    r"[\s,:]*(?:approximately|about|roughly|around|nearly|almost|circa|ca\.|≈|~|\\approx|\\sim)\s*", re.I
)
NEGATION = re.compile(r"(?:not|neither|never|no\s+longer|unlikely|isn['’]t|nothing)\b", re.I)
EXPLANATION = re.compile(
    r"""(?:[,;]|\s[-—–]+\s|\s*\()?\s*(?:\b(?:because|since|due\s+to|given\s+that|(?<=,\s)given\s+(?:an?|the|its|our)|as\s+(?=\w+\s)|as\s+(?=[\d$\\])|where(?!\s+(?:(?:the|its)\s+(?:\w+\s+)?value\s+is|it\s+(?:is|equals))\b)|that\s+is(?=,)|which(?!\s+(?:leaves|gives|makes|means|equals|yields|comes|brings|results|adds|totals|gets|costs|leads|implies|solves|simplifies|factors|reduces|becomes|evaluates|shows|is\s+(?:equal\s+to\s+|equivalent\s+to\s+)?\$?\d[\d.,]*\s?(?:%|percent)\W*$))
    |by\s+(?:\w+ing|elimination|the|definition)|thanks\s+to|considering|following\s+from|rather\s+than|instead\s+of|and\s+not
    |but\s+not|not|namely|from\s+which|obtained|attained|achieved|and\s+(?:it|this|equality)\s+(?:is\s+(?:reached|attained|achieved|obtained)|occurs|holds)|when|at\s+which|for\s+the\s+following)\b|\bi\.e\.|\bor\s+(?:approximately|about|roughly|around)\b|(?<=\()(?:or|about|approx\w*)\b|∵|\\because)|\s+[-—–]\s+(?=[A-Za-z]{2,}\s)""",
    re.IGNORECASE | re.VERBOSE,
)
"""Start of an explanation after an answer."""


def is_about_answer(sentence: str) -> bool:
    """Whether a sentence assesses or describes the answer without stating one."""
    return ABOUT_ANSWER.match(sentence) is not None


def is_remark(sentence: str) -> bool:
    """Whether a sentence assesses the answer, announces a check of it, or addresses the reader."""
    return is_about_answer(sentence) or READER_ADDRESS.match(sentence) is not None


def begins_check(sentence: str, mark: str) -> bool:
    """Whether a sentence with the mark at its end is the heading of a check: "Verification:"."""
    return CHECK_HEADING.fullmatch(sentence) is not None and (
        sentence.rstrip("*_ ").endswith(":") or mark == "\n"
    )


def concludes(sentence: str) -> bool:
    """Whether a sentence draws a conclusion, which ends a check: "So the answer is 5"."""
    return CONCLUDING.match(sentence) is not None


def is_assessment(phrase: str) -> bool:
    """Whether the phrase after "the answer is" assesses or describes it: "correct", "an integer"."""
    return ASSESSMENT.match(phrase) is not None or DESCRIPTION.match(phrase) is not None


def strip_filler(phrase: str) -> tuple[str, bool]:
    """Return the phrase without leading adverbs, and whether they mark it as an approximation.

    Example:
        >>> strip_filler("therefore about 12")
        ('12', True)
    """
    if correction := CORRECTION.match(phrase):
        phrase = phrase[correction.end() :]
    filler = FILLER.match(phrase)
    phrase = phrase[filler.end() :] if filler else phrase
    approximation = APPROXIMATION.match(phrase)
    if approximation:
        return phrase[approximation.end() :], True
    return phrase, False


def is_negated(phrase: str) -> bool:
    """Whether a phrase begins with a negation, so that it does not state the answer."""
    return NEGATION.match(phrase) is not None
