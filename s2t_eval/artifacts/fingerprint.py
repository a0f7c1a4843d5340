"""Fingerprints of models and data, which tie calibrated and trained artifacts to what they were made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

VALUES_PER_TENSOR = 64
"""Values read from each tensor: enough to distinguish checkpoints, and cheap for large models."""


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits that identify a checkpoint, adapters included.

    They are a hash of every parameter's name, shape and up to `VALUES_PER_TENSOR` of its values. Values are
    converted to bfloat16, so that a checkpoint has the same fingerprint in every dtype.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().flatten()
        step = max(1, len(flat) // VALUES_PER_TENSOR)
        digest.update(
            flat[::step][:VALUES_PER_TENSOR].to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()
        )
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
