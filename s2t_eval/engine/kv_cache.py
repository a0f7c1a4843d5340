"""The keys and values of a batch of sequences, one preallocated row a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class LayerKV:
    """Keys and values of one layer, flat over (row, slot): each [rows * capacity, kv_heads, head_dim]."""

    keys: Tensor
    values: Tensor


class KVCache:
    """Keys and values of `rows` sequences of at most `capacity` tokens, in every layer.

    A token's flat index is `row * capacity + slot`. Nothing is shifted or padded: the masks of a `Pass`
    decide which token attends to which slot. Layers are allocated when they are first written, in the
    shape, dtype and device of the keys written first, so layers may differ in all three.

    Args:
        rows: sequences in the cache at once.
        capacity: slots of a row, in tokens.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows = rows
        self.capacity = capacity
        self._layers: dict[int, LayerKV] = {}

    def write(self, layer_idx: int, index: Tensor, keys: Tensor, values: Tensor) -> LayerKV:
        """Store keys and values [tokens, kv_heads, head_dim] at the flat `index` [tokens]."""
        layer = self._layers.get(layer_idx)
        if layer is None:
            layer = self._layers[layer_idx] = LayerKV(self._zeros(keys), self._zeros(values))
        index = index.to(keys.device)
        layer.keys.index_copy_(0, index, keys)
        layer.values.index_copy_(0, index, values)
        return layer

    def view(self, states: Tensor, rows: slice | Tensor, length: int, first: int = 0) -> Tensor:
        """`length` slots of some rows, starting at the slot `first`, [rows, kv_heads, length, head_dim].

        Contiguous rows (a slice) are not copied.
        """
        by_row = states.view(self.rows, self.capacity, *states.shape[1:])
        return by_row[:, first : first + length][rows].transpose(1, 2)

    def grown(self, capacity: int) -> KVCache:
        """A cache with more slots a row and the same contents in the same slots."""
        larger = KVCache(self.rows, capacity)
        for layer_idx, layer in self._layers.items():
            copies = [larger._zeros(states) for states in (layer.keys, layer.values)]
            for copy, states in zip(copies, (layer.keys, layer.values), strict=True):
                shape = (self.rows, capacity, *states.shape[1:])
                copy.view(shape)[:, : self.capacity] = states.view(
                    self.rows, self.capacity, *states.shape[1:]
                )
            larger._layers[layer_idx] = LayerKV(*copies)
        return larger

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy slots between flat indices, both [tokens]; all sources are read before any is written."""
        for layer in self._layers.values():
            for states in (layer.keys, layer.values):
                src, dst = source.to(states.device), target.to(states.device)
                states.index_copy_(0, dst, states.index_select(0, src))

    def _zeros(self, like: Tensor) -> Tensor:
        # Not `empty`: a masked slot is still multiplied by its weight of 0, and 0 * NaN is NaN.
        return torch.zeros(self.rows * self.capacity, *like.shape[1:], dtype=like.dtype, device=like.device)
