"""Decode steps as CUDA graphs: one launch in the place of a thousand small ones.

A step of a small model takes a GPU less time than the host needs to launch its kernels, so greedy decoding on
a large GPU is limited by the host. A graph records the kernels of a step once and replays them. It is bound
to its shapes, so a step is rounded up to one of a few: rows to a power of two, attended slots to a multiple
of `LENGTH_STEP`. What is rounded up is masked or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s2t_eval.engine.attention import Segment
from s2t_eval.engine.compiled_layers import Compile
from s2t_eval.engine.kv_cache import KVCache
from s2t_eval.engine.layer_forms import has_known_layers
from s2t_eval.engine.packing import Packed
from s2t_eval.models.decoder_layers import decoder_layers

FEWEST_ROWS = 8
"""Rows are rounded up to a power of two of at least this: fewer take a GPU no less time."""
LENGTH_STEP = 256
"""Attended slots are rounded up to a multiple of this; every shape has to be recorded."""

Forward = Callable[[Packed, Tensor], Tensor]
"""Packed tokens and their positions [tokens] -> hidden states [tokens, hidden]."""


def should_record(setting: Compile, device: torch.device) -> bool:
    """Whether the decode steps of a model on this device are recorded."""
    return setting != "never" and device.type == "cuda"


def can_record(model: nn.Module, num_layers: int) -> bool:
    """Whether a model's body has layers of Llama's form, on one device and none of them offloaded.

    Other layers may choose their kernels by values that only the GPU knows, which no graph can hold.
    """
    layers = decoder_layers(model, num_layers)
    is_hooked = any("forward" in vars(module) for module in model.modules())
    devices = {parameter.device for parameter in model.parameters()}
    return has_known_layers(layers) and not is_hooked and len(devices) == 1


class StepGraphs:
    """Decode steps of a model over one cache, each shape recorded at its first use.

    Args:
        forward: the model's pass, which must wait for nothing on the host.
        body: the model, whose weights the graphs read where they were when a step was recorded.
        cache: the cache that it writes; another cache needs other graphs.
        device: of the model. On a CPU, which has no graphs, each step is computed anew from the same
            buffers.
    """

    def __init__(self, forward: Forward, body: nn.Module, cache: KVCache, device: torch.device) -> None:
        self.cache = cache
        self._forward, self._body = forward, body
        self._weights = self._places()
        self._ids, self._positions, self._index = torch.zeros(
            3, cache.rows, dtype=torch.long, device=device
        ).unbind()
        self._rows_last = cache.row_starts(device) + cache.capacity - 1
        self._states: dict[tuple[int, int], Tensor] = {}
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._device, self._records = device, device.type == "cuda"
        self._pool: Any = torch.cuda.graph_pool_handle() if self._records else None

    def read_present_weights(self) -> bool:
        """Whether the model's weights are still in their places; merging an adapter may move them."""
        return self._weights == self._places()

    def _places(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self._body.parameters()]

    def run(self, ids: Tensor, positions: Tensor, index: Tensor, length: int) -> Tensor:
        """One token each for rows 0..n-1.

        Args:
            ids: the tokens, [n].
            positions: theirs, [n].
            index: the flat cache index that each is written to, [n].
            length: slots that the longest row attends to.

        Returns:
            Hidden states [n, hidden].
        """
        num = len(ids)
        shape = (self.rounded_rows(num), self._rounded_length(length))
        self._ids[:num] = ids
        self._positions[:num] = positions
        self._index[:num] = index
        if shape[0] > num:  # rows without a text write to their last slot and attend to their first one
            self._positions[num : shape[0]] = 0
            self._index[num : shape[0]] = self._rows_last[num : shape[0]]
        if not self._records:
            return self._step(*shape)[:num]
        if shape not in self._graphs:
            self._record(shape)
        self._graphs[shape].replay()
        return self._states[shape][:num].clone()

    def rounded_rows(self, num: int) -> int:
        """Rows that a step of `num` rows computes: all below are overwritten in their last slot."""
        return min(max(1 << (num - 1).bit_length(), FEWEST_ROWS), self.cache.rows)

    def _rounded_length(self, length: int) -> int:
        return min(-(-length // LENGTH_STEP) * LENGTH_STEP, self.cache.capacity)

    def _step(self, rows: int, length: int) -> Tensor:
        own = self._positions[:rows]
        everyone = Segment(slice(0, rows), slice(0, rows), own[:, None], own[:, None], length)
        everyone.own = everyone.positions
        return self._forward(Packed(self._ids[:rows], self._index[:rows], [everyone]), own)

    def _record(self, shape: tuple[int, int]) -> None:
        """Run a step once, so that its kernels are loaded, then record it, which does not execute it."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._step(*shape)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._states[shape] = self._step(*shape)
        self._graphs[shape] = graph


def dropped_last(tokens: Sequence[list[int]], rows: range, capacity: int) -> None:
    """Forget what a rounded-up step overwrites: the last slot of rows without a text, where it was in use."""
    for row in rows:
        del tokens[row][capacity - 1 :]
