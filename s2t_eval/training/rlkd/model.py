"""The student with an adapter that GRPO trains; without the adapter it is the reference of the KL term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from s2t_eval.models.lora import with_lora
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.training.chunks import CHUNK, checkpointed_sum
from s2t_eval.training.distil.model import TextModel
from s2t_eval.training.distil.texts import Texts, pad_texts
from s2t_eval.training.loop import Loss
from s2t_eval.training.rlkd.grpo import clipped_losses, kl_estimates


class Group(NamedTuple):
    """The samples of one problem with their advantages."""

    prompt_ids: Tensor
    """[prompt]"""
    outputs: list[Tensor]
    """tokens of each sample with its stop token, [steps] each"""
    advantages: Tensor
    """float32 [size]"""
    old_log_probs: Tensor | None = None
    """log-probabilities of all samples' tokens when they were sampled, [steps of all samples]; None where the
    model has not been updated since"""


class GroupBatch(NamedTuple):
    """Some groups; the steps of all their texts are concatenated."""

    texts: Texts
    next_ids: Tensor
    """the token of each step, [steps]"""
    advantages: Tensor
    """advantage of each step's text, [steps]"""
    weights: Tensor
    """1 / (steps of the text * texts of the group) at each step: each problem has weight 1, [steps]"""
    old_log_probs: Tensor | None
    """[steps], or None; see `Group`"""

    def to(self, device: torch.device) -> GroupBatch:
        """The batch with all tensors on a device."""
        texts = Texts(*(tensor.to(device) for tensor in self.texts))
        old = None if self.old_log_probs is None else self.old_log_probs.to(device)
        return GroupBatch(
            texts, self.next_ids.to(device), self.advantages.to(device), self.weights.to(device), old
        )


def collate(groups: Sequence[Group]) -> GroupBatch:
    """Make a batch of groups, all of them with old log-probabilities or none."""
    outputs = [output for group in groups for output in group.outputs]
    prompts = [group.prompt_ids for group in groups for _ in group.outputs]
    lengths = torch.tensor([len(output) for output in outputs])
    sizes = torch.tensor([len(group.outputs) for group in groups for _ in group.outputs])
    old = [group.old_log_probs for group in groups if group.old_log_probs is not None]
    return GroupBatch(
        pad_texts(prompts, outputs),
        torch.cat(outputs),
        torch.cat([group.advantages for group in groups]).repeat_interleave(lengths),
        (1 / (lengths * sizes)).repeat_interleave(lengths),
        torch.cat(old) if old else None,
    )


class RlkdModel(nn.Module):
    """GRPO's loss of a student with a new adapter.

    Args:
        student: gets the adapter; its own weights are not trained.
        adapter: size of the adapter.
        text_vocab: leading rows of the head that are text.
        temperature: temperature of the samples; the loss is of the distribution that was sampled from.
        clip_range: GRPO's epsilon.
        kl_weight: GRPO's beta.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        adapter: LoraSettings,
        text_vocab: int,
        temperature: float,
        clip_range: float,
        kl_weight: float,
    ) -> None:
        super().__init__()
        self.student: PeftModel = with_lora(student, adapter)
        self.temperature = temperature
        self.clip_range = clip_range
        self.kl_weight = kl_weight
        self._model = TextModel(student, text_vocab)

    @property
    def device(self) -> torch.device:
        """Device of the student."""
        return next(self.student.parameters()).device

    def train(self, mode: bool = True) -> RlkdModel:
        """Stay in evaluation mode: the student's own dropout would change a text's probabilities."""
        return super().train(False)

    def forward(self, batch: GroupBatch) -> Loss:
        """The loss, summed over the batch's problems."""
        reference = self._reference_log_probs(batch)
        hidden = self._model.hidden(batch.texts)
        old = batch.old_log_probs
        columns = [hidden, batch.next_ids, reference, batch.advantages, batch.weights]
        return Loss(checkpointed_sum(self._loss, *columns, *([] if old is None else [old])))

    @torch.no_grad()
    def log_probs(self, batch: GroupBatch) -> Tensor:
        """Log-probabilities of the batch's tokens under the present weights, float32 [steps]."""
        hidden = self._model.hidden(batch.texts)
        parts = zip(hidden.split(CHUNK), batch.next_ids.split(CHUNK), strict=True)
        return torch.cat([self._token_log_probs(states, ids) for states, ids in parts])

    def _reference_log_probs(self, batch: GroupBatch) -> Tensor:
        """Log-probabilities of the tokens without the adapter; zeros where no KL divergence is computed."""
        if not self.kl_weight:
            return torch.zeros(len(batch.next_ids), device=self.device)
        with self.student.disable_adapter():
            return self.log_probs(batch)

    def _token_log_probs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        return self._model.log_probs(hidden, self.temperature).gather(-1, ids[:, None])[:, 0]

    def _loss(
        self,
        hidden: Tensor,
        ids: Tensor,
        reference: Tensor,
        advantages: Tensor,
        weights: Tensor,
        old: Tensor | None = None,
    ) -> Tensor:
        """The loss of a chunk of steps, weighted and summed."""
        log_probs = self._token_log_probs(hidden, ids)
        # Before the first update the ratio is 1 and has the gradient of the log-probability.
        old = log_probs.detach() if old is None else old
        losses = clipped_losses(log_probs, old, advantages, self.clip_range)
        if self.kl_weight:
            losses = losses + self.kl_weight * kl_estimates(log_probs, reference)
        return (weights * losses).sum()
