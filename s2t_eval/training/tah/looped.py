"""The looped student over whole texts: every depth runs in parallel over the sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from s2t_eval.methods.tah.duo_causal import NOWHERE, Places, layer_masks
from s2t_eval.methods.tah.mixture import top_mixture
from s2t_eval.methods.tah.settings import LoopedSettings
from s2t_eval.methods.tah.taps import LayerTaps, decoder_layers
from s2t_eval.models.lm_head import LMHead
from s2t_eval.models.lora import with_lora


class Tokens(NamedTuple):
    """Tokens of a batch: text and position of each, [n]."""

    texts: Tensor
    positions: Tensor

    @classmethod
    def where(cls, mask: Tensor) -> Tokens:
        """The tokens that a bool [batch, seq] marks, text by text."""
        texts, positions = mask.nonzero(as_tuple=True)
        return cls(texts, positions)

    def take(self, mask: Tensor) -> Tokens:
        """Those of them that a bool [n] marks."""
        return Tokens(self.texts[mask], self.positions[mask])


class Memory:
    """Keys and values of a batch of texts, and where each slot stands."""

    def __init__(self, places: Places) -> None:
        self.cache = DynamicCache()  # without a config: sliding layers keep every slot, masks decide
        self.places = places


class LoopedModel(nn.Module):
    """A student with an adapter that is off at depth 0 and on deeper.

    Args:
        base: the student, which gets a new adapter, or the student with a trained one.
        settings: how it loops.
        text_vocab: leading rows of the head that are text.
    """

    def __init__(
        self,
        base: PreTrainedModel | PeftModel,
        settings: LoopedSettings,
        text_vocab: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.peft: PeftModel = base if isinstance(base, PeftModel) else with_lora(base, settings)
        plain: Any = self.peft.get_base_model()
        self._plain = [plain]  # in a list, so that its parameters are not registered twice
        self._lm_head = LMHead(plain, text_vocab)
        self.text_vocab = self._lm_head.text_vocab
        self.config = plain.config.get_text_config(decoder=True)
        self._taps: LayerTaps | None = None
        if settings.train_base:
            for parameter in plain.parameters():
                parameter.requires_grad_(True)

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        found: torch.device = self._plain[0].get_input_embeddings().weight.device
        return found

    def read_layers(self, layers: Sequence[int]) -> None:
        """From now on `begin` and `deepen` also give these layers' outputs."""
        body = self._plain[0].get_decoder()
        self._taps = LayerTaps(decoder_layers(body, self.config.num_hidden_layers), layers)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the text vocabulary, float32 [n, vocab], from hidden states [n, hidden]."""
        return self._lm_head.logits(hidden)

    def mix(self, total: Tensor) -> Tensor:
        """The next pass's input from accumulated logits, [n, hidden]."""
        return top_mixture(self._plain[0].get_input_embeddings(), total, self.settings.top_n)

    def begin(self, ids: Tensor) -> tuple[Tensor, Tensor | None, Memory]:
        """Depth 0 over right-padded texts, the adapter off.

        Args:
            ids: [batch, seq]; what stands behind a text is never seen by it.

        Returns:
            Hidden states [batch, seq, hidden], outputs of the layers read [batch, seq, layers * hidden],
            and what deeper passes look at.
        """
        batch, seq = ids.shape
        positions = torch.arange(seq, device=ids.device).expand(batch, seq)
        memory = Memory(Places(positions, torch.zeros_like(positions)))
        is_trained = torch.is_grad_enabled() and self.settings.train_base
        with torch.set_grad_enabled(is_trained), self.peft.disable_adapter():
            hidden = self._run(memory, input_ids=ids, position_ids=positions)
        return hidden, self._taps.take() if self._taps else None, memory

    def adapted(self, ids: Tensor) -> Tensor:
        """Hidden states [batch, seq, hidden] of one plain pass with the adapter on: ordinary tuning."""
        layers: Any = self.peft.base_model
        layers.enable_adapter_layers()
        hidden: Tensor = self._plain[0].get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def deepen(
        self, memory: Memory, embeds: Tensor, at: Tokens, depth: int, alone: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """One deeper pass over some tokens, the adapter on; its slots join the memory.

        Args:
            memory: of the passes before.
            embeds: mixtures, [n, hidden].
            at: the tokens' texts and positions, [n] each, texts ascending.
            depth: of this pass, from 1.
            alone: tokens that only ask what would be: no other token sees their slot, bool [n].

        Returns:
            Hidden states [n, hidden], and outputs of the layers read [n, layers * hidden].
        """
        layers: Any = self.peft.base_model
        layers.enable_adapter_layers()  # a decoder of the same student leaves it off
        batch = memory.places.positions.shape[0]
        counts = torch.bincount(at.texts, minlength=batch)
        width = int(counts.max())
        column = torch.arange(len(at.texts), device=embeds.device) - (counts.cumsum(0) - counts)[at.texts]
        padded = embeds.new_zeros(batch, width, embeds.shape[-1]).index_put((at.texts, column), embeds)
        positions = torch.zeros(batch, width, dtype=torch.long, device=embeds.device)
        positions[at.texts, column] = at.positions
        slots = torch.full_like(positions, NOWHERE)
        slots[at.texts, column] = at.positions
        own = torch.zeros_like(positions, dtype=torch.bool)
        if alone is not None:
            own[at.texts, column] = alone
        depths = torch.full_like(positions, depth)
        memory.places = memory.places.concat(Places(slots, depths))
        masks = layer_masks(self.config, Places(positions, depths), memory.places, own, embeds.dtype)
        hidden = self._run(memory, inputs_embeds=padded, position_ids=positions, attention_mask=masks)
        read = self._taps.take()[at.texts, column] if self._taps else None
        return hidden[at.texts, column], read

    def _run(self, memory: Memory, **inputs: Any) -> Tensor:
        body = self._plain[0].get_decoder()
        output = body(**inputs, past_key_values=memory.cache, use_cache=True)
        hidden: Tensor = output.last_hidden_state
        return hidden


class Look(NamedTuple):
    """What one pass over some tokens gave."""

    depth: int
    """of the pass, from 0"""
    at: Tokens
    totals: Tensor
    """accumulated logits, float32 [n, vocab]"""
    states: Tensor | None
    """outputs of the layers read, [n, layers * hidden]"""
    goes_on: Tensor
    """which of the tokens are looked at again, bool [n]"""


Choose = Callable[[int, Tokens, Tensor, Tensor | None], Tensor]
"""(depth, tokens, accumulated logits, outputs of the layers read) -> who goes on, bool [n]."""


def walk(looped: LoopedModel, ids: Tensor, steps: Tensor, choose: Choose) -> Iterator[Look]:
    """Pass after pass over a batch of texts, each depth in parallel over the sequence.

    Args:
        looped: the looped student.
        ids: right-padded texts, [batch, seq].
        steps: the tokens whose logits are wanted, bool [batch, seq].
        choose: which of them are looked at again; not asked at the last depth.
    """
    hidden, states, memory = looped.begin(ids)
    at = Tokens.where(steps)
    totals = looped.logits(hidden[at.texts, at.positions])
    states = None if states is None else states[at.texts, at.positions]
    for depth in range(looped.settings.max_depth):
        is_last = depth + 1 == looped.settings.max_depth
        none = torch.zeros_like(at.texts, dtype=torch.bool)
        goes_on = none if is_last else choose(depth, at, totals, states)
        yield Look(depth, at, totals, states, goes_on)
        if not bool(goes_on.any()):
            return
        at, totals = at.take(goes_on), totals[goes_on]
        hidden, states = looped.deepen(memory, looped.mix(totals), at, depth + 1)
        totals = totals + looped.logits(hidden)
