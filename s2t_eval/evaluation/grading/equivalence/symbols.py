"""Encoding of symbols that math-verify's grammar misreads as `\\text{…}`, which it reads as one symbol.

The grammar rejects `E_0`, reads `I` as the imaginary unit and `\\gamma` as Euler's constant, ignores
primes, and evaluates the derivative of a symbol to zero.
"""

from __future__ import annotations

import re

GREEK = (
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau"
    r"|upsilon|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|hbar|ell|odot)(?![a-zA-Z])"
)
BASE = rf"(?:\\text\{{[a-zA-Z]+\}}|{GREEK}|[a-zA-Z])"
SUBSCRIPT = r"_\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|[a-zA-Z0-9])"
NAME = rf"{BASE}(?:\s*{SUBSCRIPT})?(?:\([a-z]\))?"
DERIVATIVE = re.compile(
    rf"\\frac\{{\s*d\s*(?:\^\{{(?P<order>\d)\}})?\s*(?P<of>{NAME})\s*\}}\{{\s*d\s*(?P<by>[a-z])\s*(?:\^\{{\d\}})?\s*\}}"
    r"|(?<![a-zA-Z\\])d(?P<of_plain>[a-zA-Z])\s*/\s*d(?P<by_plain>[a-z])(?![a-zA-Z])"
)
ACCENT = re.compile(
    rf"\\(?P<accent>dot|ddot|vec|hat|bar|tilde|overline|overrightarrow|widehat|mathbb)\s*"
    rf"(?:\{{\s*(?P<of>[a-zA-Z]{{1,3}}|{NAME})\s*\}}|(?P<plain>[a-zA-Z]|{GREEK}))(?P<below>{SUBSCRIPT})?(?P<of_at>\([a-z]\))?"
)
SYMBOL = re.compile(
    rf"(?P<base>{BASE})(?P<subscript>\s*{SUBSCRIPT})?"
    r"(?P<primes>\s*(?:'+|\^\s*\{\s*(?:\\prime\s*)+\})(?:\([a-z]\))?)?"
)
MISREAD = {"E", "I", "S", "Q", "N", "O", "C", r"\gamma", r"\Gamma", r"\odot", r"\ell", r"\hbar"}
OTHER_COMMAND = re.compile(r"\\(?:log|sum|prod|int|lim|max|min)(?![a-zA-Z])|\\begin|\\(?!text)[a-zA-Z]+")


def encode_symbols(text: str, bare_derivatives: bool) -> str:
    """Encode every such symbol of a normal form.

    Args:
        text: a normal form.
        bare_derivatives: whether `\\frac{dy}{dt}` is encoded like `y'` and `\\dot y`; otherwise its
            variable is part of the symbol.
    """
    text = DERIVATIVE.sub(lambda m: _encode_derivative(m, bare_derivatives), text)
    text = ACCENT.sub(_encode_accent, text)
    return re.sub(rf"{SYMBOL.pattern}|{OTHER_COMMAND.pattern}", _encode_symbol, _join_subscripts(text))


def _join_subscripts(text: str) -> str:
    return re.sub(r"(?<=[a-zA-Z}])\s+(?=_)", "", text)


def _encode_derivative(match: re.Match[str], bare_derivatives: bool) -> str:
    name = re.sub(r"\([a-z]\)$", "", (match["of"] or match["of_plain"]).strip())
    by = "" if bare_derivatives else match["by"] or match["by_plain"]
    return _encode_name(name + "'" * int(match["order"] or 1) + by)


def _encode_accent(match: re.Match[str]) -> str:
    name = re.sub(r"\([a-z]\)$", "", (match["of"] or match["plain"]).strip())
    name += re.sub(r"[\s{}]", "", match["below"] or "")
    if match["accent"] in ("dot", "ddot"):
        return _encode_name(name + "'" * (2 if match["accent"] == "ddot" else 1))
    return _encode_name(f"{match['accent']}{name}") + (match["of_at"] or "")


def _encode_symbol(match: re.Match[str]) -> str:
    if match["base"] is None:
        return match[0] if match[0] not in MISREAD else _encode_name(match[0])
    subscript, primes = match["subscript"], match["primes"]
    if not (subscript or primes or match["base"] in MISREAD):
        return match[0]
    inner = re.sub(r"[\s{}_]|\\text", "", subscript or "")
    base = match["base"].removeprefix("\\text{").removesuffix("}")
    count = len(re.findall(r"'|\\prime", primes or ""))
    return _encode_name(base + inner + "'" * count)


def _encode_name(name: str) -> str:
    """A text command whose content consists of letters only; other characters are encoded as letters."""
    name = re.sub(r"[\s\\{}_]|text", "", name)
    letters = "".join(
        char
        if char.isascii() and char.isalpha()
        else "q" + chr(97 + ord(char) // 16 % 16) + chr(97 + ord(char) % 16)
        for char in name
    )
    return rf"\text{{v{letters}}}"
