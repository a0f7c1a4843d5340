"""Normalisation of LaTeX and plain mathematics: formatting removed, one notation for each construct."""

from __future__ import annotations

import re
from collections.abc import Callable

from s2t_eval.evaluation.grading.equivalence.macros import add_braces, expand_macros, infix_to_command
from s2t_eval.evaluation.grading.equivalence.unicode_latex import unicode_to_latex
from s2t_eval.evaluation.grading.numbers.parsing import without_ordinal_endings

Replacement = str | Callable[[re.Match[str]], str]
END = r"(?![a-zA-Z])"
WORD = r"(?<![\\a-zA-Z])(?<!_\{)(?<!\\text\{)"
FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm"
GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi"
    "|chi|psi|omega|Gamma|Delta|Theta|Lambda|Pi|Sigma|Phi|Psi|Omega"
)
STYLE_COMMANDS = (
    "displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|boldmath|bf|rm|it|sf|tt|cal|tiny|small"
    "|footnotesize|normalsize|large|Large|LARGE|huge|Huge|strut|centering|hfill|hline|noindent|relax"
    "|checkmark|blacksquare|square|Box|qed|qedhere|bigstar|blacklozenge"
)
"""Commands that change the appearance only, or mark the end of a proof."""
REPLACEMENTS: tuple[tuple[str, Replacement], ...] = (
    (r"\\(?:left|right)\s*\.", ""),
    (rf"\\(?:left|right|middle|[bB]igg?[lrm]?){END}\s*", ""),
    (rf"\\(?:{STYLE_COMMANDS}){END}", " "),
    (rf"\\(?:geqslant|geqq?){END}|>=", r"\\ge "),
    (rf"\\(?:leqslant|leqq?){END}|<=", r"\\le "),
    (rf"\\neq{END}|\\not\s*=|!=", r"\\ne "),
    (rf"\\forall{END}", r"\\text{for all} "),
    (rf"\\bigcup{END}", r"\\cup "),
    (rf"\\bigcap{END}", r"\\cap "),
    (r"\\log\s*_\s*(\d)(?=\s*[\d\\({])", r"\\log_{\1} "),
    (r"(?<=[\d)])\s*[xX]\s*(?=10\s*\^)", r"\\times "),
    (r"(?<=\d)\s*\^\s*(?:\{\s*)?(?:\\text\{\s*o\s*\}|o(?![a-z]))(?:\s*\})?", r"^\\circ "),
    (rf"\\lt{END}", "<"),
    (rf"\\gt{END}", ">"),
    (rf"\\(?:long)?rightarrow{END}|->", r"\\to "),
    (rf"^\s*\\(?:therefore|implies|Rightarrow|Longrightarrow|iff){END}", " "),
    (rf"\\equiv{END}", "="),
    (r"\\q?quad\s*(?=\\text\{\(|$)", " "),
    (
        r"\\text\{[aA]ll real numbers,? except(?: for)?\}\s*\\?\{?([^{}\\]+?)(?:\\?\}|$)",
        r"\\mathbb{R}\\setminus\\{\1\\}",
    ),
    (rf"\\lbrack{END}", "["),
    (rf"\\rbrack{END}", "]"),
    (rf"\\lbrace{END}", r"\\{"),
    (rf"\\rbrace{END}", r"\\}"),
    (rf"\\(?:infin|infinity){END}|{WORD}(?:infinity|inf|oo)(?![a-zA-Z(])", r"\\infty "),
    (r"\\text\{(?:infinity|Infinity)\}", r"\\infty "),
    (r"\\text\{(?:there (?:is|are) )?[nN]o solutions?\}|\\text\{(?:the )?empty set\}", r"\\emptyset "),
    (rf"\\varnothing{END}|\\\{{\s*\\\}}", r"\\emptyset "),
    (rf"\\(?:R|reals|Reals){END}|\\mathbb\s*R{END}", r"\\mathbb{R}"),
    (rf"\\backslash{END}", r"\\setminus "),
    (rf"\\(?:lor|vee){END}", r"\\text{or}"),
    (rf"\\(?:land|wedge){END}", r"\\text{and}"),
    (rf"\\(?:simeq|thickapprox|doteq|approxeq){END}", r"\\approx "),
    (rf"\\(?:dots|cdots|dotsc|dotsb){END}|\.\.\.", r"\\ldots "),
    (r"\*\*", "^"),
    (rf"\\ast{END}|\*(?=\s*[\w({{\\])", r"\\cdot "),
    (rf"\\(?:lvert|rvert|vert|mid){END}", "|"),
    (rf"\\(?:text)?degree{END}|(?:\{{\}})?\s*\^\s*\{{\s*\\circ\s*\}}|\{{\}}\s*\^\s*\\circ", r"^\\circ "),
    (r"\{,\}|,\s*\\!\s*(?=\d)", ","),
    (r"(?<![\d.,])\d{1,3}(?:(?:\\[, ;:]|~|\s)+\d{3})+(?![\d.])", lambda m: re.sub(r"\D", "", m[0])),
    (rf"\\!|\\negthinspace{END}", ""),
    (rf"(?<!\\)\\[,;:> ]|~|\\(?:thinspace|medspace|thickspace|enspace|space){END}", " "),
    (r"\\%", "%"),
    (rf"\\cents?{END}|(?<!\{{)¢", r"\\text{ cents}"),
    (r"\\&", r"\\text{and}"),
    (rf"\\colon{END}|(?<=\d)\{{:\}}(?=\d)", ":"),
    (rf"\\(?:cr|newline|tabularnewline){END}", r"\\\\"),
    (r"(?:np|math|numpy|sympy)\.(?=[a-z])", ""),
    (rf"{WORD}a(sin|cos|tan)(?=\()", r"\\arc\1"),
    (rf"{WORD}(?:sqrt)(?=\s*[({{\d])", r"\\sqrt"),
    (r"\+\s*/\s*-|\+-(?=\s*(?:\\sqrt|\d+(?![\d.]*\s*i)))", r"\\pm "),
    (rf"{WORD}({FUNCTIONS})(?=\s*[\d(^_{{\\]|\s+[a-zA-Z]{END})", r"\\\1"),
    (rf"{WORD}({GREEK})(?![a-zA-Z])", r"\\\1 "),
    (r"(?<=[\])}])\s*U\s*(?=[\[({\\])", r"\\cup "),
    (r"(?<=[a-zA-Z])\s+in\s+(?=[\[({\\])", r"\\in "),
    (r"\^\s*\{?(\d+)\}?\s*/\s*_\s*\{?(\d+)\}?", r"\\frac{\1}{\2}"),
    (r"\^\s*(-?\d+(?:\.\d+)?|-?[a-zA-Z](?![a-zA-Z]*\())", r"^{\1}"),
    (r"\^\s*(\([^()]*\))", r"^{\1}"),
    (rf"_\s*(\d+|[a-zA-Z]{END}|[a-zA-Z](?=[\d\W]))", r"_{\1}"),
    (r"_\s*(\\text\{[^{}]*\}|\\(?!text)[a-zA-Z]+)", r"_{\1}"),
    (r"(?<!\\)\{\s*\}", ""),
)  # fmt: skip
MAX_EXTRA_LENGTH = 600
"""Characters by which an answer may exceed ten times the gold answer's length."""
REPEATING_DECIMAL = re.compile(
    r"(?P<whole>\d*)\.(?P<fixed>\d*?)(?:\\(?:overline|bar|dot)\s*(?:\{(?P<bar>\d+)\}|(?P<digit>\d))"
    r"(?:(?P<between>\d*)\\dot\s*\{?(?P<last>\d)\}?)?|\((?P<round>\d+)\)(?!\s*[\w(\\])"
    r"|(?P<dots>\d{1,6}?)(?P=dots){2,}\s*\\ldots)"
)
"""Repeating decimals: 0.1\\overline{6}, 0.\\dot{1}4285\\dot{7}, 0.1(6) and 0.333..."""


def is_too_long(gold: str, answer: str) -> bool:
    """Whether an answer is far longer than the gold answer; such answers are degenerate repetitions."""
    return len(answer) > MAX_EXTRA_LENGTH + 10 * len(gold)


def normalise(text: str) -> str:
    """Return the normal form of an answer.

    Example:
        >>> normalise(r"\\dfrac12")
        '\\\\frac{1}{2}'
    """
    text = re.sub(r"(?:\\\\|\\ |\\$|\s)+$", "", text.strip().strip("*"))
    text = re.sub(r"^\s*\\[\[(]|\\[\])]\s*$|(?<!\\)\$", " ", unicode_to_latex(text)).replace(r"\$", " $ ")
    text = without_ordinal_endings(text)
    text = expand_macros(re.sub(r"(^|\\in)\s*\\math(?:bf|rm)\s*\{R\}", r"\1\\mathbb{R}", text))
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    text = add_braces(infix_to_command(infix_to_command(text, "over", "frac"), "choose", "binom"))
    text = REPEATING_DECIMAL.sub(_repeating_decimal_to_fraction, text)
    text = re.sub(r"(?<=\d)\.(?![\d\w])", "", text)
    text = _balance_braces(text.lstrip(" =;:*,\n").rstrip(" .;:*,\n"))
    return re.sub(r"\s+", " ", text).lstrip(" =;:*,").rstrip(" .;:*,")


def _repeating_decimal_to_fraction(match: re.Match[str]) -> str:
    """Convert a repeating decimal to a fraction."""
    period = match["bar"] or match["round"] or match["dots"] or match["digit"] or ""
    if match["last"] is not None:
        period += match["between"] + match["last"]
    fixed = match["fixed"]
    whole = int((match["whole"] or "0") + fixed + period) - int((match["whole"] or "0") + fixed or "0")
    return rf"\frac{{{whole}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"


def _balance_braces(text: str) -> str:
    """Remove unmatched closing braces and append missing ones."""
    depth = 0
    for position in range(len(text)):
        if text[position] in "{}" and (position == 0 or text[position - 1] != "\\"):
            depth += 1 if text[position] == "{" else -1
        if depth < 0:
            return _balance_braces(text[:position] + " " + text[position + 1 :]) if len(text) < 1000 else text
    return text + "}" * depth
