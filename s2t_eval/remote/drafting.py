"""Chunks of text by a model of this process, for many texts in common passes."""

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
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.step import Step, TextPositions

LATER = ("kl", "random")
"""Triggers that are decided after a chunk was drafted: by the teacher, and by numbers that are drawn only at
steps that become text."""

IsEnd = abc.Callable[[abc.Sequence[int]], bool]
"""Whether the tokens behind a text end with their last one, for methods that draft steps of reasoning."""

Count = abc.Callable[[Sequence, int, int], None]
"""Counts the cost of a pass over a text: the sequence, the tokens of its prompt that were computed, and those
behind it."""


@dataclass(eq=False)
class RemoteDraft:
    """A chunk that is being drafted."""

    seq: Sequence
    row: int
    limit: int
    ahead: abc.Sequence[int] = ()
    """tokens behind the text that are not part of it yet, and precede the draft"""
    steps: list[DraftedStep] = field(default_factory=list)
    hidden: Tensor | None = None
    """the model's state that predicts the next step, [hidden]"""

    @property
    def unconfirmed(self) -> list[int]:
        """The tokens behind the text, those of the draft included."""
        return [*self.ahead, *(step.token for step in self.steps)]

    @property
    def ids(self) -> list[int]:
        """The text and the tokens behind it."""
        return [*self.seq.ids, *self.unconfirmed]


class Drafting:
    """Drafts a token of every text a pass.

    A draft ends where its text would end, where the trigger fires, where a step of reasoning ends, and behind
    a token of a text that samples: what would follow might be discarded. Under the triggers `LATER` it
    ends at its limit.

    Args:
        runner: the model, whose cache has a row for each text.
        policy: its trigger is evaluated here unless it is one of `LATER`.
        count: counts the costs.
        is_end: ends a step of reasoning; None where there are none.
    """

    def __init__(self, runner: ModelRunner, policy: Policy, count: Count, is_end: IsEnd | None) -> None:
        self.runner = runner
        self.policy = policy
        self.count = count
        self.is_end = is_end
        self._active: list[RemoteDraft] = []

    def run(self, new: abc.Sequence[RemoteDraft]) -> list[tuple[RemoteDraft, list[DraftedStep]]]:
        """One more step for every draft; returns those that end with it."""
        self._prefill([draft for draft in new if not draft.seq.output and not draft.ahead])
        self._active = sorted([*self._active, *new], key=lambda draft: draft.row)
        if not self._active:
            return []
        self._extend([draft for draft in self._active if draft.hidden is None])
        self._draft_step()
        ended = [draft for draft in self._active if self.is_ended(draft)]
        self._active = [draft for draft in self._active if draft not in ended]
        return [(draft, draft.steps) for draft in ended]

    def _prefill(self, drafts: abc.Sequence[RemoteDraft]) -> None:
        """Read new prompts; prompts with the same beginning share it."""
        if not drafts:
            return
        rows, texts = [draft.row for draft in drafts], [draft.seq.ids for draft in drafts]
        states, computed = self.runner.prefill(rows, texts)
        for draft, state, tokens in zip(drafts, states, computed, strict=True):
            draft.hidden = state
            self.count(draft.seq, tokens, 0)

    def _extend(self, drafts: abc.Sequence[RemoteDraft]) -> None:
        """Read the tokens that rows lack: the last of each draft, and what replaced a discarded one."""
        tokens = []
        for draft in drafts:
            ids = draft.ids
            length = cached_prefix(ids, self.runner.tokens[draft.row])
            self.runner.truncate(draft.row, length)
            tokens.append(ids[length:])
        states = self.runner.extend([draft.row for draft in drafts], tokens) if drafts else []
        for draft, own, new in zip(drafts, states, tokens, strict=True):
            draft.hidden = own[-1]
            self.count(draft.seq, 0, len(new))

    def _draft_step(self) -> None:
        """The next token of every draft, with what the triggers read of the step."""
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
        counts = [len(draft.seq.output) + len(draft.unconfirmed) for draft in self._active]
        return TextPositions(*(torch.tensor(column, device=self.runner.device) for column in (ids, counts)))

    def is_ended(self, draft: RemoteDraft) -> bool:
        """Whether a draft ends with its last token."""
        seq, steps = draft.seq, draft.steps
        if len(steps) >= draft.limit or seq.request.sampling is not None:
            return True
        tokens = draft.unconfirmed
        divergence = steps[-1].divergence
        is_past_warmup = len(seq.output) + len(tokens) > self.policy.warmup_tokens
        if divergence is not None and self.policy.fires(divergence) and is_past_warmup:
            return True
        if self.is_end is not None and self.is_end(tokens):
            return True
        return seq.stop.would_finish([*seq.output, *tokens]) is not None


def _no_draw() -> Tensor:
    raise AssertionError("random triggers are decided after a draft")
