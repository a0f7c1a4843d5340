"""A scorer with an adapter on the last layers alone, which computes only these from the student's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from s2t_eval.engine.cached_model import CHECKED_TOKENS
from s2t_eval.engine.kv_cache import KVCache
from s2t_eval.engine.layer_forms import has_known_layers
from s2t_eval.engine.layer_split import KEPT, LayerSplit, is_splittable
from s2t_eval.engine.packing import Packed, pack_branches
from s2t_eval.engine.pass_results import CandidateStates, Counters
from s2t_eval.engine.prefix_cache import PrefixCache
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.transfer import to_device
from s2t_eval.models.decoder_layers import decoder_layers


class UpperScorer(ModelRunner):
    """The student with an adapter on its last layers, which shares all layers below with the plain student.

    The student keeps what enters the first adapted layer in its cache. So a token costs the scorer a pass
    of the adapted layers only, and its cache holds keys and values of these alone. Row i of the student and
    row i of the scorer have the same text.

    Args:
        student: the plain student's runner, which has read each text before the scorer does.
        first: index of the first adapted layer, at least 1.
        name: its name in messages.
        forward_context: enables the adapter.
    """

    def __init__(
        self,
        student: ModelRunner,
        first: int,
        name: str,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        super().__init__(student.base, name, student.text_vocab, forward_context)
        self.student = student
        self._split = LayerSplit(decoder_layers(self.body, self.config.num_hidden_layers), first)
        student.keep_states(self._split)

    @property
    def num_parameters(self) -> int:
        """Parameters that a token meets: those of the layers that are computed, adapter included."""
        return self._split.num_parameters_above

    def score_candidates(
        self, rows: Sequence[int], texts: Sequence[Sequence[int]], candidates: Tensor
    ) -> CandidateStates:
        """As `ModelRunner.score_candidates`; the student first computes the candidates' lower layers."""
        for row, text in zip(rows, texts, strict=True):
            assert self.student.tokens[row] == list(text), "the student has read what the scorer reads"
        if candidates.shape[1]:
            lengths = torch.tensor([len(text) for text in texts])
            capacity = self.student.cache.capacity
            packed = pack_branches(rows, lengths, candidates.cpu(), capacity, 0, 0)
            with self._split.only_below():
                self.student.forward(packed)
        return super().score_candidates(rows, texts, candidates)

    def forward(
        self, packed: Packed, positions: Tensor | None = None, embeds: Tensor | None = None
    ) -> Tensor:
        """As `ModelRunner.forward`, from the states that the student kept of these tokens."""
        row, slot = packed.index // self.cache.capacity, packed.index % self.cache.capacity
        index = row * self.student.cache.capacity + slot
        states = self.student.cache.read(KEPT, to_device(index, self.device))
        with self._split.only_above(states[:, 0]):
            return super().forward(packed, positions, embeds)

    def _check_forward(self) -> None:
        """As `ModelRunner._check_forward`; the student reads the text of the check too."""
        student = self.student
        cache, prefixes, counters = student.cache, student.prefixes, student.counters
        student.cache, student.prefixes = KVCache(1, CHECKED_TOKENS), PrefixCache(1)
        student.counters = Counters()
        try:
            with torch.inference_mode():
                student.prefill([0], [self._checked_text()])
            super()._check_forward()
        finally:
            student.cache, student.prefixes, student.counters = cache, prefixes, counters


def make_scorer(
    student: ModelRunner,
    first: int,
    name: str,
    forward_context: Callable[[], AbstractContextManager[Any]],
) -> ModelRunner:
    """The runner that scores candidates with an adapter.

    Args:
        student: the plain student's runner.
        first: index of the first layer with an adapter; 0 if the adapter changes what enters the layers.
        name: the scorer's name in messages.
        forward_context: enables the adapter.
    """
    layers = decoder_layers(student.body, student.config.num_hidden_layers)
    if first > 0 and has_known_layers(layers) and is_splittable(layers):
        return UpperScorer(student, first, name, forward_context)
    return ModelRunner(student.base, name, student.text_vocab, forward_context)
