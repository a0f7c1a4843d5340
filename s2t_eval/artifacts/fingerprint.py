"""Fingerprints of models and data, which tie calibrated and trained artifacts to what they were made for."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

VALUES_PER_TENSOR = 64
"""Values read from each tensor: enough to distinguish checkpoints, and cheap for large models."""


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits that identify a checkpoint, adapters included.

    They are a hash of every parameter's name, shape and up to `VALUES_PER_TENSOR` of its values. Values are
    converted to bfloat16, so that a checkpoint has the same fingerprint in every dtype. Where weights are
    offloaded does not matter; quantized ones have a fingerprint of their own.
    """
    return _fingerprint(
        plain for name, tensor in sorted(model.state_dict().items()) for plain in _plain(model, name, tensor)
    )


def _plain(model: nn.Module, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor of a model's state as tensors in memory: packed ones by their parts, offloaded ones read."""
    if is_traceable_wrapper_subclass(tensor):  # quantized by torchao or quanto
        parts, _ = tensor.__tensor_flatten__()
        yield from ((f"{name}.{part}", getattr(tensor, part)) for part in parts)
    elif tensor.is_meta:
        # Not at the top: most readers of this module load no model.
        from accelerate.utils import align_module_device

        owner, _, own_name = name.rpartition(".")
        module = model.get_submodule(owner)
        with align_module_device(module, torch.device("cpu")):
            yield name, getattr(module, own_name)
    else:
        yield name, tensor


def checkpoint_fingerprint(model: nn.Module, files: Iterable[Path]) -> str | None:
    """The `model_fingerprint` of a checkpoint that is not loaded; its tensors are read one after the other.

    Args:
        model: of the checkpoint's shape, for example on the device "meta".
        files: the safetensors of the checkpoint.

    Returns:
        None where the files lack one of the model's tensors.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(path, framework="pt")) for path in files]
        stored = {name: file for file in opened for name in list(file.keys())}
        # Tied tensors are stored once, under any of their names.
        names: dict[int, list[str]] = defaultdict(list)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in parameters.items():
            names[id(parameter)].append(name)
        sources = {
            name: next((n for n in [name, *names[id(parameters.get(name))]] if n in stored), None)
            for name in sorted(model.state_dict())
        }
        if None in sources.values():
            return None
        return _fingerprint((name, stored[at].get_tensor(at)) for name, at in sources.items() if at)


def _fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The hash of tensors in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().flatten()
        step = max(1, len(flat) // VALUES_PER_TENSOR)
        values = flat[::step][:VALUES_PER_TENSOR].to("cpu", torch.bfloat16).contiguous()
        digest.update(values.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def data_hash(items: Iterable[Any]) -> str:
    """16 hex digits that identify a sequence of JSON values."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]


def folder_hash(folder: Path) -> str:
    """16 hex digits that identify the content of a folder's JSON and safetensors files."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files))
    return digest.hexdigest()[:16]
