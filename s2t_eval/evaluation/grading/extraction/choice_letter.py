"""Extraction of the letter of a multiple-choice answer.

All letters are treated alike. The article "a" and the pronoun "I" are distinguished from answers by the
text after them: after an answer the text ends or continues with punctuation, an option's text or a reason.
"""

from __future__ import annotations

import re
from itertools import chain

from s2t_eval.evaluation.grading.extraction.called_correct import (
    CALLED_CORRECT,
    CalledLetter,
    letters_called_correct,
)
from s2t_eval.evaluation.grading.extraction.letter_markup import strip_markup
from s2t_eval.evaluation.grading.extraction.remarks import is_negated, is_remark, strip_filler
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import ASIAN, MARKUP_CHARACTERS, Span, nonempty_lines
from s2t_eval.evaluation.grading.extraction.statements import COUNTERFACTUAL, OPINION_OF_OTHERS, Statement

MAX_SENTENCE_LENGTH = 2000
"""Characters at the end of the last sentence that are searched; degenerate text has unbounded sentences."""
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
FURTHER_OPTION = re.compile(r"^\W*[A-J][:.)]\s.*[.;,]\s+\(?[A-J][:)]\s")
"""A line that lists several options: `A: the first law. B: the second law.`"""
OTHER_OPTIONS = re.compile(
    r"^[\s*#>]*(?:why\s+(?:not\s+)?|as\s+for\s+)?(?:the\s+)?(?:other|remaining|incorrect|wrong)\s+(?:options|choices|answers|ones)\b",
    re.I | re.M,
)
"""The heading of a discussion of the options that were not chosen."""
OTHER_LETTER = re.compile(
    r"\s*[,(]?\s*(?:rather\s+than|not|over|instead\s+of)\s+(?:(?:option|choice)\s+)?[(\[]?[A-J]\b"
)
"""The rest of `G rather than B`."""
REJECTED_LETTERS = re.compile(
    r"(?:\s*(?:[,/&]|(?:,\s*)?(?:and|or)\b)\s*(?:(?:and|or)\s+)?[(\[]?[A-J](?![\w'’])[)\]]?)+\s+(?:\w+\s+)?"
    r"(?:is|are|were|do|does|can|cannot|could|would|have|seem)\b(?!\s+(?:(?:both|all|\w+ly)\s+)*(?:be\s+)?(?:the\s+)?(?:correct|right|true|valid|answers?)\b)"
)
"""The rest of `A, B and D are wrong`."""
OPTION_LABEL = re.compile(
    r"^[\s>#*|_-]*(?:\d{1,2}[.)]\s+)?(?:(?:[Oo]ption|[Cc]hoice)\s+)?[(\[]?([A-J])\s?[)\].:|*]", re.M
)
VERDICT_END = r"(?:\W*$|[.,;:]|\s+(?:because|since|as)\b)"
NAMED_CHOICE = r"(?:answer|choice|option|one)"
OPTION_VERDICT = re.compile(
    r"^[\s>#*|_-]*(?:\d{1,2}[.)]\s+)?(?:(?:option|choice)\s+)?[(\[]?(?-i:([A-J]))[)\].:|*\s–—-]+"
    r"(?:(?:(?P<subject>this|it)\s+(?:\w+\s+)?)?(?:is\s+)?"
    r"|(?P<described>[^\n]{1,60}?(?:\s[-–—:(]|:|\.(?=\s+(?:this|it)\s))\W{0,4})(?:(?:this|it)\s+(?:\w+\s+)?is\s+)?)"
    rf"(?:(?P<affirmed>(?:the\s+)?(?:correct|right|best)\s+{NAMED_CHOICE}|the\s+(?:correct|right|best)(?={VERDICT_END})|correct|right|true|yes)"
    rf"|(?P<rejected>(?:(?:an?|the)\s+)?(?:incorrect|wrong)(?:\s+{NAMED_CHOICE})?|not\s+(?:the\s+)?(?:correct|right|best)(?:\s+{NAMED_CHOICE})?|(?<=\bis\s)false)"
    rf"|false|no)\b(?(described)(?={VERDICT_END}))",
    re.I | re.M,
)
"""A line of a list that judges every option: `- **B**: Correct.`, `B. Meiosis: this is the right answer.`"""
VERDICT_ENDS = re.compile(VERDICT_END)
OPTION_TEXT_AFTER_COMMA = re.compile(r"\s*,\s*[A-J]\s+(?!(?:and|or)\b)[a-z]")
OPTION_MENTION = re.compile(
    r"(?:(?:option|choice|answer|letter)\s*[(\[<]?\s*((?-i:[A-J]))(?![\w'’^=+(-])\s*[)\]>]?|[(\[]\s*((?-i:[A-J]))\s*[)\]])",
    re.I,
)
CHOICE_PHRASE = re.compile(
    r"""(?:\b(?:
        (?:it|this|that|which|he|answer)(?:\s+(?:is|must\s+be|has\s+to\s+be|should\s+be|would\s+be|can\s+only\s+be)|['’]s)
        |^\W*(?:(?:so|thus|hence|therefore)\W+)?(?:has\s+to\s+be|must\s+be|select|choose|pick|mark)
        |(?:you|one)\s+(?:should|must|would|can)\s+(?:select|choose|pick|mark)
        |(?:I|we|I['’](?:d|ll)|we['’](?:d|ll)|would|will)\s+(?:\w+\s+)?(?:choose|select|pick|go\s+with|go\s+for|say|answer|meant?)
        |(?:I|we)(?:['’](?:m|re)|\s+am|\s+are)\s+going\s+(?:with|for)
        |(?:correspond(?:s|ing)?|match(?:es|ing)?|agree(?:s|ing)?|align(?:s|ed|ing)?|consistent)(?:\s+(?:to|with|by|in))?|(?:closest|nearest)\s+to(?!\s+\d)
        |(?P<weak>(?:lead(?:s|ing)?|points|pointing|equal|fit(?:s|ting)?|describ(?:es|ed|ing)|captur(?:es|ed|ing)|given)(?:\s+(?:to|with|by|in|as))?|has\s+to\s+be|must\s+be|select(?:ing)?|choos(?:e|ing)|pick(?:ing)?|mark(?:ing)?)
        |leav(?:es|ing)(?:\s+us)?(?:\s+with)?(?:\s+only)?|gives?(?:\s+us)?(?=\s+(?:option|choice|answer)\b)
        |left\s+with(?:\s+only)?|by\s+(?:the\s+)?(?:process\s+of\s+)?elimination
        |(?:closest|nearest|best|correct|right|most\s+\w+)(?:\s+(?!not\b)(?:\w+|\d+\.\d+)){0,3}?\s+(?:is|would\s+be|must\s+be)
        |let['’]?s\s+(?:go\s+with|choose|pick|select)
        |(?:statement|exception|claim|item|one|conclusion|description|sentence)(?:\s+(?!not\b)\w+){0,4}?\s+(?:is|would\s+be|must\s+be)(?=[\s:*(\[]*(?:(?:option|choice|statement)\s+)?[(\[]?(?-i:[A-J])\b)
        |(?:statement|exception|option|choice)(?=\s*:|\s+[-–—]\s)
        |is(?=\s+\([A-J]\)\W*$)|(?P<named>is)(?=\s+\((?-i:[A-J])\)\s+(?!(?:which|is|are|or|and)\b)[\w$\\.]+(?![^()]*\([A-J]\)))
        |namely|therefore|thus|hence|so(?!\s+is\b)|^only
    )\b|\bi\.e\.|^(?:(?!\b(?:option|choice)\b).)*[,:(](?=\s*(?:option|choice)\s+[(\[]?[A-J][)\]]?\W*$)|(?:→|[-=]+>|⇒|⟹)(?=\s*(?:\(|option\b|choice\b|answer\b))|(?P<arrow>→|[-=]+>|⇒|⟹)(?=\s*(?-i:[A-J])\W*$))""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words before a chosen letter. Behind `weak` ones a bare letter is a symbol: `The field is given by E`."""
BEHIND_PHRASE = re.compile(
    r"\s*(?:[,:]|[-–—](?=\s))?\s*(?:is\s+)?(?:the\s+)?(?:(?:value|result)\s+(?:in|of)\s+(?=(?:option|choice)\b)|(?:correct|right|best)\s+)?",
    re.I,
)
BARE_BOX = re.compile(r"(?<![\\\w])f?boxed\s?\{\s*\(?([A-J])\)?\s*\}")
"""A box without its backslash."""
OPINION = re.compile(rf"\b(?:{OPINION_OF_OTHERS})\b[^.,;:\n]*$", re.I)
VALUE_WITHOUT_LETTERS = re.compile(r"(?=.*\d)(?!.*(?<![A-Za-z])[A-J](?![A-Za-z]))", re.S)
"""A value before an arrow, in contrast to a reaction: `P = 0.14 hp ⇒ H`, not `2A + B → C`."""
LABELLED = re.compile(
    r"\s*(?:[(\[<]|[A-J]\s?\)|(?:the\s+)?(?:(?:correct|right|best|final)\s+)*(?:option|choice|answer|letter|statement)\b)",
    re.I,
)
"""The start of a letter that is marked as that of an option."""
NAMED_OPTION = re.compile(
    r"\b(?:is|are|be|called|named|as)\s+(?:(?:most\s+likely|probably|thus|therefore|clearly|only)\s+)?([A-J])$"
)
"""The end of a sentence behind which the text of the option follows: `The power needed is H. 0.14 hp.`"""
RUNNING_SENTENCE = re.compile(
    r"(?:It|Its|This|That|These|Those|They|He|She|We|I|You|There|Here|So|Thus|Hence|Therefore|Then|And|But|However|Also|Now"
    r"|Since|Because|If|Note|Let|Option|Options|Both|Which|Finally|Next|First|Our|Their)\b"
)
"""The start of a sentence that is no text of an option."""
RUNNING_SENTENCE_BEHIND_SYMBOL = re.compile(
    r"(?:The|In|For|As|By|When|To|At|On|With|From|Where|While|One|Another|Each)\b"
)
"""Further starts, which the text of an option may have too; behind a symbol a sentence is more likely."""
REJECTION = re.compile(
    r"\b(?:wrong|incorrect|false|mistaken?|distractor|tempting|not|unlikely|eliminat\w+|rul(?:es?|ed|ing)\s+out|reject\w*"
    r"|exclud\w+|contradict\w*|other)\b",
    re.I,
)
REJECTION_OR_OPTION = re.compile(rf"{REJECTION.pattern}|[(\[][A-J][)\]]", re.I)
ENDING_LETTER = re.compile(
    r"(?P<before>^|[^\s(\[]{1,30}\s{1,9})(?:\(\s*(?:(?:option|choice|answer)\s+)?(?-i:(?P<bracketed>[A-J]))\s*\)|\[(?-i:(?P<square>[A-J]))\])[\s.!}]*$"
    r"|^(?:option|choice|answer)\s+[(\[]?(?-i:(?P<whole>[A-J]))[)\]]?[\s.!]*$|\((?:option|choice|answer)\s+(?-i:(?P<labelled>[A-J]))\)",
    re.I,
)
"""A letter in brackets at the end of a sentence, `The price is $4.67 (E)`, or a labelled one within it."""
SYMBOL_NAME = re.compile(
    r"(?:enthalpy|current|fields?|inertia|constant|modulus|potential|voltage|emf|coefficient|flux|elasticity|function|matrix|set|points?|vert\w+"
    r"|events?|class|groups?|types?|vitamin|hepatitis|figure|fig\.?|equations?|eq\.?|parts?|steps?|lines?|cases?|tables?|tubes?|samples?|see|in|of|and|or"
    r"|than|not|like|to|from|by|for|with|is|are)\W*$",
    re.I,
)
"""A word behind which a letter in brackets is a symbol or the label of a part."""
SYMBOL_WITH_ROLE = re.compile(
    r"\s*[A-J]\s+(?:on\s+(?:the|our|an?)\b|as\s+(?:(?:the|our|its|an?)\s+(?!(?:answer|choice|option|solution|response|best|correct|right|final|most)\b)[\w-]+|origin|reference)"
    r"(?:\s+(?:point|frame|level|axis|state|value|case))?(?:\s+(?:of|for)\s+(?:the\s+)?[\w-]+)?\s*(?:[.,;:]|$))"
)
"""A symbol and what it is used as: `A as the origin`, `A on the graph`."""
WITHDRAWAL = re.compile(
    r"""\b(?:wait|correction|sorry|apologi[sz]e|on\s+second\s+thought|(?:made|was)\s+a\s+mistake|mistaken|reconsider(?:ing)?
    |re-?check(?:ing)?|re-?examin(?:e|ing)|re-?evaluat(?:e|ing)|(?:this|that|it)\s+(?:is|was|seems)\s+(?:wrong|incorrect))\b
    |(?:[.!?…\n]\s*)(?:actually|no)\b|\bno[,.!:]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words by which a reply takes an answer back."""
OPTION_SUBJECT = re.compile(
    r"[\s,:*_]*(?:(?:option|choice)\s+)?(?:[(\[]\s*[A-J]\s*[)\]]|(?-i:[A-HJ]\b|I(?=\W*$))(?!['’]))", re.I
)
"""A letter as the subject of a statement: `Option A is too broad` does not state an answer."""
NUMERALS = re.compile(r"^[\s>#*|_-]*(?:statement\s+)?II\s?[.:)*|]", re.I | re.M)
"""A line behind which `I. True` and `Statement I: True` are the first of numbered statements."""
SUBJECT = re.compile(r"[(\[]?[A-J][)\]]?\s+")
OPTION_LINE = re.compile(r"[\s>#]*(?:\*\*[^*\n]+\*\*|[*_`\"(\[$]*[A-J][)\]$*_`\".]*)[^\S\n]*\n")
"""A first line that consists of an option, before its discussion."""
LINE_PREFIX = re.compile(
    r"^(?:\d{1,2}[.)]\s|(?:assistant|response|output|model|bot|AI|correct|right|final)\s?:\s*|A\s?:\s+(?=\(?[A-J]\)?(?:[.:)\s]|$)))",
    re.I,
)
"""Prefixes of a line that consists of a letter: a list number, a speaker, `A:` after `Q:`."""


def extract_choice_letter(reply: Reply) -> str | None:
    """Return the letter of the last box or statement, otherwise one called correct, chosen or standing alone.

    A letter that is called correct or true overrides an earlier box or statement only if the reply takes that
    back. Several letters at once (`A and B`) are returned together, and match no gold letter.

    Example:
        >>> extract_choice_letter(Reply("The answer is (C). Option A is true, but irrelevant."))
        'C'
    """
    called = letters_called_correct(reply.text)
    answers = _stated_letters(reply) + [(call.start, call.letter) for call in called if call.is_answer]
    if answers:
        start, letter = sorted(answers, key=lambda answer: answer[0])[-1]
        if len(letter) > 1 and (chosen := _chosen_letter(reply)) is not None and chosen[0] > start:
            return chosen[1]  # `The answer is A or F. Since the volume rises, it is F.`
        return _corrected_letter(reply.text, start, called) or letter
    chosen = _chosen_letter(reply)
    standalone = _standalone_letter(reply)
    if called and not (standalone and OPTION_LINE.match(reply.text)):
        start, letter, _ = called[-1]
        if chosen is not None and (chosen[0] > start or len(letter) > 1):
            return chosen[1]
        return letter
    return standalone or (chosen[1] if chosen is not None else _only_affirmed_option(reply.text))


def _stated_letters(reply: Reply) -> list[tuple[int, str]]:
    """Positions and letters of the boxes and statements."""
    boxed = [(box.start, _letter_in_box(box.content)) for box in reply.boxes]
    stated = [(statement.start, _letter_in_statement(statement)) for statement in reply.statements]
    bare = [(box.start(), box[1]) for box in BARE_BOX.finditer(reply.text)]
    return [(start, letter) for start, letter in chain(boxed, bare, stated) if letter is not None]


def _corrected_letter(text: str, start: int, called: list[CalledLetter]) -> str | None:
    """The last letter called correct after the answer at a position is taken back; None without one."""
    withdrawal = WITHDRAWAL.search(text, start)
    later = [call.letter for call in called if withdrawal is not None and call.start > withdrawal.start()]
    return later[-1] if later else None


def _letter_in_box(content: str) -> str | None:
    """The letter in a box, optionally with its option's text, but not at the start of a formula."""
    line = strip_markup(content)
    return _leading_letter(line, is_boxed=True) or (_letter_in_brackets(line) if " " in line else None)


def _letter_in_statement(statement: Statement) -> str | None:
    line = statement.line
    if OPTION_SUBJECT.match(statement.subject) or "\\boxed" in line:
        return None  # called correct or not, or handled by `_letter_in_box`
    line, _ = strip_filler(strip_markup(line))
    if is_negated(line):
        return None
    line = re.sub(r"^(?:both|either|only|all\s+of)\s+|^[-–•>]\s+", "", line)
    return _leading_letter(line, is_boxed=False) or _letter_after_value(line)


def _leading_letter(line: str, is_boxed: bool) -> str | None:
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


def _letter_after_value(line: str) -> str | None:
    """The letter after a stated value: `42, which is option (C)`, `42 (C)`."""
    sentence = re.split(r"(?<=[^\s.])[.!?](?=\s|$)", line, maxsplit=1)[0]
    if re.match(r"(?:I|we|you|they)\b", sentence) or not sentence.strip():
        return None
    letters = [
        next(group for group in match.groups() if group)
        for match in OPTION_MENTION.finditer(sentence)
        if not RETRACTION.match(sentence, match.end())
        and not re.search(r"\b(?:not|than|of|like|unlike)\s+$", sentence[: match.start()])
    ]
    if not letters:
        return None
    return letters[0] if len(set(letters)) == 1 else ", ".join(dict.fromkeys(letters))


def _standalone_letter(reply: Reply) -> str | None:
    """The letter that is the first or the last line, if no line consists of a different letter.

    The last line of a truncated reply may be the first of the options that it goes through.
    """
    texts = [
        strip_markup(LINE_PREFIX.sub("", line.content.strip(MARKUP_CHARACTERS + "#>-=→⇒➡∴•")))
        for line in nonempty_lines(OTHER_OPTIONS.split(reply.text, maxsplit=1)[0])
    ]
    letters = [_letter_of_line(line) for line in texts]
    if not texts or len({letter for letter in letters if letter}) != 1:
        return None
    if "I" in letters and NUMERALS.search(reply.text):
        return None
    return letters[0] or (None if reply.truncated else letters[-1])


def _letter_of_line(line: str) -> str | None:
    subject = SUBJECT.match(line)
    if FURTHER_OPTION.search(line) or (subject and CALLED_CORRECT.match(line, subject.end())):
        return None  # several options, or one that `letters_called_correct` has assessed
    if _is_rejected_option(line):
        return None
    return _leading_letter(strip_filler(line)[0], is_boxed=True)


def _is_rejected_option(line: str) -> bool:
    """Whether a line judges its option to be wrong: `D. 12 m/s - This is wrong.`

    Without the text of the option or a subject, `A. Wrong` may be the option itself.
    """
    verdict = OPTION_VERDICT.match(line)
    return (
        verdict is not None
        and verdict["rejected"] is not None
        and (verdict["described"] or verdict["subject"]) is not None
        and VERDICT_ENDS.match(line, verdict.end()) is not None
    )


def _only_affirmed_option(text: str) -> str | None:
    """The letter of the only option that a list of at least three options affirms: `(B) True`."""
    verdicts = {match[1]: match["affirmed"] is not None for match in OPTION_VERDICT.finditer(text)}
    affirmed = [letter for letter, is_affirmed in verdicts.items() if is_affirmed]
    options = {match[1] for match in OPTION_LABEL.finditer(text)}
    return affirmed[0] if len(affirmed) == 1 and len(options) >= 3 else None


def _chosen_letter(reply: Reply) -> tuple[int, str] | None:
    """Position and chosen letter of the last sentence: `So it has to be C`, `matches option (C)`.

    Remarks behind it, and the text of the option that it names, are skipped. A sentence that a truncated text
    breaks off chooses nothing.
    """
    option_text = None
    for index, sentence in reversed(list(enumerate(reply.sentences))):
        if reply.truncated and sentence.end >= len(reply.text.rstrip()):
            return None
        text = strip_markup(sentence.content[-MAX_SENTENCE_LENGTH:])
        letter = (
            _letter_behind_phrase(text)
            or _letter_before_text(_surroundings(reply.text, sentence), text, option_text)
            or _letter_in_brackets(text)
        )
        if letter is not None:
            return sentence.start, letter
        is_option_text = index > 0 and _is_option_text(reply.text, reply.sentences[index - 1], sentence)
        option_text = sentence.content if is_option_text else None
        if not (is_option_text or is_remark(sentence.content)):
            return None
    return None


def _letter_behind_phrase(text: str) -> str | None:
    """The letter behind the last phrase of a sentence that introduces a chosen one."""
    for match in reversed(list(CHOICE_PHRASE.finditer(text))):
        tail = BEHIND_PHRASE.match(text, match.end())
        rest = text[tail.end() if tail else match.end() :]
        if match["arrow"] and not VALUE_WITHOUT_LETTERS.match(text[: match.start()]):
            continue
        if (match["weak"] and LABELLED.match(rest) is None) or SYMBOL_WITH_ROLE.match(rest):
            continue
        if match["named"] and REJECTION_OR_OPTION.search(text, 0, match.start()):
            continue
        before = text[max(0, match.start() - 120) : match.start()]
        if OPINION.search(before) or ("would" in match[0] and COUNTERFACTUAL.search(before)):
            continue
        if not is_negated(rest) and (letter := _leading_letter(rest, is_boxed=False)) is not None:
            return letter
    return None


def _surroundings(text: str, sentence: Span) -> str:
    """The text around a sentence, of bounded length: degenerate text has unboundedly many sentences."""
    return text[max(0, sentence.start - MAX_SENTENCE_LENGTH) : sentence.end + MAX_SENTENCE_LENGTH]


def _letter_before_text(surroundings: str, sentence: str, option_text: str | None) -> str | None:
    """The letter at the end of a sentence that names an option, behind which its text follows."""
    named = NAMED_OPTION.search(sentence) if option_text is not None else None
    if named is None or option_text is None or RUNNING_SENTENCE_BEHIND_SYMBOL.match(option_text):
        return None
    is_symbol = re.search(rf"(?<![\w(\[\\]){named[1]}\s*(?:[=_^/*+]|\\[a-z])", surroundings) is not None
    return None if is_symbol or REJECTION.search(sentence) else named[1]


def _letter_in_brackets(text: str) -> str | None:
    """The only letter in brackets, at the end of a text that rejects nothing: `The price is $4.67 (E)`.

    A letter that abbreviates the word before it is a symbol: `the capacitance (C)`, `5 amperes (A)`.
    """
    match = ENDING_LETTER.search(text)
    if match is None or REJECTION_OR_OPTION.search(text, 0, match.start("before") if match["before"] else 0):
        return None
    letter = next(match[name] for name in ("bracketed", "square", "whole", "labelled") if match[name])
    word = match["before"] or ""
    is_abbreviation = re.match(rf"{letter}[a-z]{{2}}", word, re.I) is not None
    return None if is_abbreviation or SYMBOL_NAME.match(word) or REJECTION_OR_OPTION.search(word) else letter


def _is_option_text(reply: str, previous: Span, sentence: Span) -> bool:
    """Whether a sentence is the text of the option that the sentence before it names: `C. Appendicitis`."""
    return (
        re.search(r"\s[*_`$]*[A-J]$", previous.content) is not None
        and reply[previous.end : previous.end + 1] == "."
        and not SPECIES.match(reply, previous.end)
        and RUNNING_SENTENCE.match(sentence.content) is None
    )
