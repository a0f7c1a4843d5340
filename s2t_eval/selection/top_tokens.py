"""The most likely tokens of a step: exact, in a fixed order, with one pass over the vocabulary.

Logits of low precision are often equal. `torch.topk` orders equal values arbitrarily; here the smaller id
comes first, so the first candidate is always the token that greedy decoding selects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 64
"""Size of the blocks of tokens that are first compared by their largest logit."""


class TopTokens(NamedTuple):
    """The k most likely tokens, best first."""

    values: Tensor
    """[batch, k]"""
    indices: Tensor
    """[batch, k]"""

    def first(self, k: int) -> TopTokens:
        """The k best of them; their order is fixed, so a longer list begins with every shorter one."""
        return TopTokens(self.values[:, :k], self.indices[:, :k])

    def at(self, rows: Sequence[int]) -> TopTokens:
        """Those of some rows."""
        return TopTokens(self.values[list(rows)], self.indices[list(rows)])


def top_tokens(logits: Tensor, k: int) -> TopTokens:
    """The k largest of logits float32 [batch, vocab] and their ids; of equal logits the smaller id is first.

    The k best tokens are in the k blocks with the largest maxima, so the other blocks are read once.
    """
    vocab = logits.shape[-1]
    k = min(k, vocab)
    ids = torch.arange(vocab, device=logits.device).expand_as(logits)
    if vocab // BLOCK <= k:
        return _best(logits, ids, k)
    blocks, tail = _in_blocks(logits)
    chosen = _best(blocks.amax(-1), ids[:, : blocks.shape[1]], k).indices
    inside = (chosen[..., None] * BLOCK + torch.arange(BLOCK, device=ids.device)).flatten(1)
    values = torch.cat([logits.gather(-1, inside), tail], dim=-1)
    return _best(values, torch.cat([inside, ids[:, vocab - tail.shape[-1] :]], dim=-1), k)


def top_values(logits: Tensor, k: int) -> Tensor:
    """The k largest of logits float [batch, vocab], largest first; the other blocks are read once.

    Which of equal logits are meant does not matter for their values, so they are not ordered by id.
    """
    vocab = logits.shape[-1]
    k = min(k, vocab)
    if vocab // BLOCK <= k:
        return logits.topk(k, dim=-1).values
    blocks, tail = _in_blocks(logits)
    chosen = blocks.amax(-1).topk(k, dim=-1).indices
    inside = blocks.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1)
    return torch.cat([inside, tail], dim=-1).topk(k, dim=-1).values


def _in_blocks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [batch, vocab] in blocks [batch, blocks, BLOCK], and the rest, which fills no block."""
    end = logits.shape[-1] // BLOCK * BLOCK
    return logits[:, :end].unflatten(-1, (-1, BLOCK)), logits[:, end:]


def _best(values: Tensor, ids: Tensor, k: int) -> TopTokens:
    """The k largest of values [batch, m] with these ids; of equal values the smaller id comes first."""
    # A NaN of either sign sorts first, so that the check for finite logits detects it.
    # Adding 0 makes 0 of -0, which equals it and has other bits.
    bits = (values.masked_fill(values.isnan(), math.inf) + 0.0).view(torch.int32).long()
    # As integers, the bit patterns of negative floats are in reverse order.
    ranked = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    at = ((ranked << 32) - ids).topk(k, dim=-1).indices
    return TopTokens(values.gather(-1, at), ids.gather(-1, at))
