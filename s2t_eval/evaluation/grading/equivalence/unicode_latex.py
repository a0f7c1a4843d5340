"""Conversion of Unicode mathematics to LaTeX: superscripts, fractions, Greek letters, symbols."""

from __future__ import annotations

import re
import unicodedata

from s2t_eval.evaluation.grading.numbers.parsing import MINUS

SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸᵃᵇᵏᵐᵗ", "0123456789+-=()nixyabkmt", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜᵢⱼ", "0123456789+-=()aeoxhklmnpstij", strict=True))
SUPERSCRIPT = re.compile(f"[{''.join(SUPERSCRIPTS)}]+")
SUBSCRIPT = re.compile(f"[{''.join(SUBSCRIPTS)}]+")
SYMBOLS = {
    "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ",
    "∗": r"\cdot ", "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∞": r"\infty ", "±": r"\pm ", "∓": r"\mp ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ", "ø": r"\emptyset ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≃": r"\approx ",
    "°": r"^\circ ", "˚": r"^\circ ", "º": r"^\circ ", "′": "'", "″": "''", "’": "'", "∠": r"\angle ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "∨": r"\lor ", "∧": r"\land ", "→": r"\to ", "⇒": r"\Rightarrow ", "…": r"\ldots ", "⋯": r"\ldots ",
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "∂": r"\partial ", "ℏ": r"\hbar ", "∣": "|", "∶": ":",
    "、": ",", "。": ".", "〈": r"\langle ", "〉": r"\rangle ", "【": "[", "】": "]",
    "∆": r"\Delta ", "µ": r"\mu ",
    "−": "-", "–": "-", "—": "-", "✓": "", "✔": "", "■": "", "□": "", "∎": "",
}  # fmt: skip
SPACES = dict.fromkeys(
    "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000", " "
)
IGNORED = dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u2061\u2062", "")
SMALL_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega"
).split()
CAPITAL_GREEK = "gamma delta theta xi pi sigma upsilon phi psi omega".split()
GREEK_NAMES = {
    **{f"GREEK SMALL LETTER {letter.upper()}": letter for letter in SMALL_GREEK},
    **{f"GREEK CAPITAL LETTER {letter.upper()}": letter.title() for letter in CAPITAL_GREEK},
    "GREEK SMALL LETTER LAMDA": "lambda",
    "GREEK CAPITAL LETTER LAMDA": "Lambda",
    "GREEK PHI SYMBOL": "phi",
    "GREEK THETA SYMBOL": "theta",
    "GREEK LUNATE EPSILON SYMBOL": "epsilon",
}
"""Unicode names of Greek letters; Unicode spells lambda without a b."""


def unicode_to_latex(text: str) -> str:
    """Replace every character with a LaTeX equivalent by it.

    Example:
        >>> unicode_to_latex("x²")
        'x^{2}'
    """
    text = SUPERSCRIPT.sub(lambda run: f"^{{{''.join(SUPERSCRIPTS[char] for char in run[0])}}}", text)
    text = SUBSCRIPT.sub(lambda run: f"_{{{''.join(SUBSCRIPTS[char] for char in run[0])}}}", text)
    text = re.sub("((?:[0-9]\u0305)+)", lambda run: rf"\overline{{{run[1].replace(chr(0x305), '')}}}", text)
    text = re.sub(r"√\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", text).translate(MINUS)
    return text if text.isascii() else "".join(_character_to_latex(char) for char in text)


def _character_to_latex(char: str) -> str:
    if char.isascii():
        return char
    for table in (SYMBOLS, SPACES, IGNORED):
        if char in table:
            return table[char]
    if 0xFF01 <= ord(char) <= 0xFF5E:  # full-width ASCII, as Chinese keyboards write it
        return chr(ord(char) - 0xFEE0)
    name = unicodedata.name(char, "")
    if name in GREEK_NAMES:
        return rf"\{GREEK_NAMES[name]} "
    if name.startswith("VULGAR FRACTION"):
        numerator, _, denominator = unicodedata.normalize("NFKC", char).partition("\u2044")
        return rf"\frac{{{numerator}}}{{{denominator}}}" if denominator else char
    if name.startswith("MATHEMATICAL "):  # separate code points for italic, bold and other alphabets
        return unicodedata.normalize("NFKC", char)
    return "/" if char == "\u2044" else char
