"""What an answer says besides itself: an approximation, a reason, a condition, a remark in brackets."""

from __future__ import annotations

import re

EXPLAINED = re.compile(
    r"\s*,?\s*[(\[]?\s*(?:\\text\{\s*[,(]*\s*|(?<![a-zA-Z\\])(?=[a-z]+ ))"
    r"(?:for (?:all|any|every|each|some)|for(?=\s*[\}$a-z\\])|where|if|when"
    r"|since|because|as (?:required|desired|needed)|with|provided|by|from|which|so|thus|hence|i\.e\."
    r"|assuming|given|per)(?![a-z]).*$",
    re.DOTALL,
)
"""A condition or a reason behind an answer."""
REMARK = re.compile(
    r"(?P<answer>.+?)\s*(?:\\text\{\s*\(\s*(?:or|i\.e\.|about|approximately|that is)?,?\s*\}"
    r"|\(\s*(?:\\text\{\s*)?(?:or|i\.e\.|about|approximately|that is|=|\\approx)\s*\}?)"
    r"\s*(?P<other>.+?)\s*(?:\)|\\text\{\s*\)\s*\})"
)
SAID = re.compile(
    r"^.*\\text\{(?![^{}]*\b(?:not|no)\b)[^{}]*\b(?:(?:is|are|equals?|has|have|gives|be)\b[^{}]*|:\s*)\}\s*(?=.)",
    re.DOTALL,
)
"""`\\triangle ABC \\text{ has area } 6`: the value stands behind the sentence."""


def forms(answer: str) -> list[str]:
    """The answer; both sides of an approximation; the answer without a reason behind it."""
    answer = re.sub(r"^\s*\\sim(?![a-z])\s*", "", answer)
    found = [part for part in re.split(r"\\approx(?![a-z])", answer) if part.strip()] or [answer]
    found = [*found, *(_without_explanation(part) for part in found)]
    return list(dict.fromkeys([*found, *(SAID.sub("", part).strip() or part for part in found)]))


def _without_explanation(text: str) -> str:
    """The answer without the condition or the reason that stands behind it."""
    bare = EXPLAINED.sub("", text).strip(" ,")
    return bare or text
