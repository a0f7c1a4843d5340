"""The student that a training command adapts, with what identifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash


@dataclass(frozen=True)
class Student:
    """The student to adapt.

    Args:
        model: without an adapter.
        name: how it is called in what is written: no folder of this machine.
        fingerprint: of its weights.
        vocabulary: hash of its tokenizer's text entries.
        text_vocab: leading rows of its head that are text.
    """

    model: PreTrainedModel
    name: str
    fingerprint: str
    vocabulary: str
    text_vocab: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: Any, name: str) -> Student:
        """A loaded model with its tokenizer, identified."""
        return cls(
            model, name, model_fingerprint(model), vocabulary_hash(tokenizer), text_vocabulary(tokenizer)
        )

    @property
    def hidden_size(self) -> int:
        """Its width."""
        return int(self.model.config.get_text_config(decoder=True).hidden_size)


def load_student(name: str, dtype: str, device: str | None, trust_remote_code: bool) -> tuple[Student, Any]:
    """The student of this name, and its tokenizer."""
    model, tokenizer = load_model("pretrained", name, dtype, device, trust_remote_code)
    return Student.of(model, tokenizer, short_name(name)), tokenizer


def short_name(name: str) -> str:
    """How a model is called in what is written: no folder of this machine."""
    return name if name.startswith("embedded/") else Path(name).name
