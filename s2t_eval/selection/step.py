"""One decoding step as triggers and selectors read it: the student's logits and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from s2t_eval.selection.router import NUM_LOG_PROBS
from s2t_eval.selection.top_tokens import TopTokens, top_tokens

CACHED = {"cpu": 2**21}
CACHED_ELSEWHERE = 2**30
"""Bytes of logits that are summed at a time: what fits into a CPU's cache is read from memory once."""


class Sums(NamedTuple):
    """Sums over the vocabulary of w = exp(logit - largest), [batch] each."""

    largest: Tensor
    total: Tensor
    """of w"""
    weighted: Tensor
    """of w * (logit - largest)"""

    @property
    def log_total(self) -> Tensor:
        """log of the sum of exp(logit), [batch]."""
        return self.total.log() + self.largest


def sums(logits: Tensor) -> Sums:
    """Sums of logits [batch, vocab], a few rows at a time."""
    limit = CACHED.get(logits.device.type, CACHED_ELSEWHERE)
    size = max(1, limit // (logits.element_size() * logits.shape[-1]))
    parts = [_sums(part) for part in logits.split(size)]
    return Sums(*map(torch.cat, zip(*parts, strict=True)))


def _sums(logits: Tensor) -> Sums:
    largest = logits.amax(-1, keepdim=True)
    shifted = logits - largest  # otherwise the rounding of large logits exceeds a small entropy
    weights = shifted.exp()
    weighted = torch.linalg.vecdot(weights, shifted)
    if not bool(weighted.isfinite().all()):
        # Masked tokens (-inf) have no weight, but 0 * -inf is NaN.
        weighted = torch.linalg.vecdot(weights, shifted.clamp(min=-1e30))
    return Sums(largest[:, 0], weights.sum(-1), weighted)


class TextPositions(NamedTuple):
    """The position of a step in each row's text."""

    last_ids: Tensor
    """the token before the step; at the first step the prompt's last token, [batch]"""
    num_tokens: Tensor
    """number of tokens of the text before the step, [batch]"""


@dataclass(frozen=True)
class Step:
    """The inputs of a trigger: one step of a batch of rows.

    Args:
        logits: the student's, float32 [batch, vocab].
        teacher_at: returns the teacher's logits at ids [batch, m] as float32 [batch, m]; None where no
            teacher runs in lockstep.
        draw: returns a uniform number in [0, 1) per row, [batch], from the rows' own seeds.
        hidden: the student's last hidden states [batch, hidden], for a learned router.
        positions: returns the position of the step in each row's text, for triggers that depend on it.
    """

    logits: Tensor
    teacher_at: Callable[[Tensor], Tensor] | None
    draw: Callable[[], Tensor]
    hidden: Tensor | None = None
    positions: Callable[[], TextPositions] | None = None
    _tops: dict[int, TopTokens] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def top(self) -> TopTokens:
        """The most likely tokens, at most `NUM_LOG_PROBS`; computed once a step."""
        return self.top_of(NUM_LOG_PROBS)

    def top_of(self, size: int) -> TopTokens:
        """The `size` most likely tokens; the beginning of a longer list where there is one."""
        for length, longer in self._tops.items():
            if length >= size:
                return longer.first(size)
        self._tops[size] = top_tokens(self.logits, size)
        return self._tops[size]

    def top_of_rows(self, rows: Sequence[int], size: int) -> TopTokens:
        """The `size` most likely tokens of some rows, from the list of all rows where it is long enough."""
        if not rows or size > max(self._tops, default=0):
            return top_tokens(self.logits[list(rows)], size)
        return self.top_of(size).at(rows)

    @cached_property
    def sums(self) -> Sums:
        """Sums of exponentials over the vocabulary; computed once a step."""
        return sums(self.logits)

    @property
    def log_total(self) -> Tensor:
        """log of the sum of exp(logits), [batch, 1]: logits minus this are log-probabilities."""
        return self.sums.log_total[:, None]


class StepView(Protocol):
    """What a trigger reads: a `Step`, or steps whose student side was computed earlier (drafts)."""

    @property
    def logits(self) -> Tensor:
        """The student's, float32 [batch, vocab]."""
        ...

    @property
    def teacher_at(self) -> Callable[[Tensor], Tensor] | None:
        """The teacher's logits at ids [batch, m]."""
        ...

    @property
    def draw(self) -> Callable[[], Tensor]:
        """A uniform number in [0, 1) per row, [batch]."""
        ...

    @property
    def hidden(self) -> Tensor | None:
        """The student's last hidden states, [batch, hidden]."""
        ...

    @property
    def positions(self) -> Callable[[], TextPositions] | None:
        """The position of the step in each row's text."""
        ...

    @property
    def top(self) -> TopTokens:
        """The most likely tokens, at most `NUM_LOG_PROBS`."""
        ...

    @property
    def sums(self) -> Sums:
        """Sums of exponentials over the vocabulary."""
        ...

    @property
    def log_total(self) -> Tensor:
        """log of the sum of exp(logits), [batch, 1]."""
        ...

    def top_of(self, size: int) -> TopTokens:
        """The `size` most likely tokens."""
        ...
