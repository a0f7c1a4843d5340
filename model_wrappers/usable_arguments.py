"""Whether a backend accepts its `--model_args`, without loading a model."""

from __future__ import annotations

import importlib

from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.splitting import parse_model_args, split_arguments


def require_usable_arguments(model: str, model_args: str) -> None:
    """Check names and values of the arguments of a backend, as far as it needs no file for that.

    Args:
        model: its `--model` name.
        model_args: as in `--model_args`.

    Raises:
        ValueError: an argument that the backend does not have, or a value that it refuses.
    """
    module, name = BACKENDS[model].split(":")
    backend = getattr(importlib.import_module(module), name)
    split_arguments(backend.METHOD, backend.ARGUMENTS, parse_model_args(model_args))
