"""Sums over positions in chunks, so that logits over the vocabulary exist for one chunk at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 256
"""Positions of a chunk."""


def checkpointed_sum(function: Callable[..., Tensor], *columns: Tensor) -> Tensor:
    """The sum of `function(*parts)` over chunks of positions, a float32 scalar.

    Each chunk is recomputed in the backward pass (activation checkpointing), so no tensor of
    [positions, vocab] outlives its chunk.

    Args:
        function: maps a chunk's columns to a scalar.
        columns: tensors with one row a position.
    """
    total = columns[0].new_zeros((), dtype=torch.float32)
    for begin in range(0, len(columns[0]), CHUNK):
        parts = [column[begin : begin + CHUNK] for column in columns]
        total = total + checkpoint(function, *parts, use_reentrant=False)
    return total
