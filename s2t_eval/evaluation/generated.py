"""A generated text that knows whether it was cut off."""

from __future__ import annotations

from typing import Any


class GeneratedText(str):
    """What a backend hands to the harness: a text, and whether it ended at its length limit.

    A plain text where somebody stores it (the harness's cache), so that nothing depends on it. The
    harness makes another of the same type, out of a gold answer: of that nothing is known.
    """

    truncated: bool | None

    def __new__(cls, text: str, truncated: bool | None = None) -> GeneratedText:
        made = super().__new__(cls, text)
        made.truncated = truncated
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


def was_truncated(text: str) -> bool | None:
    """Whether a text ended at its length limit; None where its backend does not tell."""
    return text.truncated if isinstance(text, GeneratedText) else None
