"""Sampling that depends on a request's own seed alone, not on the other requests of its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.ranges import TOP_P
from s2t_eval.selection.top_tokens import top_tokens

COLDEST = 1e-30
"""Temperatures below this draw as this one does. Logits divided by it are still finite in float32, and any
two that differ are so far apart that the most likely token has all the probability."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. The defaults sample from the plain distribution.

    Args:
        temperature: divides the logits; must be above 0.
        top_p: smallest set of most likely tokens whose mass reaches this, in (0, 1].
        top_k: most likely tokens kept; 0 keeps all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected above 0 to sample, got {self.temperature}")
        TOP_P.require("top_p", self.top_p)
        if self.top_k < 0:
            raise ValueError(f"sample_top_k: expected 0 (all) or more, got {self.top_k}")


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the parts' text, equal on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample(logits: Tensor, sampling: Sampling, uniform: Sequence[float]) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution at `uniform`.

    Order of the filters as in transformers: temperature, top-k, top-p.

    Args:
        logits: float32 [batch, vocab].
        uniform: a number in [0, 1) per row.

    Returns:
        Token ids [batch].
    """
    size = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    top, ids = top_tokens(logits, size)
    probs = (top / max(sampling.temperature, COLDEST)).softmax(-1)
    before = probs.cumsum(-1) - probs
    # The first token always stays, also where top_p is 0 in float32.
    probs = probs.masked_fill((before >= sampling.top_p) & (before > 0), 0.0)
    total = probs.cumsum(-1)
    drawn = torch.tensor(uniform, dtype=total.dtype, device=total.device)[:, None] * total[:, -1:]
    # The first token whose cumulated mass exceeds the draw; rounding must not lead beyond the last token.
    place = (total <= drawn).sum(-1, keepdim=True)
    last = (probs > 0).sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(place, last))[:, 0]
