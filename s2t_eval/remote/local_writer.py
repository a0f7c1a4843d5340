"""A model of this process beside servers of the other role: it writes as `RemoteWriter` does."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.drafting import Count, Drafting, IsEnd, RemoteDraft
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.shared_model import FreeRows, SharedModel
from s2t_eval.selection.policy import Policy


class LocalWriter(SharedModel[Any, Any]):
    """Drafts chunks of many texts in common passes, a token of each text a pass; see `Drafting`.

    Args:
        runner: the model.
        policy: its trigger may end drafts.
        count: counts the costs.
        rows: texts drafted at once.
        capacity: longest text in tokens, with its prompt and what is read behind it.
        is_end: ends a step of reasoning; None where there are none.
    """

    def __init__(
        self,
        runner: ModelRunner,
        policy: Policy,
        count: Count,
        rows: int,
        capacity: int,
        is_end: IsEnd | None = None,
    ) -> None:
        super().__init__(self._pass)
        self.runner = runner
        self.drafting = Drafting(runner, policy, count, is_end)
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
        """The next tokens of a text, at least one; see `RemoteWriter.draft`."""
        steps: list[DraftedStep] = await self.submit(RemoteDraft(seq, pin, limit, ahead))
        return steps

    @torch.inference_mode()
    def _pass(self, new: abc.Sequence[Any]) -> list[tuple[Any, Any]]:
        """Write a token of every text."""
        return [*self.drafting.run(new)]
