"""Generated texts with the information whether they reached the length limit."""

from __future__ import annotations

from typing import Any


class GeneratedText(str):
    """A response that a backend returns to the harness.

    It is serialised as a plain string, so that the harness's cache does not depend on this class.

    Args:
        text: the response.
        truncated: whether generation stopped at the length limit; None (default) if unknown. The harness
            also creates objects of this type from gold answers, with None.

    Example:
        >>> GeneratedText("18", truncated=True).truncated
        True
    """

    truncated: bool | None

    def __new__(cls, text: str, truncated: bool | None = None) -> GeneratedText:
        instance = super().__new__(cls, text)
        instance.truncated = truncated
        return instance

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


def was_truncated(text: str) -> bool | None:
    """Return whether a text reached the length limit; None if its backend does not report it."""
    return text.truncated if isinstance(text, GeneratedText) else None
