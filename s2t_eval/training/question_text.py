"""Normalisation of questions to letters and digits, so that different spellings compare equal.

`$x^{4}$`, `\\(x^4\\)`, `x**4` and `**x⁴**` differ only in markup; all of them become `x4`.
"""

from __future__ import annotations

import re
import unicodedata

LAYOUT_COMMANDS = frozenset(
    """left right middle big bigg bigl bigr biggl biggr displaystyle textstyle scriptstyle limits nolimits
    quad qquad hspace vspace hfill hline noindent newline linebreak par text textbf textit textrm
    textsf texttt textnormal emph underline mathrm mathbf mathit mathsf mathtt mathcal mathbb
    mathfrak mathscr boldsymbol bm operatorname mbox hbox fbox boxed phantom hphantom vphantom item
    label tag nonumber protect ensuremath centering tiny small large""".split()
)
"""LaTeX commands that change a text's layout but not its content, in lower case."""

SIGN_COMMANDS = frozenset(
    """times cdot div pm mp ast star le leq leqslant ge geq geqslant lt gt ne neq approx equiv sim simeq
    cong infty in notin ni cup cap setminus subset subseteq supset emptyset varnothing to gets
    mapsto rightarrow leftarrow leftrightarrow longrightarrow implies iff ldots cdots dots vdots
    ddots circ degree angle triangle perp parallel mid langle rangle lfloor rfloor lceil rceil
    lbrace rbrace lvert rvert vert prime backslash colon land lor neg forall exists frac dfrac tfrac
    cfrac over overline overrightarrow bar vec hat widehat tilde widetilde""".split()
)
"""LaTeX commands for symbols that are no letters in Unicode; both spellings are removed."""

SIGNS = str.maketrans(
    {"√": " sqrt ", "∑": " sum ", "∏": " prod ", "∫": " int ", "∂": " partial ", "∇": " nabla "}
)
COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[A-Za-z]+\*?\}", re.IGNORECASE)
# Only known tags: `<y and z>` in "x <y and z> 3" is not a tag.
TAG = re.compile(
    r"</?(?:a|b|i|u|p|br|em|strong|sub|sup|span|div|code|pre|font|center|h[1-6]|ul|ol|li|t[rdh]|table|tbody)"
    r"(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:[A-Za-z]+|#\d+);")
LETTERS_AND_DIGITS = re.compile(r"[^\W_]+")


def normalised(text: str) -> str:
    """The letters and digits of a text in lower case, without markup and spacing."""
    text = TAG.sub(" ", ENVIRONMENT.sub(" ", text)).translate(SIGNS)
    text = COMMAND.sub(_command_text, ENTITY.sub(" ", text))
    text = unicodedata.normalize("NFKD", "".join(map(_greek, text))).casefold()
    return "".join(LETTERS_AND_DIGITS.findall(text))


def _command_text(match: re.Match[str]) -> str:
    """The text of a LaTeX command: its name, unless it stands for layout or a symbol."""
    name = match[1].lower()
    if name in LAYOUT_COMMANDS or name in SIGN_COMMANDS:
        return " "
    return f" {name.removeprefix('var')} "


def _greek(char: str) -> str:
    """The LaTeX name of a Greek letter; any other character unchanged."""
    if not "\u0370" <= char <= "\u03ff":
        return char
    name = unicodedata.name(char, char)
    return f" {name.rsplit(' ', 1)[-1].lower()} " if " LETTER " in name else char
