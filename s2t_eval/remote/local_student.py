"""A student of this process beside a teacher on servers: it drafts as `RemoteStudent` does."""

from __future__ import annotations

from collections import abc

import torch

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.drafting import Draft, Drafting, IsEnd
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.shared_model import FreeRows, SharedModel
from s2t_eval.selection.policy import Policy


class LocalStudent(SharedModel[Draft, list[DraftedStep]]):
    """Drafts chunks of many texts in common passes, a token of each text a pass; see `Drafting`.

    Args:
        runner: the student.
        policy: its trigger may end drafts.
        rows: texts drafted at once.
        capacity: longest text in tokens, prompt included.
        is_end: ends a step of reasoning; None where there are none.
    """

    def __init__(
        self, runner: ModelRunner, policy: Policy, rows: int, capacity: int, is_end: IsEnd | None = None
    ) -> None:
        super().__init__(self._pass)
        self.drafting = Drafting(runner, policy, _count, is_end)
        self._rows = FreeRows(rows)
        runner.allocate(rows, capacity, 1)

    def pin(self, seq: Sequence) -> int:
        """The cache row of a text."""
        return self._rows.take(seq.index)

    def release(self, seq: Sequence) -> None:
        """Free the row of a text that has ended."""
        self._rows.give_back(seq.index)

    async def draft(
        self, pin: int, seq: Sequence, limit: int, is_plain: bool, ahead: abc.Sequence[int] = ()
    ) -> list[DraftedStep]:
        """The next tokens of a text, at least one; see `RemoteStudent.draft`."""
        return await self.submit(Draft(seq, pin, limit, ahead))

    @torch.inference_mode()
    def _pass(self, new: abc.Sequence[Draft]) -> list[tuple[Draft, list[DraftedStep]]]:
        return self.drafting.run(new)


def _count(seq: Sequence, prompt_tokens: int, tokens: int) -> None:
    seq.usage.forwards += 1
    seq.usage.prefill_tokens += prompt_tokens
