"""Attention of a packed pass over the slot cache, plugged into transformers' attention interface.

The tokens of all rows pass through the model as ONE sequence without padding: projections and MLPs do
not depend on which row a token belongs to. Only attention does. It is called here with the pass's plan,
writes the new keys and values into their slots, and restricts every token to its own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from s2t_eval.engine.kv_cache import KVCache, LayerKV
from s2t_eval.engine.transfer import to_device

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
        seen = slots <= position if self.own is self.positions else slots < position
        if window is not None:
            seen &= slots > position - window
        return seen if self.own is self.positions else seen | (slots == self.own[..., None])

    def on(self, device: torch.device) -> None:
        """Move its tensors to a device."""
        is_same = self.own is self.positions
        self.positions = to_device(self.positions, device)
        self.own = self.positions if is_same else to_device(self.own, device)
        self.tokens, self.rows = (
            to_device(index, device) if isinstance(index, Tensor) else index
            for index in (self.tokens, self.rows)
        )

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

    def keys_values(self, cache: KVCache, layer: LayerKV) -> tuple[Tensor, Tensor]:
        """The slots that the mask covers, of a layer's keys and values, [rows, kv_heads, slots, dim] each."""
        return (
            cache.view(layer.keys, self.rows, self.length),
            cache.view(layer.values, self.rows, self.length),
        )


@dataclass
class Pass:
    """One forward's plan: where each packed token is written, and what it may attend to.

    Args:
        cache: keys and values.
        index: the flat cache index that each token is written to, [tokens].
        segments: the tokens.
        mask_windows: layer -> window, of a model that applies windows by its masks alone.
    """

    cache: KVCache
    index: Tensor
    segments: Sequence[Segment]
    mask_windows: Mapping[int, int] = field(default_factory=dict)
    _rotation: tuple[object, Rotation] | None = field(default=None, init=False)

    def rotation(self, position_embeddings: tuple[Tensor, Tensor]) -> Rotation:
        """The angles of the tokens as heads are rotated by them; computed once for all layers.

        Args:
            position_embeddings: cosines and sines as transformers computes them, [1, tokens, head_dim] each.
        """
        if self._rotation is None or self._rotation[0] is not position_embeddings[0]:
            cos, sin = (angles[0, :, None] for angles in position_embeddings)
            half = sin.shape[-1] // 2
            signed_sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
            self._rotation = (position_embeddings[0], Rotation(cos, signed_sin))
        return self._rotation[1]


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which each token's heads are rotated."""

    cos: Tensor
    """[tokens, 1, head_dim]"""
    signed_sin: Tensor
    """[tokens, 1, head_dim]; the first half is negated"""


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
        raise ValueError(f"{type(module).__name__} does not get the keyword arguments of the pass")
    layer_idx = module.layer_idx
    assert isinstance(layer_idx, int)
    cache = slots.cache
    layer = cache.write(layer_idx, slots.index, key[0].transpose(0, 1), value[0].transpose(0, 1))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = slots.mask_windows.get(layer_idx) if sliding_window is None else sliding_window
    output = attend_segments(query[0].transpose(0, 1), layer, slots, scale, window, softcap)
    return output[None].contiguous(), None  # some models view it in another shape


def attend_joined(layer: Any, states: Tensor, kv_heads: int, slots: Pass) -> Tensor:
    """Write new keys and values into the cache and attend, for a layer of Llama's form.

    Args:
        layer: the attention layer.
        states: rotated queries, rotated keys, and values of each token,
            [tokens, heads + 2 * kv_heads, head_dim].
        kv_heads: number of heads of keys, and of values.
        slots: the pass.

    Returns:
        [tokens, heads, head_dim]
    """
    heads = states.shape[1] - 2 * kv_heads
    stored = slots.cache.write_joined(layer.layer_idx, slots.index, states[:, heads:], kv_heads)
    window = getattr(layer, "sliding_window", None)  # Llama has none
    return attend_segments(states[:, :heads], stored, slots, layer.scaling, window, None)


def attend_segments(
    query: Tensor, layer: LayerKV, slots: Pass, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Attention of packed queries [tokens, heads, head_dim] over their segments' slots, of the same shape.

    Args:
        query: of all tokens of the pass.
        layer: keys and values, those of the pass included.
        slots: the pass.
        scale: of the scores.
        window: of sliding layers, in tokens.
        softcap: of the scores, as in Gemma 2.
    """
    tokens, heads, head_dim = query.shape
    group = heads // layer.kv_heads
    parts = []
    for segment in slots.segments:
        num_rows, queries = segment.positions.shape
        # [rows * queries, heads, head_dim] -> [rows, kv_heads, group * queries, head_dim]
        q = query[_on(segment.tokens, query)].reshape(num_rows, queries, layer.kv_heads, group, head_dim)
        q = q.permute(0, 2, 3, 1, 4).reshape(num_rows, layer.kv_heads, group * queries, head_dim)
        keys, values = segment.keys_values(slots.cache, layer)
        attn_out = attend(
            q,
            keys,
            values,
            segment.mask(window, group, query),
            scale,
            softcap,
        )
        attn_out = attn_out.reshape(num_rows, layer.kv_heads, group, queries, -1).permute(0, 3, 1, 2, 4)
        parts.append(attn_out.reshape(num_rows * queries, heads, -1))
    if len(parts) == 1 and len(parts[0]) == tokens:
        return parts[0]
    output = query.new_empty(tokens, heads, parts[0].shape[-1])
    for segment, part in zip(slots.segments, parts, strict=True):
        output[_on(segment.tokens, output)] = part  # the same token twice has the same output twice
    return output


def _on(index: slice | Tensor, states: Tensor) -> slice | Tensor:
    """An index where the states are: the layers of one model may be on several devices."""
    return index.to(states.device) if isinstance(index, Tensor) else index


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
