"""The keys and values of a batch of sequences, one preallocated row a sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.engine.transfer import to_device


@dataclass
class LayerKV:
    """Keys and values of one layer, flat over (row, slot).

    Args:
        stored: the memory: keys and values joined, [rows * capacity, 2 * kv_heads, head_dim], or keys and
            values, [rows * capacity, kv_heads, head_dim] each.
        kv_heads: heads of the keys.
    """

    stored: tuple[Tensor, ...]
    kv_heads: int

    @property
    def keys(self) -> Tensor:
        """[rows * capacity, kv_heads, head_dim]"""
        return self.stored[0][:, : self.kv_heads]

    @property
    def values(self) -> Tensor:
        """[rows * capacity, kv_heads, head_dim]"""
        return self.stored[1] if len(self.stored) == 2 else self.stored[0][:, self.kv_heads :]


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
        self._row_starts = torch.empty(0)

    def row_starts(self, device: torch.device) -> Tensor:
        """The flat index of each row's first slot, [rows]; made once."""
        if len(self._row_starts) != self.rows or self._row_starts.device != device:
            self._row_starts = torch.arange(self.rows, device=device) * self.capacity
        return self._row_starts

    def write(self, layer_idx: int, index: Tensor, keys: Tensor, values: Tensor) -> LayerKV:
        """Store keys and values [tokens, kv_heads, head_dim] at the flat `index` [tokens]."""
        return self._write(layer_idx, index, (keys, values), keys.shape[1])

    def write_joined(self, layer_idx: int, index: Tensor, states: Tensor, kv_heads: int) -> LayerKV:
        """The same for keys and values behind one another, [tokens, 2 * kv_heads, head_dim], in one copy.

        All passes of a layer are written in the same way.
        """
        return self._write(layer_idx, index, (states,), kv_heads)

    def _write(self, layer_idx: int, index: Tensor, states: tuple[Tensor, ...], kv_heads: int) -> LayerKV:
        layer = self._layers.get(layer_idx)
        if layer is None:
            layer = self._layers[layer_idx] = LayerKV(tuple(map(self._zeros, states)), kv_heads)
        index = index.to(states[0].device)
        for stored, new in zip(layer.stored, states, strict=True):
            stored.index_copy_(0, index, new)
        return layer

    def read(self, layer_idx: int, index: Tensor) -> Tensor:
        """What was written for a layer at the flat `index` [tokens], keys and values joined: one copy."""
        (stored,) = self._layers[layer_idx].stored
        return stored.index_select(0, index.to(stored.device))

    def view(self, states: Tensor, rows: slice | Tensor, length: int, first: int = 0) -> Tensor:
        """`length` slots of some rows, starting at the slot `first`, [rows, kv_heads, length, head_dim].

        Contiguous rows (a slice) are not copied.
        """
        by_row = states.unflatten(0, (self.rows, self.capacity))
        chosen = rows.to(states.device) if isinstance(rows, Tensor) else rows
        return by_row[:, first : first + length][chosen].transpose(1, 2)

    def grown(self, capacity: int) -> KVCache:
        """A cache with more slots a row and the same contents in the same slots."""
        larger = KVCache(self.rows, capacity)

        def grow(states: Tensor) -> Tensor:
            copy = larger._zeros(states)
            by_row = copy.view(self.rows, capacity, *states.shape[1:])
            by_row[:, : self.capacity] = states.view(self.rows, self.capacity, *states.shape[1:])
            return copy

        larger._layers = self._mapped(grow)
        return larger

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy slots between flat indices, both [tokens]; all sources are read before any is written."""

        @functools.cache
        def places(device: torch.device) -> tuple[Tensor, Tensor]:
            return to_device(source, device), to_device(target, device)

        def copy(states: Tensor) -> Tensor:
            src, dst = places(states.device)
            return states.index_copy_(0, dst, states.index_select(0, src))

        self._mapped(copy)

    def clear(self, row: int, first: int) -> None:
        """Overwrite a row's slots from `first` on with zeros, if they hold no numbers (see `_zeros`)."""
        part = slice(row * self.capacity + first, (row + 1) * self.capacity)
        for layer in self._layers.values():
            for states in layer.stored:
                states[part] = 0

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> dict[int, LayerKV]:
        """The layers with a function applied to their memory."""
        return {
            layer_idx: LayerKV(tuple(map(function, layer.stored)), layer.kv_heads)
            for layer_idx, layer in self._layers.items()
        }

    def _zeros(self, like: Tensor) -> Tensor:
        # Not `empty`: a masked slot is still multiplied by its weight of 0, and 0 * NaN is NaN.
        return torch.zeros(self.rows * self.capacity, *like.shape[1:], dtype=like.dtype, device=like.device)
