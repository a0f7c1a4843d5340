"""Duo-causal attention: a query attends to slots of no later position and of no greater depth.

A slot is identified by the position of its token and by the pass (depth, from 0) that wrote it. The same
rule applies in training, where a depth covers the whole sequence at once, and in decoding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2t_eval.models.layer_masks import masks_of_layers

NOWHERE = 1 << 30
"""Position of padding: after every query, so that no query attends to it."""


class Places(NamedTuple):
    """Positions and depths of queries or slots, [batch, count] each."""

    positions: Tensor
    depths: Tensor

    def concat(self, more: Places) -> Places:
        """These, followed by `more`."""
        return Places(*(torch.cat(pair, dim=1) for pair in zip(self, more, strict=True)))


def attention_mask(queries: Places, slots: Places, window: int | None = None) -> Tensor:
    """What each query attends to, bool [batch, queries, slots]; `window` is in positions."""
    at, of = queries.positions[..., :, None], slots.positions[..., None, :]
    seen = (of <= at) & (slots.depths[..., None, :] <= queries.depths[..., :, None])
    return seen if window is None else seen & (of > at - window)


def layer_masks(
    config: Any, queries: Places, slots: Places, only_own: Tensor, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """Masks for transformers: one for every type of layer; additive for eager attention.

    Args:
        config: the model's text configuration.
        queries: of this pass; their own slots are the last.
        slots: everything in the cache, this pass's slots included.
        only_own: queries whose slot no other query may attend to, bool [batch, queries].
        dtype: of additive masks.
    """
    count = queries.positions.shape[1]
    hidden = only_own[:, None, :] & ~torch.eye(count, dtype=torch.bool, device=only_own.device)

    def mask_of(window: int | None) -> Tensor:
        seen = attention_mask(queries, slots, window)
        seen[..., -count:] &= ~hidden
        return seen[:, None]

    return masks_of_layers(config, mask_of, dtype)
