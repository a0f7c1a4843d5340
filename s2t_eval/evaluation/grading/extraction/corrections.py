"""Corrections of a reply by itself: `The answer is 28. Wait, let me recount: it is 27.`"""

from __future__ import annotations

import re

WITHDRAWAL = re.compile(
    r"""\b(?:wait|hold\s+on|hmm+|oops|sorry|apologi[sz]e|correction|actually|on\s+second\s+thought|no,
    |I\s+(?:made|forgot|misread|mis(?:calculated|counted)|overlooked)|(?:this|that)(?:\s+is|['’]s)\s+(?:wrong|incorrect|not\s+right))(?!\w)""",
    re.I | re.X,
)
"""Words by which a reply interrupts itself."""
ERROR = re.compile(
    r"""\b(?:wrong|incorrect|mistake|mistaken|error|misread|mis(?:calculated|counted|took)|re-?(?:count|calculate|compute|do)
    |forgot|overlooked|should\s+(?:be|have)|not\s+(?:right|correct|true|quite)|correction|I\s+meant?|no,
    |(?:that|this|it)\s+(?:is|was)n['’]t\s+(?:right|correct|true))(?!\w)
    |\b(?:it|this|that|there|answer)(?:['’]s|\s+(?:is|are))\s+(?:actually\s+|in\s+fact\s+)?(?:[$\\(*\d-]|(?:option\s+)?(?-i:[A-J])\b)""",
    re.I | re.X,
)
"""Words by which it calls what it said wrong, or says what is right."""
CONFIRMATION = re.compile(
    r"""\b(?:yes|(?<!not\s)(?<!n't\s)correct|(?<!not\s)(?<!n't\s)right|confirm(?:s|ed)?|consistent|match(?:es)?|indeed|still|the\s+same
    |checks\s+out|good|at\s+first|initially|earlier|mention|double[-\s]?check)\b""",
    re.I | re.X,
)
"""Words by which it confirms what it said, or only mentions an earlier error."""
MAX_LENGTH = 2000


def correction_start(text: str, start: int) -> int | None:
    """Return the position behind the words that withdraw an answer; None if it stands.

    Args:
        text: the reply.
        start: position of the last stated or boxed answer, behind which the correction is searched.

    Example:
        >>> text = "The answer is 28. Wait, that is wrong: it is 27."
        >>> text[correction_start(text, 0):]
        ', that is wrong: it is 27.'
    """
    withdrawal = WITHDRAWAL.search(text, start)
    if withdrawal is None:
        return None
    rest = text[withdrawal.start() : withdrawal.start() + MAX_LENGTH]
    if ERROR.search(rest) is None or CONFIRMATION.search(rest) is not None:
        return None
    return withdrawal.end()
