"""What a text needs of its student and of its teacher, on servers or in this process."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any, Protocol

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.teacher import TeacherStep


class Writer(Protocol):
    """Drafts chunks of a text, as a student or a teacher does.

    A pin is the place of a text: its server, or its cache row.
    """

    def pin(self, seq: Sequence) -> Any:
        """The place of a text that begins."""
        ...

    def release(self, seq: Sequence) -> None:
        """Give up the place of a text that has ended."""
        ...

    def close(self) -> None:
        """Wait for what still runs in other threads."""
        ...

    async def draft(
        self, pin: Any, seq: Sequence, limit: int, is_plain: bool, ahead: Seq[int] = ()
    ) -> list[DraftedStep]:
        """The next tokens of a text behind `ahead`, at least one and at most `limit`."""
        ...


class Teacher(Writer, Protocol):
    """Scores tokens at the steps of a text, beside writing its own."""

    async def step(self, pin: Any, seq: Sequence, ids: Seq[int], scored: Seq[int]) -> TeacherStep:
        """After `ids`: log-probabilities of the tokens `scored`, and the argmax."""
        ...

    async def chunk(self, pin: Any, seq: Sequence, steps: Seq[DraftedStep]) -> list[TeacherStep]:
        """The same at every step of a chunk that follows `seq.ids`."""
        ...
