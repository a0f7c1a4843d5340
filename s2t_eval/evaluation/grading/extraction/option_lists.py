"""Lists of options: the label at the start of a line, and lists that judge every option."""

from __future__ import annotations

import re

OPTION_START = r"^[\s>#*|_-]*(?:\d{1,2}[.)]\s+)?(?:(?:[Oo]ption|[Cc]hoice)\s+)?[(\[]?(?-i:([A-J]))"
"""The start of a line up to the letter of its option: `- **B`, `2. Option (B`."""
OPTION_LABEL = re.compile(rf"{OPTION_START}\s?[)\].:|*]", re.M)
VERDICT_END = r"(?:\W*$|[.,;:]|\s+(?:because|since|as)\b)"
NAMED_CHOICE = r"(?:answer|choice|option|one)"
OPTION_VERDICT = re.compile(
    rf"{OPTION_START}[)\].:|*\s–—-]+"
    r"(?:(?:(?P<subject>this|it)\s+(?:\w+\s+)?)?(?:is\s+)?"
    r"|(?P<described>[^\n]{1,60}?(?:\s[-–—:(]|:|\.(?=\s+(?:this|it)\s))\W{0,4})(?:(?:this|it)\s+(?:\w+\s+)?is\s+)?)"
    rf"(?:(?P<affirmed>(?:the\s+)?(?:correct|right|best)\s+{NAMED_CHOICE}|the\s+(?:correct|right|best)(?={VERDICT_END})|correct|right|true|yes)"
    rf"|(?P<rejected>(?:(?:an?|the)\s+)?(?:incorrect|wrong)(?:\s+{NAMED_CHOICE})?|not\s+(?:the\s+)?(?:correct|right|best)(?:\s+{NAMED_CHOICE})?|(?<=\bis\s)false)"
    rf"|false|no)\b(?(described)(?={VERDICT_END}))",
    re.I | re.M,
)
"""A line of a list that judges every option: `- **B**: Correct.`, `B. Meiosis: this is the right answer.`"""
VERDICT_ENDS = re.compile(VERDICT_END)


def is_rejected_option(line: str) -> bool:
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


def only_affirmed_option(text: str) -> str | None:
    """The letter of the only option that a list of at least three options affirms: `(B) True`."""
    verdicts = {match[1]: match["affirmed"] is not None for match in OPTION_VERDICT.finditer(text)}
    affirmed = [letter for letter, is_affirmed in verdicts.items() if is_affirmed]
    options = {match[1] for match in OPTION_LABEL.finditer(text)}
    return affirmed[0] if len(affirmed) == 1 and len(options) >= 3 else None
