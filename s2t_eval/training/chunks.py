"""Sums over positions whose logits over the vocabulary are never kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 256
"""Positions whose logits over the vocabulary exist at once."""


def recomputed_sum(function: Callable[..., Tensor], *columns: Tensor, size: int | None = None) -> Tensor:
    """The sum of `function(*parts)` over chunks of positions, float32 scalar.

    Each chunk is computed again in the backward pass instead of being kept, so no tensor of
    [positions, vocab] outlives its chunk.

    Args:
        function: a chunk's columns -> a scalar.
        columns: tensors with one row a position.
        size: positions of a chunk; None takes `CHUNK`.
    """
    size = size or CHUNK
    total = columns[0].new_zeros((), dtype=torch.float32)
    for begin in range(0, len(columns[0]), size):
        parts = [column[begin : begin + size] for column in columns]
        total = total + checkpoint(function, *parts, use_reentrant=False)
    return total
