"""Attention of a packed pass over the slot cache, plugged into transformers' attention interface.

The tokens of all rows pass through the model as ONE sequence without padding: projections and MLPs do
not depend on which row a token belongs to. Only attention does. It is called here with the pass's plan,
writes the new keys and values into their slots, and restricts every token to its own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from s2t_eval.engine.kv_cache import KVCache

IMPLEMENTATION = "s2t_slots"


@dataclass
class Segment:
    """Neighbouring rows with equally many new tokens, which attend together.

    Args:
        tokens: positions of the segment's tokens in the packed pass, row by row; a slice, or indices.
        rows: the rows of the cache; a slice, or indices.
        positions: position of each token, [rows, queries].
        own: the slot each token was written to, [rows, queries]; differs from the position only for
            branches, which share one position.
        length: slots that any of the tokens may attend to.
    """

    tokens: slice | Tensor
    rows: slice | Tensor
    positions: Tensor
    own: Tensor
    length: int
    _masks: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    def attention_mask(self, window: int | None) -> Tensor:
        """What each query attends to, bool [rows, queries, length]: the prefix (or its window) and itself."""
        slots = torch.arange(self.length, device=self.positions.device)
        position = self.positions[..., None]
        seen = slots < position
        if window is not None:
            seen &= slots > position - window
        return seen | (slots == self.own[..., None])

    def mask(self, window: int | None, group: int, like: Tensor) -> Tensor:
        """The additive mask: 0 where a query attends to a slot, else minus infinity; made once a pass.

        Args:
            window: of sliding layers.
            group: query heads folded into the query axis.
            like: gives dtype and device.

        Returns:
            [rows, 1, group * queries, length], or with one query a row [rows, 1, 1, length].
        """
        key = (window, group, like.dtype, like.device)
        if key not in self._masks:
            seen = self.attention_mask(window)[:, None].to(like.device)
            if seen.shape[2] > 1 and group > 1:
                seen = seen[:, :, None].expand(-1, -1, group, -1, -1).flatten(2, 3)
            mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
            self._masks[key] = mask.masked_fill_(~seen, float("-inf"))
        return self._masks[key]

    def view(self, cache: KVCache, states: Tensor) -> Tensor:
        """The slots that the mask covers, of a layer's keys or values [rows, kv_heads, slots, dim]."""
        return cache.view(states, self.rows, self.length)


@dataclass
class Pass:
    """One forward's plan: where each packed token is written, and what it may attend to."""

    cache: KVCache
    index: Tensor
    segments: Sequence[Segment]


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    slots: Pass | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention of packed tokens [1, heads, tokens, head_dim], each over the slots of its own row.

    Models of transformers call it in place of their own attention (see `slot_attention_enabled`).
    Grouped query heads are folded into the query axis, so keys and values are never repeated.
    """
    if slots is None:
        raise ValueError(
            f"{type(module).__name__} does not hand on keyword arguments to its attention: "
            "this model cannot be decoded by the slot engine; use --model hf"
        )
    layer_idx = module.layer_idx
    assert isinstance(layer_idx, int)
    cache = slots.cache
    layer = cache.write(layer_idx, slots.index, key[0].transpose(0, 1), value[0].transpose(0, 1))
    heads, kv_heads, head_dim = query.shape[1], key.shape[1], query.shape[-1]
    group = heads // kv_heads
    scale = head_dim**-0.5 if scaling is None else scaling
    output = query.new_empty(query.shape[2], heads, value.shape[-1])
    for segment in slots.segments:
        num_rows, queries = segment.positions.shape
        # [heads, rows * queries, head_dim] -> [rows, kv_heads, group * queries, head_dim]
        q = query[0, :, segment.tokens].reshape(kv_heads, group, num_rows, queries, head_dim)
        q = q.permute(2, 0, 1, 3, 4).reshape(num_rows, kv_heads, group * queries, head_dim)
        attn_out = attend(
            q,
            segment.view(cache, layer.keys),
            segment.view(cache, layer.values),
            segment.mask(sliding_window, group, query),
            scale,
            softcap,
        )
        attn_out = attn_out.reshape(num_rows, kv_heads, group, queries, -1).permute(0, 3, 1, 2, 4)
        output[segment.tokens] = attn_out.reshape(num_rows * queries, heads, -1)
    return output[None], None


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Scaled dot-product attention, [rows, heads, queries, head_dim]; `softcap` as in Gemma 2.

    `mask` is added to the scores.
    """
    if softcap is None:
        return nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    scores = (query @ keys.transpose(-1, -2)) * scale
    scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + mask).softmax(-1, dtype=torch.float32)
    return weights.to(query.dtype) @ values


@contextmanager
def slot_attention_enabled(model: PreTrainedModel) -> Iterator[None]:
    """Use `slot_attention` in `model`; its own attention is restored afterwards.

    Log-likelihoods that are scored between two generations use the attention that the user chose.
    """
    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, slot_attention)
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = IMPLEMENTATION
    try:
        yield
    finally:
        config._attn_implementation = before
