"""The letter that the last sentence of a reply chooses: `So it has to be C`, `matches option (C)`."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.leading_letter import SPECIES, leading_letter
from s2t_eval.evaluation.grading.extraction.letter_markup import strip_markup
from s2t_eval.evaluation.grading.extraction.remarks import is_negated, is_remark
from s2t_eval.evaluation.grading.extraction.reply import Reply
from s2t_eval.evaluation.grading.extraction.spans import Span
from s2t_eval.evaluation.grading.extraction.statements import COUNTERFACTUAL, OPINION_OF_OTHERS

MAX_SENTENCE_LENGTH = 2000
"""Characters at the end of the last sentence that are searched; degenerate text has unbounded sentences."""
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


def chosen_letter(reply: Reply) -> tuple[int, str] | None:
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
            or letter_in_brackets(text)
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
        if not is_negated(rest) and (letter := leading_letter(rest, is_boxed=False)) is not None:
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


def letter_in_brackets(text: str) -> str | None:
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
