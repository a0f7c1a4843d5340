"""A generated text that knows whether it was cut off."""

from __future__ import annotations

from typing import Any


class GeneratedText(str):
    """What a backend hands to the harness: a text, whether it ended at its length limit, and how it began.

    A plain text where somebody stores it (the harness's cache), so that nothing depends on it. The
    harness makes another of the same type, out of a gold answer: of that nothing is known.
    """

    truncated: bool | None
    in_thought: bool
    """whether the prompt left a thought open, in which the text begins"""

    def __new__(cls, text: str, truncated: bool | None = None, in_thought: bool = False) -> GeneratedText:
        made = super().__new__(cls, text)
        made.truncated, made.in_thought = truncated, in_thought
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


def was_truncated(text: str) -> bool | None:
    """Whether a text ended at its length limit; None where its backend does not tell."""
    return text.truncated if isinstance(text, GeneratedText) else None


def began_in_thought(text: str) -> bool:
    """Whether a text began inside a thought that its prompt opened; False where its backend does not tell."""
    return text.in_thought if isinstance(text, GeneratedText) else False
