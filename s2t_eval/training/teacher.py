"""The teacher that a student is trained with: it is distilled, or writes and judges texts of RLKD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from s2t_eval.training.student import model_identity


@dataclass(frozen=True)
class TrainingTeacher:
    """The teacher of a training command, with the tokenizer of its texts and prompts.

    Args:
        model: shares the student's text vocabulary; the padding of its head may differ.
        name: its name in saved files.
        fingerprint: hash of its weights.
        stop_ids: tokens that end its texts.
        tokenizer: its tokenizer.
    """

    model: PreTrainedModel
    name: str
    fingerprint: str
    stop_ids: frozenset[int]
    tokenizer: Any = field(repr=False)

    @property
    def identity(self) -> dict[str, str]:
        """What a resumed run must share with the interrupted one: `model_identity` of the teacher."""
        return model_identity("teacher", self.fingerprint, self.model)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt, as one turn of the chat template if the tokenizer has one."""
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer.encode(prompt, add_special_tokens=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def release(self) -> None:
        """Free the memory of its weights, when nothing computes with them any more."""
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            tensor.data = tensor.data.new_empty(0)
