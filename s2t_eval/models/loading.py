"""Loading of students, teachers and adapters, with one clear message where one is missing or incomplete.

transformers and peft fill tensors that a checkpoint lacks with random numbers or zeros, and only log it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.embedded import resolve_model

UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError, EOFError),
    UnpicklingError,
)
"""Exceptions of transformers, tokenizers, safetensors and peft for folders that they cannot read."""


class ModelLoadError(ValueError):
    """A model that is missing or unreadable."""


PLAIN_ADAPTER = "a hub name, or a folder with adapter_config.json and adapter_model.safetensors"
PLAIN_MODEL = (
    "a hub name, a folder with config.json, weights and tokenizer, or embedded/student, embedded/teacher"
)


@contextmanager
def loading(role: str, name: object, expected: str = PLAIN_MODEL) -> Iterator[None]:
    """Convert exceptions of loading into one `ModelLoadError` that names role and model."""
    try:
        yield
    except ModelLoadError:
        raise
    except ImportError as error:
        raise ModelLoadError(
            f"{role}={name}: loading it in this way needs a package that is not installed "
            f"({first_line(error)}); install it, or load the model in another way"
        ) from error
    except UNREADABLE as error:
        raise ModelLoadError(
            f"{role}={name}: the model cannot be loaded ({first_line(error)}); expected {expected}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an exception's message; its class where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def require_dtype(argument: str, value: Any) -> None:
    """Raise `ValueError` unless the value is "auto" or names a floating-point dtype of torch."""
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if value not in (None, "auto") and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"{argument}: expected auto, float32, bfloat16 or float16, got {value!r}")


def require_device(argument: str, value: Any) -> None:
    """Raise `ValueError` unless this machine has the device; None, a GPU where there is one, is allowed."""
    if value is None or isinstance(value, torch.device):
        return
    known = devices()
    if value not in known:
        raise ValueError(f"{argument}: expected a device of this machine ({', '.join(known)}), got {value!r}")


def default_device() -> str:
    """A GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def devices() -> list[str]:
    """The devices that torch can use on this machine, by their names in arguments."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ["cpu"]
    numbered = [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    return ["cpu", accelerator.type, *numbered]


def require_safetensors(role: str, name: str, weights: str = "*.safetensors") -> None:
    """Raise `ModelLoadError` for a folder with pickled weights only: reading a pickle can run its code."""
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
    """Attach a peft adapter to a model; the options are those of `PeftModel.from_pretrained`.

    Raises:
        ModelLoadError: missing, unreadable, a pickle, of a kind that does not change weights, or part of an
            artifact that does more than add it to the weights.
    """
    path = resolve_model(name)
    require_safetensors(role, path, "adapter_model.safetensors")
    _require_plain_adapter(role, name, path, options.get("revision"))
    with loading(role, name, PLAIN_ADAPTER):
        adapted = attach_adapter(role, model, path, **options)
    configs: Any = adapted.peft_config.values()
    kinds = [str(config.peft_type.value) for config in configs if config.is_prompt_learning]
    if kinds:
        raise ModelLoadError(
            f"{role}={name}: an adapter of kind {kinds[0]} puts tokens into the prompt, which the engine "
            "does not do; expected one that changes weights, such as LORA"
        )
    return adapted


def adapter_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """A file beside an adapter, in its folder or its repository on the Hub; None where there is none.

    Args:
        name: folder or repository.
        file: name of the file.
        revision: of the repository; None (default) for its main branch.

    Raises:
        OSError: the Hub does not answer as it should.
    """
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        return None


def _require_plain_adapter(role: str, name: str, path: str, revision: str | None) -> None:
    """Raise `ModelLoadError` for the folder of a method whose adapter alone is another model.

    A selector's adapter that counts as it was trained is a model of its own: that of form `direct` decodes
    greedily what `s2t_local` writes with it.
    """
    what = None
    with loading(role, name, PLAIN_ADAPTER):
        tah, selector = (adapter_file(path, file, revision) for file in ("tah.json", "selector.json"))
        scale = 1.0 if selector is None else read_object(selector).get("adapter_scale", 1.0)
    if tah is not None:
        what = "of `s2t-eval tah train`, whose adapter is for a token's further passes; run --model tah"
    elif scale != 1:
        what = (
            f"of `s2t-eval train`, whose adapter counts by the factor {scale}; run --model s2t_local, or "
            "`s2t-eval export --merged` with it as --selector"
        )
    if what is not None:
        raise ModelLoadError(f"{role}={name}: expected a plain adapter, got a folder {what}")


def load_tokenizer(role: str, name: str, trust_remote_code: bool) -> Any:
    """A model's tokenizer; its weights are not read.

    Args:
        role: the argument with its name, for messages.
        name: hub name, folder or `embedded/...`.
        trust_remote_code: as in stock `hf`.

    Raises:
        ModelLoadError: missing or unreadable.
    """
    path = resolve_model(name)
    with loading(role, name):
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)


def load_model(
    role: str, name: str, dtype: Any, device: Any, trust_remote_code: bool
) -> tuple[PreTrainedModel, Any]:
    """A causal model in evaluation mode, and its tokenizer.

    Args:
        role: the argument with its name, for messages.
        name: hub name, folder or `embedded/...`.
        dtype: as transformers takes it.
        device: of the model; None takes a GPU where there is one, else the CPU.
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
        device = default_device()
    tokenizer = load_tokenizer(role, name, trust_remote_code)
    with loading(role, name):
        model = WholeCheckpoints(AutoModelForCausalLM, role, name).from_pretrained(
            path, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True
        )
        require_finite(role, name, model)
    return model.to(device).eval(), tokenizer


class WholeCheckpoints:
    """One of transformers' Auto classes that refuses a checkpoint without all of the model's tensors.

    Tied tensors, and those that a model's class declares as computed, do not count as missing:
    transformers excludes both from its report.

    Args:
        auto: the class.
        role: the argument with the model's name, for messages.
        name: the model.
    """

    def __init__(self, auto: Any, role: str, name: object) -> None:
        self.auto = auto
        self.role = role
        self.name = name

    def from_pretrained(self, path: Any, **options: Any) -> Any:
        """The model; the options are those of the class."""
        model, report = self.auto.from_pretrained(path, output_loading_info=True, **options)
        require_all(self.role, self.name, report["missing_keys"])
        return model


def attach_adapter(role: str, model: Any, name: str, **options: Any) -> PeftModel:
    """Attach a peft adapter to a model, or refuse it if it is incomplete.

    Args:
        role: the argument with the adapter's name, for messages.
        model: its own weights stay untouched.
        name: folder or hub repository.
        options: as `PeftModel.from_pretrained` takes them.

    Raises:
        ModelLoadError: the adapter lacks tensors, or holds numbers that are not finite.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error below
        adapted: PeftModel = PeftModel.from_pretrained(model, name, **options)
    adapter_weights(role, adapted, name, options.get("revision"))
    return adapted


def adapter_weights(role: str, model: PeftModel, name: str, revision: str | None = None) -> dict[str, Tensor]:
    """The stored weights of an adapter of this model's shape, on the CPU.

    Raises:
        ModelLoadError: the adapter lacks tensors, or holds numbers that are not finite.
    """
    options: dict[str, Any] = {"revision": revision} if revision else {}
    stored = load_peft_weights(name, device="cpu", **options)
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    require_all(role, name, own.keys() - stored.keys())
    require_finite_tensors(role, name, stored)
    return stored


def require_all(role: str, name: object, missing: Collection[str]) -> None:
    """Raise `ModelLoadError` if tensors are missing."""
    if missing:
        raise ModelLoadError(
            f"{role}={name}: its files lack {len(missing)} of its tensors ({min(missing)}"
            f"{', ...' if len(missing) > 1 else ''}), which would be filled with untrained numbers; "
            "get the files again, or save it again"
        )


def require_finite(role: str, name: object, model: nn.Module) -> None:
    """Raise `ModelLoadError` if a weight is infinite or not a number."""
    require_finite_tensors(role, name, dict(model.named_parameters()))


def require_finite_tensors(role: str, name: object, tensors: dict[str, Tensor]) -> None:
    """The same for any tensors; packed types and tensors that are not in memory are skipped."""
    for key, tensor in tensors.items():
        is_packed = is_traceable_wrapper_subclass(tensor) or tensor.element_size() == 1
        is_plain = tensor.is_floating_point() and not is_packed and not tensor.is_meta
        # The minimum and maximum are NaN if any value is, and need no additional memory.
        if is_plain and tensor.numel() and not all(bound.isfinite() for bound in tensor.detach().aminmax()):
            raise ModelLoadError(
                f"{role}={name}: {key} holds numbers that are infinite or none (NaN); its files are damaged, "
                "or its training diverged"
            )
