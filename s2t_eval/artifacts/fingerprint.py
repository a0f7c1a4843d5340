"""Short identities of models and data, so that what was measured for one is not used for another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

PROBES = 64
"""Weights read from each tensor: enough to tell checkpoints apart, cheap for large ones."""


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits from every parameter's name, shape and some of its values, adapters included.

    Values are compared as bfloat16, so one checkpoint has one fingerprint in any dtype it is run in.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().flatten()
        step = max(1, len(flat) // PROBES)
        digest.update(flat[::step][:PROBES].to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy())
    return digest.hexdigest()[:16]


def data_hash(items: Iterable[Any]) -> str:
    """16 hex digits of a sequence of JSON values."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]


def folder_hash(folder: Path) -> str:
    """16 hex digits over the JSON and safetensors files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files))
    return digest.hexdigest()[:16]
