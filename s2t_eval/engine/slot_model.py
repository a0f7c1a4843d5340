"""One causal language model with the slots of the sequences it is working on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from s2t_eval.engine.attention import Pass, Segment, slot_attention_enabled
from s2t_eval.engine.cpu_linear import transposed, worthwhile
from s2t_eval.engine.slots import SlotCache

PASS_TOKENS = {"cpu": 512}
PASS_TOKENS_ELSEWHERE = 4096
"""Most tokens of one prefill pass: bounds activations and masks; a CPU's caches like short passes."""

MIN_SHARED = 16
"""A prefix shorter than this is computed rather than waited for."""

KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class UnsupportedModelError(ValueError):
    """The model cannot be decoded by the slot engine; the message says which part of it."""


@dataclass
class Counters:
    """What a model was asked to do: passes, row-passes (rows taking part in them) and tokens."""

    passes: int = 0
    row_passes: int = 0
    tokens: int = 0


class SlotModel:
    """A decoder-only model of transformers, its body and head apart, over a `SlotCache`.

    `tokens[row]` are the ids whose keys and values lie in the row; they stay after a sequence has
    ended, so that a later prompt with the same beginning copies them instead of computing them.

    Args:
        model: the causal model, with or without a PEFT adapter.
        name: how messages call it.
        text_vocab: rows of the head that are text; what lies above (padding, reserved rows) is
            never proposed. None takes the head's size.
        within: a context that every forward runs in, such as one that switches an adapter on.

    Raises:
        UnsupportedModelError: recurrent, hybrid or other layers that cannot be branched.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        name: str = "model",
        text_vocab: int | None = None,
        within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        # A PEFT model has injected its adapters into the base model; generation needs no wrapper.
        base: Any = model
        if hasattr(model, "get_base_model"):
            base = base.get_base_model()
        self.name = name
        self._within = within
        self.base: PreTrainedModel = base
        self.config = base.config.get_text_config(decoder=True)
        check_supported(self.config, name)
        self.body: nn.Module = base.get_decoder()
        self._head: Any = base.get_output_embeddings()
        self._softcap: float | None = getattr(self.config, "final_logit_softcapping", None)
        self.vocab = int(self._head.weight.shape[0])
        self.text_vocab = self.vocab if text_vocab is None else min(text_vocab, self.vocab)
        self.device = base.get_input_embeddings().weight.device
        self.counters = Counters()
        self.cache = SlotCache(0, 0)
        self.tokens: list[list[int]] = []
        self._is_checked = False
        self._linears: list[nn.Linear] = []

    def allocate(self, rows: int, capacity: int) -> None:
        """Start afresh with `rows` empty rows of `capacity` slots; keeps a cache that fits."""
        if not self._is_checked:
            self._linears = worthwhile(self.body)  # not earlier: an adapter may still be put in
            self._check_forward()
        if self.cache.rows != rows or self.cache.capacity < capacity:
            self.cache = SlotCache(rows, capacity)
            self.tokens = [[] for _ in range(rows)]

    def release(self) -> None:
        """Drop the slots and give their memory back."""
        self.cache = SlotCache(0, 0)
        self.tokens = []

    # ---------------------------------------------------------------- head

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of the text vocabulary, float32 [n, text_vocab], from hidden states [n, hidden]."""
        weight: Any = self._head.weight
        with transposed(worthwhile(self._head), len(hidden)):
            logits = self._head(hidden.to(weight.device))[:, : self.text_vocab].float()
        return self._capped(logits)

    def head_at(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Logits of chosen ids only, float32 [n, m], for ids [n, m]: the head's other rows rest."""
        if type(self._head) is not nn.Linear:  # quantized or adapted heads have no plain rows
            return self.head(hidden).gather(-1, ids)
        rows = self._head.weight[ids]
        logits = torch.einsum("nmh,nh->nm", rows, hidden.to(rows.device)).float()
        if self._head.bias is not None:
            logits = logits + self._head.bias[ids].float()
        return self._capped(logits)

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)

    # ---------------------------------------------------------------- forward passes

    def append(self, ids: Tensor) -> Tensor:
        """One token each for rows 0..n-1: ids [n] -> hidden states [n, hidden]. The decode step."""
        return self.branch(ids, [], ids.new_empty(0, 1))

    def branch(self, ids: Tensor, fired: Sequence[int], candidates: Tensor) -> Tensor:
        """One pass in which most rows take one token and the fired ones try K at the same position.

        Args:
            ids: token of each row 0..n-1, [n]; for a fired row its first candidate.
            fired: the rows that branch.
            candidates: all candidates of each fired row, [fired, K].

        Returns:
            Hidden states [n + fired * (K - 1), hidden]: first each row's first lane, then the
            remaining K - 1 lanes of each fired row. `commit` keeps one lane of each.
        """
        lanes = candidates.shape[1] - 1
        lengths = torch.tensor([len(self.tokens[row]) for row in range(len(ids))])
        segments = [_segment(slice(0, len(ids)), slice(0, len(ids)), lengths[:, None], lengths[:, None])]
        packed = [ids]
        index = [torch.arange(len(ids)) * self.cache.capacity + lengths]
        at = len(ids)
        for part in _alike(fired, [lanes] * len(fired)) if lanes else []:
            run = _rows_of(fired, part)
            rows = torch.arange(run.start, run.stop)
            positions = lengths[rows][:, None].expand(-1, lanes)
            own = positions + torch.arange(1, lanes + 1)
            tokens = slice(at, at + own.numel())
            segments.append(_segment(tokens, run, positions, own))
            index.append((rows[:, None] * self.cache.capacity + own).flatten())
            at = tokens.stop
        packed.append(candidates[:, 1:].flatten())
        hidden = self._forward(torch.cat(packed), torch.cat(index), segments)
        for row, token in enumerate(ids.tolist()):
            self.tokens[row].append(token)
        self.counters.row_passes += len(ids)
        return hidden

    def commit(self, rows: Sequence[int], lanes: Sequence[int], ids: Sequence[int]) -> None:
        """Keep lane `lanes[i]` of branched row `rows[i]`, whose token is `ids[i]`; drop the others."""
        source, target = [], []
        for row, lane, token in zip(rows, lanes, ids, strict=True):
            slot = row * self.cache.capacity + len(self.tokens[row]) - 1
            self.tokens[row][-1] = token
            if lane:
                source.append(slot + lane)
                target.append(slot)
        if source:
            self.cache.copy(torch.tensor(source), torch.tensor(target))

    def sync(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
        """Bring rows to hold exactly these texts, computing only what no row holds already.

        The prefill of a new prompt and the catch-up of a teacher that was not asked for a while.

        Args:
            rows: rows to fill.
            texts: token ids of each, not empty.

        Returns:
            Hidden states at the last token of each text [rows, hidden], and how many tokens of each
            were computed.
        """
        hidden: dict[int, Tensor] = {}
        computed = [0] * len(rows)
        waiting = list(range(len(rows)))
        while waiting:
            now, kept, waiting = self._plan_sync(rows, texts, waiting)
            for i, n in zip(now, kept, strict=True):
                computed[i] = len(texts[i]) - n
            limit = PASS_TOKENS.get(self.device.type, PASS_TOKENS_ELSEWHERE)
            for part in _parts(now, computed, limit):
                states = self._prefill([rows[i] for i in part], [texts[i] for i in part])
                hidden.update(zip(part, states, strict=True))
        return torch.stack([hidden[i] for i in range(len(rows))]), computed

    def peek(
        self, rows: Sequence[int], texts: Sequence[Sequence[int]], candidates: Tensor
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Catch up with these texts and, in the same pass, look at candidates behind each of them.

        The rows hold the texts afterwards and none of the candidates: whoever decides may append
        another token.

        Args:
            rows: rows to bring up to date.
            texts: token ids of each, not empty.
            candidates: what to try behind each text, [rows, K]; K = 0 only catches up.

        Returns:
            Hidden states at the last token of each text [rows, hidden] and at each candidate
            [rows, K, hidden], and how many tokens of each row were computed.
        """
        num, lanes = candidates.shape
        for row, text in zip(rows, texts, strict=True):
            held = _common_prefix(np.asarray(text), np.asarray(self.tokens[row]))
            # The last token is computed: its state is asked for.
            self.tokens[row] = list(text[: min(held, len(text) - 1)])
        packed, index, segments, last = self._missing(rows, texts)
        computed = [len(text) - len(self.tokens[row]) + lanes for row, text in zip(rows, texts, strict=True)]
        first_lane = len(packed)
        ids = [torch.tensor(packed)]
        if lanes:
            lengths = torch.tensor([len(text) for text in texts])
            own = lengths[:, None] + torch.arange(lanes)
            for run in _alike(rows, [lanes] * num):
                tokens = slice(first_lane + run.start * lanes, first_lane + run.stop * lanes)
                behind = lengths[run, None].expand(-1, lanes)
                segments.append(_segment(tokens, _rows_of(rows, run), behind, own[run]))
            index.append((torch.tensor(rows)[:, None] * self.cache.capacity + own).flatten())
            ids.append(candidates.cpu().flatten())
        for row, text in zip(rows, texts, strict=True):
            self.tokens[row] = list(text)
        self.counters.row_passes += num
        hidden = self._forward(torch.cat(ids), torch.cat(index), segments)
        return hidden[last], hidden[first_lane:].view(num, lanes, hidden.shape[-1]), computed

    @torch.inference_mode()
    def encode(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states at every token of each text, [len(text), hidden] each: a bare prefill.

        Nothing is kept: the rows are empty again afterwards.
        """
        self.allocate(len(texts), max(len(text) for text in texts))
        sizes = [len(text) for text in texts]
        limit = PASS_TOKENS.get(self.device.type, PASS_TOKENS_ELSEWHERE)
        states: list[Tensor] = []
        for part in _parts(range(len(texts)), sizes, limit):
            for row in part:
                self.tokens[row] = []
            hidden, _ = self._compute(part, [texts[i] for i in part])
            states.extend(hidden.split([sizes[i] for i in part]))
        self.tokens = [[] for _ in self.tokens]
        return states

    def move(self, source: int, target: int) -> None:
        """Move a row's slots and tokens over another row's."""
        length = len(self.tokens[source])
        slots = torch.arange(length)
        self.cache.copy(slots + source * self.cache.capacity, slots + target * self.cache.capacity)
        self.tokens[target] = self.tokens[source]
        self.tokens[source] = []

    def _plan_sync(
        self, rows: Sequence[int], texts: Sequence[Sequence[int]], waiting: Sequence[int]
    ) -> tuple[list[int], list[int], list[int]]:
        """Copy the longest prefix that a row holds; put off texts that could copy more soon.

        Returns the items to compute now, the tokens each of them holds, and those put off.
        """
        now: list[int] = []
        kept: list[int] = []
        later: list[int] = []
        source: list[Tensor] = []
        target: list[Tensor] = []
        held = [np.asarray(tokens) for tokens in self.tokens]
        for i in waiting:
            text = np.asarray(texts[i])
            own = _common_prefix(text, held[rows[i]])
            donor, length = max(
                ((row, _common_prefix(text, tokens)) for row, tokens in enumerate(held)),
                key=lambda found: found[1],
            )
            if length < own + MIN_SHARED:
                donor, length = rows[i], own
            soon = max((_common_prefix(text, np.asarray(texts[j])) for j in now), default=0)
            if soon >= length + MIN_SHARED:
                later.append(i)
                continue
            length = min(length, len(text) - 1)  # the last token is computed: its state is asked for
            now.append(i)
            kept.append(length)
            if donor != rows[i]:
                slots = torch.arange(length)
                source.append(slots + donor * self.cache.capacity)
                target.append(slots + rows[i] * self.cache.capacity)
        if source:
            self.cache.copy(torch.cat(source), torch.cat(target))
        for i, length in zip(now, kept, strict=True):
            self.tokens[rows[i]] = list(texts[i][:length])
        # A text put off may have counted on a row that was just overwritten; it is planned afresh.
        return now, kept, later

    def _prefill(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
        """Compute what is missing in each row in one ragged pass; hidden states of the last tokens."""
        hidden, last = self._compute(rows, texts)
        return hidden[last]

    def _compute(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
        """One ragged pass over what is missing; all its hidden states, and where each text ends."""
        packed, index, segments, last = self._missing(rows, texts)
        for row, text in zip(rows, texts, strict=True):
            self.tokens[row] = list(text)
        self.counters.row_passes += len(rows)
        return self._forward(torch.tensor(packed), torch.cat(index), segments), last

    def _missing(
        self, rows: Sequence[int], texts: Sequence[Sequence[int]]
    ) -> tuple[list[int], list[Tensor], list[Segment], list[int]]:
        """What these rows lack of their texts: tokens, flat slots, who attends to what, where each ends.

        Neighbouring rows that lack equally many tokens attend together.
        """
        starts = [len(self.tokens[row]) for row in rows]
        sizes = [len(text) - start for start, text in zip(starts, texts, strict=True)]
        ends = list(itertools.accumulate(sizes))
        packed = [token for start, text in zip(starts, texts, strict=True) for token in text[start:]]
        index, segments = [], []
        for run in _alike(rows, sizes):
            positions = torch.tensor(starts[run])[:, None] + torch.arange(sizes[run.start])
            tokens = slice(ends[run.start] - sizes[run.start], ends[run.stop - 1])
            segments.append(_segment(tokens, _rows_of(rows, run), positions, positions))
            index.append((torch.tensor(rows[run])[:, None] * self.cache.capacity + positions).flatten())
        return packed, index, segments, [end - 1 for end in ends]

    def _forward(
        self,
        ids: Tensor,
        index: Tensor,
        segments: Sequence[Segment],
        positions: Tensor | None = None,
        embeds: Tensor | None = None,
    ) -> Tensor:
        """One pass of the body over packed tokens [tokens] -> hidden states [tokens, hidden].

        Args:
            ids: the tokens.
            index: the flat slot that each is written to, [tokens].
            segments: who attends to what.
            positions: of each token, [tokens]; None: the segments', which then follow one another.
            embeds: what goes in instead of the tokens' embeddings, [tokens, hidden].
        """
        if positions is None:
            positions = torch.cat([segment.positions.flatten() for segment in segments])
        for segment in segments:
            segment.positions = segment.positions.to(self.device)
            segment.own = segment.own.to(self.device)
        plan = Pass(self.cache, index.to(self.device), segments)
        self.counters.passes += 1
        self.counters.tokens += len(ids)
        inputs = (
            {"input_ids": ids.to(self.device)[None]} if embeds is None else {"inputs_embeds": embeds[None]}
        )
        with self._within(), slot_attention_enabled(self.base), transposed(self._linears, len(ids)):
            output = self.body(
                **inputs,
                position_ids=positions.to(self.device)[None],
                # A ready 4D mask is passed on untouched; slot attention makes its own from the plan.
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),
                use_cache=False,
                slots=plan,
            )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    @torch.inference_mode()
    def _check_forward(self) -> None:
        """Refuse a model whose logits through the slots are not its own (unknown layers, scalings)."""
        ids = torch.arange(8) * 7 % self.text_vocab
        with self._within():
            expected = self.base(input_ids=ids.to(self.device)[None]).logits[0, -1, : self.text_vocab]
        self.cache, self.tokens = SlotCache(1, 8), [[]]
        try:
            found = self.head(self.sync([0], [ids.tolist()])[0])[0]
        finally:
            self.release()
            self.counters = Counters()
        scale = expected.float().abs().max()
        error = (found - expected.float().to(found.device)).abs().max()
        limit = 1e-3 if expected.dtype == torch.float32 else 5e-2
        if not error <= limit * scale and bool(torch.isfinite(scale)):
            raise UnsupportedModelError(
                f"{self.name}: {type(self.base).__name__} gives other logits through the slot engine "
                f"(largest difference {error:.3g} at a scale of {scale:.3g}): it has layers or "
                "scalings that the engine does not know; use --model hf for it"
            )
        self._is_checked = True


def check_supported(config: Any, name: str) -> None:
    """Raise `UnsupportedModelError` for recurrent, hybrid, chunked or cache-sharing layers."""
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    recurrent = [key for key in ("ssm_cfg", "state_size", "mamba_d_state") if hasattr(config, key)]
    shared = getattr(config, "num_kv_shared_layers", 0) or 0
    if layers - KNOWN_LAYERS or recurrent or shared:
        found = sorted(layers - KNOWN_LAYERS) or recurrent or [f"num_kv_shared_layers={shared}"]
        raise UnsupportedModelError(
            f"{name}: {config.model_type} has {', '.join(map(str, found))}; the slot engine decodes "
            "models whose layers are all full_attention or sliding_attention; use --model hf for it"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name}: {config.model_type} is an encoder-decoder model; expected a decoder-only one"
        )


def _segment(tokens: slice, rows: slice, positions: Tensor, own: Tensor) -> Segment:
    return Segment(tokens, rows, positions, own, int(own.max()) + 1)


def _alike(rows: Sequence[int], sizes: Sequence[int]) -> list[slice]:
    """Runs of neighbouring rows of one size, as slices of both lists: [0, 1, 4], [1, 1, 1] -> [0:2, 2:3]."""
    runs: list[slice] = []
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if runs and row == rows[i - 1] + 1 and size == sizes[i - 1]:
            runs[-1] = slice(runs[-1].start, i + 1)
        else:
            runs.append(slice(i, i + 1))
    return runs


def _rows_of(rows: Sequence[int], run: slice) -> slice:
    """The rows of one of `_alike`'s runs."""
    return slice(rows[run.start], rows[run.stop - 1] + 1)


def _parts(items: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Items in order, split where a pass would exceed `limit` tokens."""
    parts: list[list[int]] = []
    room = 0
    for item in items:
        if not parts or sizes[item] > room:
            parts.append([])
            room = limit
        parts[-1].append(item)
        room -= sizes[item]
    return parts


def _common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differs = np.nonzero(a[:n] != b[:n])[0]
    return int(differs[0]) if len(differs) else n
