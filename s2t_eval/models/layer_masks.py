"""The kinds of attention in a model's layers, and their masks in the form that transformers takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_kinds(config: Any) -> set[str]:
    """The kinds of layers of a text model, by transformers' names; without any, all have full attention."""
    return set(getattr(config, "layer_types", None) or [FULL])


def masks_of_layers(
    config: Any, mask_of: Callable[[int | None], Tensor], dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """The masks of a pass, as a transformers model of this config takes them: one for every kind of layer.

    Args:
        config: of the text model.
        mask_of: window of a layer in positions (None: no window) -> what each query attends to, bool
            [batch, 1, queries, slots].
        dtype: of the masks of the eager attention implementation, which are additive.

    Returns:
        Kind of layer -> its mask; the mask alone where all layers have full attention.
    """
    masks = {}
    for kind in layer_kinds(config):
        mask = mask_of(config.sliding_window if kind == SLIDING else None)
        if config._attn_implementation == "eager":
            additive = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            mask = additive.masked_fill(~mask, torch.finfo(dtype).min)
        masks[kind] = mask
    return masks[FULL] if masks.keys() == {FULL} else masks
