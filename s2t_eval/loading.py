"""Loading of students and teachers, with one clear message where a model cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from s2t_eval.embedded import embedded_path

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, EOFError)
"""What transformers, tokenizers, safetensors and peft raise over folders that they cannot read."""


class ModelLoadError(ValueError):
    """A model that is missing or unreadable."""


def resolve_model(name: str) -> str:
    """The folder of `embedded/...`; any other name is left to transformers."""
    return str(embedded_path(name)) if name.startswith("embedded/") else name


@contextmanager
def loading(role: str, name: object) -> Iterator[None]:
    """Turn what loading raises into one `ModelLoadError` that names role and model."""
    try:
        yield
    except ModelLoadError:
        raise
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelLoadError(
            f"{role}={name}: the model cannot be loaded ({reason}); expected a hub name, a folder "
            "with config.json, weights and tokenizer, or embedded/student, embedded/teacher"
        ) from error


def require_dtype(argument: str, value: Any) -> None:
    """Raise `ValueError` unless torch has a dtype of this name for weights, or it is "auto"."""
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if value not in (None, "auto") and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"{argument}: expected auto, float32, bfloat16 or float16, got {value!r}")


def load_model(
    role: str, name: str, dtype: Any, device: Any, trust_remote_code: bool
) -> tuple[PreTrainedModel, Any]:
    """A causal model in evaluation mode, and its tokenizer.

    Args:
        role: the argument that named it, for messages.
        name: hub name, folder or `embedded/...`.
        dtype: as transformers takes it.
        device: where it goes; "cuda" means a GPU where there is one.
        trust_remote_code: as in stock `hf`.

    Raises:
        ModelLoadError: missing or unreadable.
        ValueError: a dtype that torch does not have.
    """
    require_dtype(f"{role}'s dtype", dtype)
    path = resolve_model(name)
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"
    with loading(role, name):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, trust_remote_code=trust_remote_code)
    return model.to(device).eval(), tokenizer
