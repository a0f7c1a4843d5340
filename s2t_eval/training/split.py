"""The split of labelled texts into those that are learnt from and those that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class OfQuestion(Protocol):
    """A text that belongs to a question."""

    @property
    def question_hash(self) -> str:
        """Of the normalised question."""


TextT = TypeVar("TextT", bound=OfQuestion)


def split_by_question(
    texts: Sequence[TextT], held_out: float, error: type[ValueError]
) -> tuple[list[TextT], list[TextT]]:
    """Training and held-out texts, in their order; a question is never on both sides.

    Args:
        texts: labelled.
        held_out: share of the questions to hold out, at least one.
        error: what too few questions for two sides raise.
    """
    questions = sorted({text.question_hash for text in texts})
    count = max(1, round(held_out * len(questions)))
    if count >= len(questions):
        raise error(
            f"labels: {len(questions)} different questions cannot be split into training and "
            f"{held_out:.0%} held-out ones; label more problems"
        )
    chosen = set(questions[:count])
    train = [text for text in texts if text.question_hash not in chosen]
    return train, [text for text in texts if text.question_hash in chosen]
