"""The dtype in which all weights of a student are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Train a model's own weights in float32: in a lower precision, small updates would be rounded away.

    They have their dtype again afterwards; an adapter that was added meanwhile keeps its own.
    """
    dtype = model.dtype
    model.float()
    yield
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.grad = None
            parameter.data = parameter.data.to(dtype)
