"""The looped student on whole texts: each depth is computed in parallel over the sequence."""

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
from s2t_eval.methods.tah.taps import LayerTaps
from s2t_eval.models.decoder_layers import decoder_layers
from s2t_eval.models.lm_head import LMHead
from s2t_eval.models.lora import with_lora


class TokenIndices(NamedTuple):
    """Indices of some tokens of a batch."""

    texts: Tensor
    """[n], ascending"""
    positions: Tensor
    """[n]"""

    @classmethod
    def where(cls, mask: Tensor) -> TokenIndices:
        """The tokens that a bool [batch, seq] selects, text by text."""
        texts, positions = mask.nonzero(as_tuple=True)
        return cls(texts, positions)

    def select(self, mask: Tensor) -> TokenIndices:
        """The tokens that a bool [n] selects."""
        return TokenIndices(self.texts[mask], self.positions[mask])


class SlotCache:
    """Keys and values of a batch of texts, with the position and depth of each slot."""

    def __init__(self, places: Places) -> None:
        # Without a config, sliding layers keep every slot; their windows are applied by the masks.
        self.keys_values = DynamicCache()
        self.places = places


class LoopedModel(nn.Module):
    """A student with an adapter that is disabled at depth 0 and enabled at greater depths.

    Args:
        base: the student, to which an untrained adapter is added, or the student with a trained adapter.
        settings: number of passes, inputs of deeper passes, and size of the adapter.
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
        base_model: Any = self.peft.get_base_model()
        self._base_model = [base_model]  # in a list, so that its parameters are not registered twice
        self._lm_head = LMHead(base_model, text_vocab)
        self.text_vocab = self._lm_head.text_vocab
        self.config = base_model.config.get_text_config(decoder=True)
        self._taps: LayerTaps | None = None
        if settings.train_base:
            for parameter in base_model.parameters():
                parameter.requires_grad_(True)

    @property
    def device(self) -> torch.device:
        """Device of the embeddings."""
        device: torch.device = self._base_model[0].get_input_embeddings().weight.device
        return device

    def read_layers(self, layers: Sequence[int]) -> None:
        """Make `first_pass` and `deeper_pass` also return the outputs of these layers."""
        decoder = self._base_model[0].get_decoder()
        self._taps = LayerTaps(decoder_layers(decoder, self.config.num_hidden_layers), layers)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits over the text vocabulary, float32 [n, vocab], from hidden states [n, hidden]."""
        return self._lm_head.logits(hidden)

    def mixed_embeddings(self, logits: Tensor) -> Tensor:
        """The next pass's inputs, [n, hidden], from accumulated logits [n, vocab]."""
        return top_mixture(self._base_model[0].get_input_embeddings(), logits, self.settings.top_n)

    def first_pass(self, ids: Tensor) -> tuple[Tensor, Tensor | None, SlotCache]:
        """Depth 0 over right-padded texts, with the adapter disabled.

        Args:
            ids: token ids, [batch, seq]; causal attention keeps padding out of the texts before it.

        Returns:
            Hidden states [batch, seq, hidden]; outputs of the read layers [batch, seq, layers * hidden], None
            without any; and the cache for deeper passes.
        """
        batch, seq = ids.shape
        positions = torch.arange(seq, device=ids.device).expand(batch, seq)
        cache = SlotCache(Places(positions, torch.zeros_like(positions)))
        needs_grad = torch.is_grad_enabled() and self.settings.train_base
        with torch.set_grad_enabled(needs_grad), self.peft.disable_adapter():
            hidden = self._run(cache, input_ids=ids, position_ids=positions)
        return hidden, self._taps.take() if self._taps else None, cache

    def tuned_hidden(self, ids: Tensor) -> Tensor:
        """Hidden states [batch, seq, hidden] of one ordinary pass with the adapter enabled."""
        self._enable_adapter()
        decoder = self._base_model[0].get_decoder()
        hidden: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def deeper_pass(
        self,
        cache: SlotCache,
        embeds: Tensor,
        tokens: TokenIndices,
        depth: int,
        isolated: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One deeper pass over some tokens, with the adapter enabled; its slots are added to the cache.

        Args:
            cache: the slots of the passes before.
            embeds: the tokens' inputs, [n, hidden].
            tokens: indices of the tokens, [n].
            depth: depth of this pass, from 1.
            isolated: tokens whose slot no other token attends to, bool [n]; None for none.

        Returns:
            Hidden states [n, hidden], and outputs of the read layers [n, layers * hidden], None without any.
        """
        self._enable_adapter()
        batch = cache.places.positions.shape[0]
        counts = torch.bincount(tokens.texts, minlength=batch)
        width = int(counts.max())
        # Column of each token in a [batch, width] tensor that holds each text's tokens from the left.
        first = (counts.cumsum(0) - counts)[tokens.texts]
        index = (tokens.texts, torch.arange(len(tokens.texts), device=embeds.device) - first)
        padded = embeds.new_zeros(batch, width, embeds.shape[-1]).index_put(index, embeds)
        positions = torch.zeros(batch, width, dtype=torch.long, device=embeds.device)
        positions[index] = tokens.positions
        slot_positions = torch.full_like(positions, NOWHERE)
        slot_positions[index] = tokens.positions
        is_isolated = torch.zeros_like(positions, dtype=torch.bool)
        if isolated is not None:
            is_isolated[index] = isolated
        depths = torch.full_like(positions, depth)
        cache.places = cache.places.concat(Places(slot_positions, depths))
        queries = Places(positions, depths)
        masks = layer_masks(self.config, queries, cache.places, is_isolated, embeds.dtype)
        hidden = self._run(cache, inputs_embeds=padded, position_ids=positions, attention_mask=masks)
        return hidden[index], self._taps.take()[index] if self._taps else None

    def _enable_adapter(self) -> None:
        """Enable the adapter, which a decoder of the same student may have left disabled."""
        layers: Any = self.peft.base_model
        layers.enable_adapter_layers()

    def _run(self, cache: SlotCache, **inputs: Any) -> Tensor:
        decoder = self._base_model[0].get_decoder()
        output = decoder(**inputs, past_key_values=cache.keys_values, use_cache=True)
        hidden: Tensor = output.last_hidden_state
        return hidden


class DepthOutput(NamedTuple):
    """The output of one pass over some tokens."""

    depth: int
    """depth of the pass, from 0"""
    tokens: TokenIndices
    logits: Tensor
    """logits accumulated over the passes so far, float32 [n, vocab]"""
    layer_outputs: Tensor | None
    """outputs of the read layers, [n, layers * hidden]; None without any"""
    continues: Tensor
    """whether each token takes part in the next pass, bool [n]"""


ContinueRule = Callable[[int, TokenIndices, Tensor, Tensor | None], Tensor]
"""(depth, tokens, accumulated logits, outputs of the read layers) -> which tokens continue, bool [n]."""


def iterate_depths(
    looped: LoopedModel, ids: Tensor, steps: Tensor, rule: ContinueRule
) -> Iterator[DepthOutput]:
    """Run pass after pass over a batch of texts, until no token continues or the last depth is reached.

    Args:
        looped: the looped student.
        ids: right-padded texts, [batch, seq].
        steps: the tokens whose logits are computed, bool [batch, seq].
        rule: decides which tokens continue; it is not called at the last depth.
    """
    hidden, layer_outputs, cache = looped.first_pass(ids)
    tokens = TokenIndices.where(steps)
    logits = looped.logits(hidden[tokens.texts, tokens.positions])
    if layer_outputs is not None:
        layer_outputs = layer_outputs[tokens.texts, tokens.positions]
    for depth in range(looped.settings.max_depth):
        if depth + 1 == looped.settings.max_depth:
            continues = torch.zeros_like(tokens.texts, dtype=torch.bool)
        else:
            continues = rule(depth, tokens, logits, layer_outputs)
        yield DepthOutput(depth, tokens, logits, layer_outputs, continues)
        if not bool(continues.any()):
            return
        tokens, logits = tokens.select(continues), logits[continues]
        embeds = looped.mixed_embeddings(logits)
        hidden, layer_outputs = looped.deeper_pass(cache, embeds, tokens, depth + 1)
        logits = logits + looped.logits(hidden)
