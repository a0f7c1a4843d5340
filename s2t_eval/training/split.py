"""The split of labelled texts into a training set and a held-out set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class OfQuestion(Protocol):
    """A text that belongs to a question."""

    @property
    def question_hash(self) -> str:
        """Hash of the normalised question."""


TextT = TypeVar("TextT", bound=OfQuestion)


def split_by_question(
    texts: Sequence[TextT], held_out: float, error: type[ValueError]
) -> tuple[list[TextT], list[TextT]]:
    """Training and held-out texts, in their order; texts of one question are always on the same side.

    Args:
        texts: labelled texts.
        held_out: share of the questions to hold out; at least one question is.
        error: class of the error that is raised if there are too few questions for two sides.
    """
    questions = sorted({text.question_hash for text in texts})
    count = max(1, round(held_out * len(questions)))
    if count >= len(questions):
        raise error(
            f"labels: {len(questions)} different questions cannot be split into training and "
            f"{held_out:.0%} held-out ones; label more problems"
        )
    held_out_questions = set(questions[:count])
    train = [text for text in texts if text.question_hash not in held_out_questions]
    return train, [text for text in texts if text.question_hash in held_out_questions]
