"""Loading of students and teachers, with one clear message where a model cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from s2t_eval.embedded import embedded_path

UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError, EOFError),
    UnpicklingError,
)
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


def require_device(argument: str, value: Any) -> None:
    """Raise `ValueError` unless this machine has the device; None, a GPU where there is one, passes."""
    if value is None or isinstance(value, torch.device):
        return
    known = devices()
    if value not in known:
        raise ValueError(f"{argument}: expected a device of this machine ({', '.join(known)}), got {value!r}")


def devices() -> list[str]:
    """The devices that torch can use here, as arguments name them."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ["cpu"]
    numbered = [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    return ["cpu", accelerator.type, *numbered]


def require_safetensors(role: str, name: str, weights: str = "*.safetensors") -> None:
    """Raise `ModelLoadError` for a folder whose weights are pickles alone: reading one can run its code."""
    folder = Path(name)
    if not folder.is_dir() or any(folder.glob(weights)):
        return
    pickled = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind))
    if pickled:
        raise ModelLoadError(
            f"{role}={name}: its weights are a pickle ({pickled[0]}), which can run code when it is read; "
            "expected safetensors; convert it with save_pretrained of transformers or peft"
        )


def load_adapter(role: str, name: str, model: Any, **options: Any) -> Any:
    """A peft adapter put into a model; the options are those of `PeftModel.from_pretrained`.

    Raises:
        ModelLoadError: missing, unreadable, a pickle, or of a kind that does not change weights.
    """
    from peft import PeftModel

    path = resolve_model(name)
    require_safetensors(role, path, "adapter_model.safetensors")
    with loading(role, name):
        adapted = PeftModel.from_pretrained(model, path, **options)
    configs: Any = adapted.peft_config.values()
    kinds = [str(config.peft_type.value) for config in configs if config.is_prompt_learning]
    if kinds:
        raise ModelLoadError(
            f"{role}={name}: an adapter of kind {kinds[0]} puts tokens into the prompt, which the engine "
            "does not do; expected one that changes weights, such as LORA"
        )
    return adapted


def load_model(
    role: str, name: str, dtype: Any, device: Any, trust_remote_code: bool
) -> tuple[PreTrainedModel, Any]:
    """A causal model in evaluation mode, and its tokenizer.

    Args:
        role: the argument that named it, for messages.
        name: hub name, folder or `embedded/...`.
        dtype: as transformers takes it.
        device: where it goes; None takes a GPU where there is one, else the CPU.
        trust_remote_code: as in stock `hf`.

    Raises:
        ModelLoadError: missing or unreadable.
        ValueError: a dtype that torch does not have, or a device that this machine does not have.
    """
    require_dtype(f"{role}'s dtype", dtype)
    require_device(f"{role}'s device", device)
    path = resolve_model(name)
    require_safetensors(role, path)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with loading(role, name):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True
        )
    return model.to(device).eval(), tokenizer
