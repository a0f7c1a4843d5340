"""Student and teacher over the same texts: what `s2t-eval distil` optimises."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from s2t_eval.models.lm_head import LMHead
from s2t_eval.models.lora import LoraSettings, with_lora
from s2t_eval.training.chunks import CHUNK, recomputed_sum
from s2t_eval.training.distil.method import Method, Positions, entropy_of, kl
from s2t_eval.training.distil.texts import Batch, Texts


class Loss(NamedTuple):
    """Summed over the steps of a batch."""

    loss: Tensor


class Closeness(NamedTuple):
    """Sums over steps: the method's loss, KL(p_T || p_S) in nats, and equal first tokens."""

    loss: Tensor
    forward_kl: Tensor
    agreeing: Tensor


class DistilModel(nn.Module):
    """A student that is trained, beside a teacher that is not.

    Args:
        student: adapted, or trained as a whole.
        teacher: runs without gradient, forced along the same texts behind its own prompts.
        method: the loss of every step.
        adapter: None trains all weights of the student.
        text_vocab: leading rows of both heads that are text; heads of one family may differ in padding.
        temperature: divides the logits of both in the loss; figures are taken at 1.

    Raises:
        ValueError: a temperature that is not above 0, or a head with fewer rows than there is text.
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
        # In a list, so that the teacher is neither trained, saved nor set to training mode.
        self._plain = [student, teacher.requires_grad_(False).eval()]
        self._lm_heads = [LMHead(model, text_vocab) for model in self._plain]

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return next(self.student.parameters()).device

    def forward(self, batch: Batch) -> Loss:
        """The method's loss, summed over the batch's steps."""
        ours, theirs = self._states(batch, self.method.reads_teacher)
        weights = self._plan(ours.detach(), batch)
        return Loss(recomputed_sum(self._losses, ours, theirs, batch.next_ids, weights))

    @torch.no_grad()
    def closeness(self, batch: Batch) -> Closeness:
        """How near the student is to the teacher at the batch's steps."""
        ours, theirs = self._states(batch, with_teacher=True)
        weights = self._plan(ours, batch)
        sums = torch.zeros(3, dtype=torch.float64, device=ours.device)
        for begin in range(0, len(ours), CHUNK):
            part = slice(begin, begin + CHUNK)
            states = (ours[part], theirs[part])
            loss = self._losses(*states, batch.next_ids[part], weights[part])
            student, teacher = (self._log_probs(i, hidden, 1.0) for i, hidden in enumerate(states))
            agreeing = (student.argmax(-1) == teacher.argmax(-1)).sum()
            sums += torch.stack([loss, kl(teacher, student).sum(), agreeing])
        return Closeness(*sums)

    def _states(self, batch: Batch, with_teacher: bool) -> tuple[Tensor, Tensor]:
        """Hidden states that decide the steps, [steps, hidden] of each; the teacher's may be left out."""
        ours = self._hidden(0, batch.student)
        if not with_teacher:
            return ours, ours.new_zeros(len(ours), 0)
        with torch.no_grad():
            return ours, self._hidden(1, batch.teacher)

    def _hidden(self, which: int, texts: Texts) -> Tensor:
        model: Any = self._plain[which]
        if model.device != texts.input_ids.device:
            model.to(texts.input_ids.device)
        seq = texts.input_ids.shape[1]
        output = model.get_decoder()(
            input_ids=texts.input_ids,
            position_ids=torch.arange(seq, device=texts.input_ids.device).expand_as(texts.input_ids),
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state.flatten(0, 1)[texts.at]
        return hidden

    @torch.no_grad()
    def _plan(self, ours: Tensor, batch: Batch) -> Tensor:
        """What the method makes of each whole text, [steps of all texts, m]."""
        entropies = torch.zeros(len(ours), device=ours.device)
        if self.method.reads_entropy:
            parts = [entropy_of(self._log_probs(0, part, self.temperature)) for part in ours.split(CHUNK)]
            entropies = torch.cat(parts)
        return torch.cat([self.method.plan(entropy) for entropy in entropies.split(batch.lengths)])

    def _losses(self, ours: Tensor, theirs: Tensor, next_ids: Tensor, weights: Tensor) -> Tensor:
        """The summed loss of a chunk of positions."""
        student = self._log_probs(0, ours, self.temperature)
        teacher = student.new_zeros(len(ours), 0)
        if self.method.reads_teacher:
            teacher = self._log_probs(1, theirs, self.temperature)
        return self.method.losses(Positions(student, teacher, next_ids, weights)).sum()

    def _log_probs(self, which: int, hidden: Tensor, temperature: float) -> Tensor:
        """Log-probabilities over the text vocabulary, float32 [positions, text_vocab]."""
        logits = self._lm_heads[which].logits(hidden)
        return (logits if temperature == 1 else logits / temperature).log_softmax(-1)
