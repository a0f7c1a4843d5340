"""The looped student in decoding: rows at different depths share one packed pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from s2t_eval.engine.attention import Segment
from s2t_eval.engine.kv_cache import KVCache, LayerKV
from s2t_eval.engine.packing import Packed
from s2t_eval.engine.pass_results import Prefilled
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.methods.tah.duo_causal import NOWHERE, Places, attention_mask
from s2t_eval.methods.tah.taps import LayerTaps
from s2t_eval.models.decoder_layers import decoder_layers

FIRST_ROOM = 32
"""Initial number of a row's slots for deeper passes; doubled when needed."""


class DeepPass(NamedTuple):
    """One row's next pass over its last token."""

    row: int
    depth: int
    embeds: Tensor
    """the mixture that is its input, [hidden]"""


@dataclass(kw_only=True)
class DeepSegment(Segment):
    """Rows with a further pass, one query each, which attends to the slots of the text and the deeper ones.

    Args:
        beyond: first of a row's deeper slots.
        queries: position and depth of each query, [rows, 1].
        slots: position and depth of the slots attended to, the text's first, [rows, slots].
    """

    beyond: int
    queries: Places
    slots: Places
    _flat_index: Tensor | None = field(default=None, init=False)

    def attention_mask(self, window: int | None) -> Tensor:
        """The duo-causal rule, bool [rows, 1, slots]."""
        return attention_mask(self.queries, self.slots, window)

    def keys_values(self, cache: KVCache, layer: LayerKV) -> tuple[Tensor, Tensor]:
        """The slots of the text, followed by the deeper ones: keys and values are gathered in one copy."""
        index = self._index(cache).to(layer.stored[0].device)
        gathered = LayerKV(
            tuple(part.index_select(0, index.flatten()) for part in layer.stored), layer.kv_heads
        )
        keys, values = (
            part.unflatten(0, index.shape).transpose(1, 2) for part in (gathered.keys, gathered.values)
        )
        return keys, values

    def _index(self, cache: KVCache) -> Tensor:
        """The flat cache index of each slot, [rows, slots]; made once a pass."""
        if self._flat_index is None:
            assert isinstance(self.rows, Tensor), "rows with a further pass are rarely neighbours"
            deeper = self.slots.positions.shape[1] - self.length
            places = [torch.arange(self.length), self.beyond + torch.arange(deeper)]
            slots = torch.cat(places).to(self.rows.device)
            self._flat_index = self.rows[:, None] * cache.capacity + slots
        return self._flat_index


class LoopedRunner(ModelRunner):
    """A `ModelRunner` whose rows may have further passes over their last token.

    The slots of depth 0 are those of the plain student; a row's deeper slots follow the slots of its text.
    A state is the last hidden state, concatenated with the outputs of the decider's input layers.

    Args:
        peft: the student with its adapter, which is disabled except in deeper passes.
        name: its name in messages.
        text_vocab: rows of the head that are text.
        read: layers whose outputs are part of the state.
    """

    def __init__(
        self, peft: PeftModel, name: str = "model", text_vocab: int | None = None, read: Sequence[int] = ()
    ) -> None:
        layers: Any = peft.base_model
        layers.disable_adapter_layers()
        self._layers = layers
        base: Any = peft  # `ModelRunner` uses the model inside the wrapper
        # Its states are more than a recorded step gives.
        super().__init__(base, name, text_vocab, compile="never")
        self.hidden_size = int(self.config.hidden_size)
        self.embedding: nn.Module = self.base.get_input_embeddings()
        self._taps = LayerTaps(decoder_layers(self.body, self.config.num_hidden_layers), read)
        self._deep: Tensor | None = None
        self._adapters: dict[LoraLayer, tuple[Tensor, Tensor]] = {}
        # Several layers have the same input: that input, and its rows at the deeper tokens.
        self._lora_input: tuple[Tensor, Tensor] | None = None
        self._adapted: list[Any] = [module for module in peft.modules() if isinstance(module, LoraLayer)]
        self._beyond = 0
        # Position and depth of each deeper slot of a row.
        self._deep_slots: dict[int, list[tuple[int, int]]] = {}

    # ---------------------------------------------------------------- rows

    def allocate(self, rows: int, length: int, extra_slots: int = 0) -> None:
        """As `ModelRunner.allocate`; the slots of deeper passes follow the extra ones."""
        self._layers.disable_adapter_layers()  # training leaves it enabled in the same student
        self._read_adapters()
        if self.cache.rows != rows or self._beyond < length + extra_slots:
            self.release()
            self._beyond = length + extra_slots
        super().allocate(rows, self._beyond - extra_slots, extra_slots + FIRST_ROOM)
        plain = [(layer, function) for layer, function in self._forms if layer not in self._adapters]
        self._forms = [*plain, *((layer, self._adapted_forward) for layer in self._adapted)]

    def release(self) -> None:
        """As `ModelRunner.release`; the next cache has as few deeper slots as the first one."""
        super().release()
        self._deep_slots = {}

    def prefill(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Prefilled:
        """As `ModelRunner.prefill`: prompts have one pass, at depth 0."""
        for row in rows:
            self._deep_slots.pop(row, None)
        return super().prefill(rows, texts)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """As `ModelRunner.move`, deeper slots included."""
        super().move(moves)
        for source, target in moves:
            deep_slots = self._deep_slots.pop(source, [])
            slots = self._beyond + torch.arange(len(deep_slots))
            self.cache.copy(slots + source * self.cache.capacity, slots + target * self.cache.capacity)
            self._deep_slots[target] = deep_slots

    # ---------------------------------------------------------------- passes

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [n, text_vocab] from states [n, state]."""
        return super().head(hidden[:, : self.hidden_size])

    def read(self, states: Tensor) -> Tensor:
        """The part of states that is the decider's input, [n, layers * hidden]."""
        return states[:, self.hidden_size :]

    def advance(self, ids: Tensor, deeper: Sequence[DeepPass]) -> Tensor:
        """One pass for rows 0..n-1: over the next token, or a further one over the last token.

        Args:
            ids: each row's new token, or its last one for the rows with a further pass, [n].
            deeper: the rows with a further pass, ascending.

        Returns:
            States [n, state].
        """
        if not deeper:
            return self.append(ids.tolist())
        shallow = sorted(set(range(len(ids))) - {item.row for item in deeper})
        lengths = torch.tensor([len(self.tokens[row]) for row in range(len(ids))])
        rows = torch.tensor([item.row for item in deeper])
        positions = lengths.clone()
        positions[rows] -= 1
        for item in deeper:
            self._deep_slots.setdefault(item.row, []).append((int(positions[item.row]), item.depth))
        self._make_room()
        own = positions.clone()
        own[rows] = torch.tensor([self._beyond + len(self._deep_slots[item.row]) - 1 for item in deeper])
        index = torch.arange(len(ids)) * self.cache.capacity + own
        segments = []
        if shallow:  # the next segment overwrites the outputs of the deeper rows in it
            everyone = slice(0, len(ids))
            size = int(positions.max()) + 1
            segments.append(Segment(everyone, everyone, positions[:, None], positions[:, None], size))
        segments.append(self._deep_segment(rows, positions[rows], deeper))
        embeds = self.embedding(ids.to(self.device))
        embeds[rows] = torch.stack([item.embeds for item in deeper]).to(embeds)
        self._deep = rows.to(self.device)
        try:
            hidden = self.forward(Packed(ids, index, segments), positions, embeds)
        finally:
            self._deep = self._lora_input = None
        for row in shallow:
            self.tokens[row].append(int(ids[row]))
        return hidden

    def _deep_segment(self, rows: Tensor, positions: Tensor, deeper: Sequence[DeepPass]) -> DeepSegment:
        length = int(positions.max()) + 1
        deep_slots = [self._deep_slots[item.row] for item in deeper]
        widest = max(map(len, deep_slots))
        padded = [[*slots, *[(NOWHERE, 0)] * (widest - len(slots))] for slots in deep_slots]
        positions_depths = torch.tensor(padded, device=self.device)
        text = torch.arange(length, device=self.device).expand(len(rows), length)
        deep = Places(positions_depths[..., 0], positions_depths[..., 1])
        slots = Places(text, torch.zeros_like(text)).concat(deep)
        at = positions[:, None].to(self.device)
        depths = torch.tensor([[item.depth] for item in deeper], device=self.device)
        indices = rows.to(self.device)
        return DeepSegment(
            indices, indices, at, at, length, beyond=self._beyond, queries=Places(at, depths), slots=slots
        )

    def _make_room(self) -> None:
        room = self.cache.capacity - self._beyond
        needed = max(map(len, self._deep_slots.values()))
        if needed > room:
            self.cache = self.cache.grown(self._beyond + max(needed, 2 * room))

    def forward(
        self, packed: Packed, positions: Tensor | None = None, embeds: Tensor | None = None
    ) -> Tensor:
        """As `ModelRunner.forward`; the outputs of the input layers are appended to the hidden states."""
        hidden = super().forward(packed, positions, embeds)
        if not self._taps.read:
            return hidden
        return torch.cat([hidden, self._taps.take()[0].to(hidden)], dim=-1)

    def _adapted_forward(self, layer: Any, inputs: Tensor) -> Tensor:
        """The forward of an adapted layer: its adapter's output is added at the deeper tokens alone.

        peft's own forward, which has to look up what is enabled, is left out.
        """
        output: Tensor = layer.base_layer(inputs)
        if self._deep is None:
            return output
        if self._lora_input is None or self._lora_input[0] is not inputs:
            self._lora_input = inputs, inputs[0].index_select(0, self._deep).float()
        down, up = self._adapters[layer]
        output[0].index_add_(0, self._deep, (self._lora_input[1] @ down @ up).to(output.dtype))
        return output

    def _read_adapters(self) -> None:
        """Each adapted layer's two matrices, the second one including the scale.

        They are transposed and in float32, which is twice as fast for the few rows of a deeper pass.
        """
        for layer in self._adapted:
            (name,) = layer.active_adapters
            down, up = layer.lora_A[name].weight, layer.lora_B[name].weight * layer.scaling[name]
            self._adapters[layer] = tuple(m.detach().float().T.contiguous() for m in (down, up))
