"""Removal of the markup around words and letters."""

from __future__ import annotations

import re

MARKUP = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|mathcal|bm|boldsymbol|boxed|fbox|underline|mbox|rm|bf|large|Large)\s*(?=[{\s])"
    r"|\\[()\[\],;:! ]|\\(?:left|right|q?quad)(?![a-z])|[${}`\"“”~*]|(?<![A-Za-z\d}])_+|_+(?=[\s.)\]]|$)|\\\\"
)
QUOTED_LETTER = re.compile(r"['‘](\(?[A-Ja-j]\)?)['’](?![A-Za-z])")

QUOTED_OPTION = re.compile(r"(?<![\w'’])['‘](?=\(?[A-J][.:)]\s)")
"""The quotation mark before a letter with its option's text: `'D. as they begin to recover'`."""


def strip_markup(text: str) -> str:
    """Remove markup around words and letters."""
    text = QUOTED_OPTION.sub("", QUOTED_LETTER.sub(r"\1", text))
    previous = None
    while previous != text:
        previous, text = text, MARKUP.sub(lambda m: " " if m[0] in ("~", r"\ ", r"\,") else "", text)
    return re.sub(r"\(\s*\(([A-Ja-j])\)\s*\)", r"(\1)", text).strip()
