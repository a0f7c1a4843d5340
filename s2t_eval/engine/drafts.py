"""Tokens that a student has written ahead of its teacher, and what a trigger reads of them later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.selection.router import NUM_LOG_PROBS
from s2t_eval.selection.step import Sums, TextPositions, sums
from s2t_eval.selection.top_tokens import TopTokens, top_tokens

NUM_KEPT = 64
"""Most likely tokens kept of a drafted step: the default support of the KL divergence."""


class Draft(NamedTuple):
    """One drafted step: what the student computed there, so that it need not be computed again.

    Its whole logits would take 0.6 MB at 152,000 tokens; the state from which they can be made again
    takes 4 KB.
    """

    token: int
    """what is appended unless a selector picks another token: greedy's, or a sampled one"""
    greedy: int
    hidden: Tensor
    """the student's state that the step was computed from, [hidden]"""
    top: TopTokens
    """the most likely tokens and their logits, [kept] each"""
    entropy: float | None
    """of these tokens, in nats; None where the step cannot fire"""
    observed: dict[int, float]
    """divergences of the observed triggers that need no teacher, by their place"""
    labels: tuple[Tensor, Tensor] | None = None
    """the most likely tokens and their log-probabilities, where they are recorded"""


@dataclass
class Chunk:
    """What one row has drafted since its text was verified last."""

    drafts: list[Draft] = field(default_factory=list)
    first_state: Tensor | None = None
    """the teacher's state at the prompt's end, from which a text's first step is verified"""
    has_ended: bool = False
    """the last draft would end the text"""
    idle: int = 0
    """tokens that the student has read behind a draft that would end the text, while the row waited"""
    last: int | None = None
    """the token that the student reads next; None: the text's last one"""
    is_closed: bool = False
    """the student may read nothing behind the last token: it is the last within the limit, or was sampled"""
    is_broken: bool = False
    """the student's logits behind the last token are not finite"""
    is_spoiled: bool = False
    """the same, or behind what it has read while the row waited: its states there are no numbers"""

    @property
    def must_verify(self) -> bool:
        """Whether the row can neither draft on nor wait."""
        return self.is_closed or self.is_broken

    @property
    def rounds(self) -> int:
        """Steps of the student since the text was verified last."""
        return len(self.drafts) + self.idle

    @property
    def tokens(self) -> list[int]:
        """The drafted tokens."""
        return [draft.token for draft in self.drafts]


class DraftedSteps:
    """Drafted steps as a trigger reads them (`StepView`): kept tokens first, whole logits only on demand.

    Args:
        drafts: the steps, of any rows.
        head: the student's logits [n, vocab] of states [n, hidden].
        teacher_at: the teacher's logits at ids [steps, m].
    """

    def __init__(
        self,
        drafts: Sequence[Draft],
        head: Callable[[Tensor], Tensor],
        teacher_at: Callable[[Tensor], Tensor],
    ) -> None:
        self.teacher_at: Callable[[Tensor], Tensor] | None = teacher_at
        self._drafts = drafts
        self._head = head

    @cached_property
    def hidden(self) -> Tensor:
        """The student's states, [steps, hidden]."""
        return torch.stack([draft.hidden for draft in self._drafts])

    @cached_property
    def logits(self) -> Tensor:
        """The student's logits, computed once more, float32 [steps, vocab]."""
        return self._head(self.hidden)

    @cached_property
    def kept(self) -> TopTokens:
        """The most likely tokens as they were when the steps were drafted, [steps, kept]."""
        columns = zip(*(draft.top for draft in self._drafts), strict=True)
        return TopTokens(*map(torch.stack, columns))

    @property
    def top(self) -> TopTokens:
        """As `Step.top`."""
        return self.top_of(NUM_LOG_PROBS)

    def top_of(self, size: int) -> TopTokens:
        """As `Step.top_of`."""
        if size <= self.kept.values.shape[-1]:
            return self.kept.first(size)
        return top_tokens(self.logits, size)

    @cached_property
    def sums(self) -> Sums:
        """As `Step.sums`."""
        return sums(self.logits)

    @property
    def log_total(self) -> Tensor:
        """As `Step.log_total`."""
        return self.sums.log_total[:, None]

    def positions(self) -> TextPositions:
        """Never called: triggers that depend on it need no teacher, so they are evaluated in drafting."""
        raise AssertionError("a trigger of positions reads no drafts")

    def draw(self) -> Tensor:
        """Never called: a discarded draft would use up a number, so random triggers decode in lockstep."""
        raise AssertionError("a random trigger reads no drafts")
