"""Student and teacher on the same texts: the module that `s2t-eval distil` optimises."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from s2t_eval.models.lm_head import LMHead, input_device
from s2t_eval.models.lora import with_lora
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.training.chunks import CHUNK, checkpointed_sum
from s2t_eval.training.distil.losses import Positions, entropy_of, kl
from s2t_eval.training.distil.methods import Method
from s2t_eval.training.distil.texts import Batch, Texts
from s2t_eval.training.loop import Loss
from s2t_eval.training.processes import all_processes


class DistillMetrics(NamedTuple):
    """Metrics of a batch, summed over its steps."""

    loss: Tensor
    """the method's loss"""
    forward_kl: Tensor
    """KL(p_T || p_S), nats"""
    num_agreeing: Tensor
    """number of steps at which student and teacher have the same argmax token"""


class TextModel:
    """A decoder and its LM head. No `nn.Module`, so that it registers no parameters."""

    def __init__(self, model: PreTrainedModel, text_vocab: int) -> None:
        self.model: Any = model
        self.lm_head = LMHead(model, text_vocab)

    def hidden(self, texts: Texts) -> Tensor:
        """Hidden states at the positions that predict the steps, [steps, hidden], on the model's device."""
        ids = texts.input_ids.to(self._device_for(texts.input_ids.device))
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        output = self.model.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False)
        states: Tensor = output.last_hidden_state.flatten(0, 1)
        return states[texts.step_index.to(states.device)]

    def _device_for(self, device: torch.device) -> torch.device:
        """The device on which the model reads texts of this one.

        Of several processes each moves its student to a device of its own, which a teacher follows. One that
        is spread over devices or offloaded, or that was loaded on another device, stays where it is.
        """
        is_spread = getattr(self.model, "hf_device_map", None) is not None
        if not is_spread and self.model.device != device and all_processes().num_processes > 1:
            self.model.to(device)
        return input_device(self.model)

    def log_probs(self, hidden: Tensor, temperature: float) -> Tensor:
        """Log-probabilities over the text vocabulary, float32 [positions, text_vocab]."""
        logits = self.lm_head.logits(hidden)
        return (logits if temperature == 1 else logits / temperature).log_softmax(-1)


class DistilModel(nn.Module):
    """A student that is trained and a teacher that is not.

    Args:
        student: is trained as a whole, or gets an adapter that is trained.
        teacher: runs without gradient on the same texts after its own prompts.
        method: the loss.
        adapter: size of the adapter; None trains all weights of the student.
        text_vocab: leading rows of both heads that are text; the heads may differ in padding.
        temperature: divides both models' logits in the loss; metrics are measured at 1.

    Raises:
        ValueError: the temperature is not above 0, or a head has fewer rows than `text_vocab`.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        method: Method,
        adapter: LoraSettings | None,
        text_vocab: int,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")
        for role, model in (("student", student), ("teacher", teacher)):
            rows = LMHead(model).vocab
            if rows < text_vocab:
                raise ValueError(f"{role}: its head has {rows} rows for {text_vocab} text tokens")
        self.method = method
        self.temperature = temperature
        self.student: PreTrainedModel | PeftModel
        if adapter is None:
            self.student = student.requires_grad_(True)
        else:
            self.student = with_lora(student, adapter)
        self._student = TextModel(student, text_vocab)
        # Not registered as a module, so that the teacher is neither trained, saved nor set to training mode.
        self._teacher = TextModel(teacher.requires_grad_(False).eval(), text_vocab)

    @property
    def device(self) -> torch.device:
        """Device of the student."""
        return next(self.student.parameters()).device

    def forward(self, batch: Batch) -> Loss:
        """The method's loss, summed over the batch's steps."""
        student_hidden = self._student.hidden(batch.student)
        if self.method.needs_teacher:
            teacher_hidden = self._teacher_hidden(batch)
        else:
            teacher_hidden = student_hidden.new_zeros(len(student_hidden), 0)
        weights = self._position_weights(student_hidden.detach(), batch)
        return Loss(checkpointed_sum(self._loss, student_hidden, teacher_hidden, batch.next_ids, weights))

    @torch.no_grad()
    def metrics(self, batch: Batch) -> DistillMetrics:
        """The loss, the forward KL and the agreement of the batch, summed over its steps."""
        student_hidden, teacher_hidden = self._student.hidden(batch.student), self._teacher_hidden(batch)
        weights = self._position_weights(student_hidden, batch)
        device = student_hidden.device
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        for begin in range(0, len(student_hidden), CHUNK):
            part = slice(begin, begin + CHUNK)
            loss = self._loss(student_hidden[part], teacher_hidden[part], batch.next_ids[part], weights[part])
            student = self._student.log_probs(student_hidden[part], 1.0)
            teacher = self._teacher.log_probs(teacher_hidden[part], 1.0).to(device)
            num_agreeing = (student.argmax(-1) == teacher.argmax(-1)).sum()
            sums += torch.stack([loss, kl(teacher, student).sum(), num_agreeing])
        return DistillMetrics(*sums)

    @torch.no_grad()
    def _teacher_hidden(self, batch: Batch) -> Tensor:
        return self._teacher.hidden(batch.teacher)

    @torch.no_grad()
    def _position_weights(self, student_hidden: Tensor, batch: Batch) -> Tensor:
        """The method's weights of each text's positions, [steps of all texts, m]; m is 0 without weights."""
        weights_of = self.method.position_weights
        if weights_of is None:
            return torch.zeros(len(student_hidden), 0, device=student_hidden.device)
        parts = student_hidden.split(CHUNK)
        log_probs = (self._student.log_probs(part, self.temperature) for part in parts)
        entropies = torch.cat([entropy_of(part) for part in log_probs])
        return torch.cat([weights_of(part) for part in entropies.split(batch.lengths)])

    def _loss(
        self, student_hidden: Tensor, teacher_hidden: Tensor, next_ids: Tensor, weights: Tensor
    ) -> Tensor:
        """The loss of a chunk of positions, summed."""
        student = self._student.log_probs(student_hidden, self.temperature)
        teacher = student.new_zeros(len(student_hidden), 0)
        if self.method.needs_teacher:
            teacher = self._teacher.log_probs(teacher_hidden, self.temperature).to(student.device)
        return self.method.losses(Positions(student, teacher, next_ids, weights)).sum()
