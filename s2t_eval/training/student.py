"""The student that a training command adapts, and its identity."""

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
        model: the model, without an adapter.
        name: its name in saved files, without a path of this machine.
        fingerprint: hash of its weights.
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
        """The student of a loaded model and its tokenizer, with both hashes computed."""
        return cls(
            model, name, model_fingerprint(model), vocabulary_hash(tokenizer), text_vocabulary(tokenizer)
        )

    @property
    def identity(self) -> dict[str, str]:
        """What a resumed run must share with the interrupted one: `model_identity` of the student."""
        return model_identity("student", self.fingerprint, self.model)

    @property
    def hidden_size(self) -> int:
        """Width of its hidden states."""
        return int(self.model.config.get_text_config(decoder=True).hidden_size)


def model_identity(role: str, fingerprint: str, model: PreTrainedModel) -> dict[str, str]:
    """What a resumed run must share of a model with the interrupted one: its weights and its dtype.

    A fingerprint is the same in every dtype, but rounding differs: checkpoints, texts and labels of two
    dtypes must not be mixed.

    Args:
        role: what the model is to the run, such as `student`.
        fingerprint: hash of its weights.
        model: the model.
    """
    return {role: fingerprint, f"{role}_dtype": str(model.dtype)}


def load_student(name: str, dtype: str, device: str | None, trust_remote_code: bool) -> tuple[Student, Any]:
    """Load the student of this name, and its tokenizer."""
    model, tokenizer = load_model("pretrained", name, dtype, device, trust_remote_code)
    return Student.of(model, tokenizer, short_name(name)), tokenizer


def short_name(name: str) -> str:
    """A model's name in saved files: the last part of a path, so that no folder of this machine is named."""
    return name if name.startswith("embedded/") else Path(name).name
