"""The most likely tokens of a step: exact, in a fixed order, and the vocabulary is read once.

Logits of low precision tie often. `torch.topk` breaks ties as it happens; here the smaller id comes first,
so the first candidate is always the token that greedy decoding takes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 64
"""Tokens whose largest logit stands for all of them until the best blocks are known."""


class TopTokens(NamedTuple):
    """The k most likely tokens, best first."""

    values: Tensor
    """[batch, k]"""
    indices: Tensor
    """[batch, k]"""

    def first(self, k: int) -> TopTokens:
        """The k best of them; their order is fixed, so a longer list begins with every shorter one."""
        return TopTokens(self.values[:, :k], self.indices[:, :k])


def top_tokens(logits: Tensor, k: int) -> TopTokens:
    """The k largest logits float32 [batch, vocab] and their ids; among equals the smaller id first.

    The k best tokens lie in the k blocks with the largest maxima, so the rest is read once.
    """
    vocab = logits.shape[-1]
    k = min(k, vocab)
    ids = torch.arange(vocab, device=logits.device).expand_as(logits)
    num_blocks = vocab // BLOCK
    if num_blocks <= k:
        return _best(logits, ids, k)
    blocks, tail = logits[:, : num_blocks * BLOCK], logits[:, num_blocks * BLOCK :]
    largest = blocks.unflatten(-1, (num_blocks, BLOCK)).amax(-1)
    chosen = _best(largest, ids[:, :num_blocks], k).indices
    inside = (chosen[..., None] * BLOCK + torch.arange(BLOCK, device=ids.device)).flatten(1)
    values = torch.cat([logits.gather(-1, inside), tail], dim=-1)
    return _best(values, torch.cat([inside, ids[:, num_blocks * BLOCK :]], dim=-1), k)


def _best(values: Tensor, ids: Tensor, k: int) -> TopTokens:
    """The k largest of values [batch, m] with these ids; among equals the smaller id first."""
    # A NaN is to be seen, not passed over: whatever its sign, it comes first.
    bits = values.masked_fill(values.isnan(), math.inf).view(torch.int32).long()
    # As integers, negative floats run backwards.
    ranked = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    at = ((ranked << 32) - ids).topk(k, dim=-1).indices
    return TopTokens(values.gather(-1, at), ids.gather(-1, at))
