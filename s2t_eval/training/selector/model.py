"""The student with an adapter and a score form: the module that `s2t-eval train` optimises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from s2t_eval.models.lm_head import LMHead
from s2t_eval.models.lora import with_lora
from s2t_eval.selection.scores import (
    Evidence,
    Score,
    make_score,
)
from s2t_eval.statistics import LEAST_LOG_PROB
from s2t_eval.training.chunks import checkpointed_sum
from s2t_eval.training.selector.items import Item
from s2t_eval.training.selector.losses import LOSSES
from s2t_eval.training.selector.packing import Batch, attention_masks, pack
from s2t_eval.training.selector.settings import SelectorSettings


class Losses(NamedTuple):
    """Losses of a batch, summed over its groups; `loss` is `selection` plus beta times `regularizer`."""

    loss: Tensor
    selection: Tensor
    regularizer: Tensor


class SelectorModel(nn.Module):
    """A student with LoRA on attention and MLP, and the readout rows.

    Args:
        base: the student; its weights are frozen and never change.
        settings: form, loss and size of the selector.
        text_vocab: leading rows of the head that are text; the regularizer is restricted to them.
        readout: initial rows, [bins, hidden]. None takes the head's unused rows if the form is the paper's
            and there are enough of them, else zeros.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        settings: SelectorSettings,
        text_vocab: int,
        readout: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.peft: PeftModel = with_lora(base, settings, settings.last_layers)
        base_model: Any = self.peft.get_base_model()
        self.config = base_model.config.get_text_config(decoder=True)
        self._base_model = [base_model]  # in a list, so that its parameters are not registered twice
        self._lm_head = LMHead(base_model, text_vocab)
        rows = initial_readout(self._lm_head, settings) if readout is None else readout
        # Form `direct` does not use the readout: without a gradient it has no optimizer state.
        self.readout = nn.Parameter(rows.float(), requires_grad=settings.looks_ahead)

    @property
    def base_model(self) -> Any:
        """The student; its layers contain the adapter's."""
        return self._base_model[0]

    @property
    def score(self) -> Score:
        """The score form over the current readout."""
        return make_score(self.settings.form, self.readout, self.settings.score_as)

    def pack(self, items: Sequence[Item]) -> Batch:
        """Pack items into a batch for this form and loss, on this model's device."""
        settings = self.settings
        batch = pack(items, settings.looks_ahead, whole_text=settings.beta > 0 and settings.anchor == "text")
        return batch.to(self.readout.device)

    def pack_steps(self, items: Sequence[Item]) -> Batch:
        """Pack items without their candidates' branches, for `own_logits`, on this model's device."""
        return pack(items, branches=False, whole_text=False).to(self.readout.device)

    def forward(self, batch: Batch) -> Losses:
        """The losses of a batch."""
        hidden = self._hidden(batch)
        scores = self._scores(batch, hidden)
        per_group = LOSSES[self.settings.loss](
            scores, batch.teacher_log_probs, self.settings.effective_temperature
        )
        selection = (per_group * batch.weights).sum()
        regularizer = selection.new_zeros(())
        if self.settings.beta and self.settings.anchor == "labels":
            regularizer = self._label_regularizer(batch, hidden)
        elif self.settings.beta:
            regularizer = self._regularizer(batch, hidden[batch.text_index])
        return Losses(selection + self.settings.beta * regularizer, selection, regularizer)

    def scores(self, batch: Batch) -> Tensor:
        """Scores of all candidates, float32 [groups, K]."""
        return self._scores(batch, self._hidden(batch))

    def own_logits(self, batch: Batch) -> Tensor:
        """The adapted model's logits of all candidates at their steps, float32 [groups, K]."""
        return self._logits(batch, self._hidden(batch))

    def _hidden(self, batch: Batch) -> Tensor:
        """Hidden states of the flat batch, [batch * seq, hidden]."""
        masks = attention_masks(self.config, batch, self.base_model.dtype)
        output = self.base_model.get_decoder()(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=masks,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state.flatten(0, 1)
        return hidden

    def _scores(self, batch: Batch, hidden: Tensor) -> Tensor:
        if self.settings.looks_ahead:
            return self.score.score(Evidence(batch.student_log_probs, hidden=hidden[batch.branch_index]))
        return self.score.score(Evidence(batch.student_log_probs, own_logits=self._logits(batch, hidden)))

    def _logits(self, batch: Batch, hidden: Tensor) -> Tensor:
        return self._lm_head.logits_at(hidden[batch.step_index], batch.candidates)

    def _regularizer(self, batch: Batch, tuned: Tensor) -> Tensor:
        """KL between tuned and frozen student over the text vocabulary, at all positions of the texts.

        It is a sum over texts, each one's mean over its positions times its weight.
        """
        with torch.no_grad(), self.peft.disable_adapter():
            frozen = self._hidden(batch)[batch.text_index]
        return checkpointed_sum(self._kl, tuned, frozen, batch.text_weights)

    def _label_regularizer(self, batch: Batch, hidden: Tensor) -> Tensor:
        """KL between tuned and frozen student at the anchors, from the labels: no second forward pass.

        The distributions are over the labelled candidates and one more bucket, the rest of the vocabulary.
        Merging tokens into a bucket can only lower a KL, so this is a lower bound of the full one.
        """
        positions, candidates, log_probs, weights = batch.anchors
        if not len(positions):
            return hidden.new_zeros((), dtype=torch.float32)
        return checkpointed_sum(self._bucket_kl, hidden[positions], candidates, log_probs, weights)

    def _bucket_kl(self, tuned: Tensor, candidates: Tensor, frozen: Tensor, weights: Tensor) -> Tensor:
        logits = self._lm_head.logits(tuned)
        log_probs = logits.gather(-1, candidates) - logits.logsumexp(-1, keepdim=True)
        p, q = (with_rest(values.float()) for values in (log_probs, frozen))
        if self.settings.reverse:
            p, q = q, p
        return ((p.exp() * (p - q)).sum(-1) * weights).sum()

    def _kl(self, tuned: Tensor, frozen: Tensor, weights: Tensor) -> Tensor:
        p, q = (self._lm_head.logits(states).log_softmax(-1) for states in (tuned, frozen))
        if self.settings.reverse:
            p, q = q, p
        return ((p.exp() * (p - q)).sum(-1) * weights).sum()


LEAST_REST = 1e-6
"""Smallest probability of the rest of the vocabulary: below it a difference from 1 is rounding."""


def with_rest(log_probs: Tensor) -> Tensor:
    """Log-probabilities of some tokens and, last, of all others together, [n, tokens + 1]."""
    rest = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp(min=LEAST_REST)
    return torch.cat([log_probs.clamp(min=LEAST_LOG_PROB), rest.log()], dim=-1)


def initial_readout(lm_head: LMHead, settings: SelectorSettings) -> Tensor:
    """Rows of an untrained readout, float32 [bins, hidden]."""
    weight: Tensor = lm_head.module.weight
    unused = weight[lm_head.text_vocab :]
    if settings.form == "lookahead" and len(unused) >= settings.bins:
        return unused[: settings.bins].detach().float().clone()
    return torch.zeros(settings.bins, lm_head.width, device=weight.device)
