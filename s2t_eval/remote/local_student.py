"""A student of this process beside a teacher on servers: it drafts as `RemoteStudent` does."""

from __future__ import annotations

import math
from collections import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2t_eval.engine.prefix_cache import cached_prefix
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import not_finite
from s2t_eval.remote.protocol import SUPPORT, DraftedStep
from s2t_eval.remote.shared_model import FreeRows, SharedModel
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.step import Step, TextPositions

LATER = ("kl", "random")
"""Triggers that are decided after a chunk was drafted: by the teacher, and by numbers that are drawn only at
steps that become text."""


@dataclass(eq=False)
class _Draft:
    """A chunk that is being drafted."""

    seq: Sequence
    row: int
    limit: int
    steps: list[DraftedStep] = field(default_factory=list)
    hidden: Tensor | None = None
    """the student's state that predicts the next step, [hidden]"""

    @property
    def ids(self) -> list[int]:
        """The text and the draft."""
        return [*self.seq.ids, *(step.token for step in self.steps)]


class LocalStudent(SharedModel[_Draft, list[DraftedStep]]):
    """Drafts chunks of many texts in common passes, a token of each text a pass.

    A draft ends where its text would end, where the trigger fires, and behind a token of a text that samples:
    what would follow might be discarded. Under the triggers `LATER` it ends at its limit.

    Args:
        runner: the student.
        policy: its trigger is evaluated here unless it is one of `LATER`.
        rows: texts drafted at once.
        capacity: longest text in tokens, prompt included.
    """

    def __init__(self, runner: ModelRunner, policy: Policy, rows: int, capacity: int) -> None:
        super().__init__(self._pass)
        self.runner = runner
        self.policy = policy
        self._rows = FreeRows(rows)
        self._active: list[_Draft] = []
        runner.allocate(rows, capacity + 1)

    def pin(self, seq: Sequence) -> int:
        """The cache row of a text."""
        return self._rows.take(seq.index)

    def release(self, seq: Sequence) -> None:
        """Free the row of a text that has ended."""
        self._rows.give_back(seq.index)

    async def draft(self, pin: int, seq: Sequence, limit: int, is_plain: bool) -> list[DraftedStep]:
        """The next tokens of a text, at least one; see `RemoteStudent.draft`."""
        return await self.submit(_Draft(seq, pin, limit))

    @torch.inference_mode()
    def _pass(self, new: abc.Sequence[_Draft]) -> list[tuple[_Draft, list[DraftedStep]]]:
        """One more step for every draft; returns those that end with it."""
        self._prefill([draft for draft in new if not draft.seq.output])
        self._active = sorted([*self._active, *new], key=lambda draft: draft.row)
        self._extend([draft for draft in self._active if draft.hidden is None])
        self._draft_step()
        ended = [draft for draft in self._active if self._is_ended(draft)]
        self._active = [draft for draft in self._active if draft not in ended]
        return [(draft, draft.steps) for draft in ended]

    def _prefill(self, drafts: abc.Sequence[_Draft]) -> None:
        """Read new prompts; prompts with the same beginning share it."""
        if not drafts:
            return
        rows, texts = [draft.row for draft in drafts], [draft.seq.ids for draft in drafts]
        states, computed = self.runner.prefill(rows, texts)
        for draft, state, tokens in zip(drafts, states, computed, strict=True):
            draft.hidden = state
            draft.seq.usage.forwards += 1
            draft.seq.usage.prefill_tokens += tokens

    def _extend(self, drafts: abc.Sequence[_Draft]) -> None:
        """Read the tokens that rows lack: the last of each draft, and what replaced a discarded one."""
        tokens = []
        for draft in drafts:
            length = cached_prefix(draft.ids, self.runner.tokens[draft.row])
            self.runner.truncate(draft.row, length)
            tokens.append(draft.ids[length:])
        states = self.runner.extend([draft.row for draft in drafts], tokens) if drafts else []
        for draft, own in zip(drafts, states, strict=True):
            draft.hidden = own[-1]
            draft.seq.usage.forwards += 1

    def _draft_step(self) -> None:
        """The student's next token of every draft, with what the triggers read of the step."""
        hidden = torch.stack([draft.hidden for draft in self._active if draft.hidden is not None])
        step = Step(self.runner.head(hidden), None, _no_draw, hidden, self._positions)
        top = step.top_of(SUPPORT)
        log_probs, ids = (top.values - step.log_total).tolist(), top.indices.tolist()
        divergences: list[float | None] = [None] * len(ids)
        if self.policy.trigger.name not in LATER:
            divergences = self.policy.trigger.divergence(step).tolist()
        for draft, columns in zip(self._active, zip(ids, log_probs, divergences, strict=True), strict=True):
            if not math.isfinite(columns[1][0]):
                raise not_finite(self.runner, draft.seq)
            draft.steps.append(DraftedStep(columns[0][0], *columns))
            draft.hidden = None

    def _positions(self) -> TextPositions:
        """The position of each draft's next token in its text."""
        ids = [draft.ids[-1] for draft in self._active]
        counts = [len(draft.seq.output) + len(draft.steps) for draft in self._active]
        return TextPositions(*(torch.tensor(column, device=self.runner.device) for column in (ids, counts)))

    def _is_ended(self, draft: _Draft) -> bool:
        seq, steps = draft.seq, draft.steps
        if len(steps) >= draft.limit or seq.request.sampling is not None:
            return True
        divergence = steps[-1].divergence
        is_past_warmup = len(seq.output) + len(steps) > self.policy.warmup_tokens
        if divergence is not None and divergence > self.policy.trigger_threshold and is_past_warmup:
            return True
        return seq.stop.would_finish([*seq.output, *(step.token for step in steps)]) is not None


def _no_draw() -> Tensor:
    raise AssertionError("random triggers are decided after a draft")
