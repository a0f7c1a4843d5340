"""Whether a backend accepts its `--model_args`, without loading a model."""

from __future__ import annotations

import importlib

from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.arguments import CommonArguments
from s2t_eval.model_wrappers.embedded_pair import embedded_arguments
from s2t_eval.model_wrappers.loading import LoadedStudent
from s2t_eval.model_wrappers.splitting import parse_model_args


def require_usable_arguments(model: str, model_args: str) -> CommonArguments:
    """Check the arguments of a backend as its run does, as far as that needs no file.

    Without `pretrained` a run takes what is missing from the embedded pair, and so does the check.

    Args:
        model: its `--model` name.
        model_args: as in `--model_args`.

    Returns:
        The backend's own arguments.

    Raises:
        ValueError: an argument that the backend does not have, one that it needs and lacks, or a value that
            it refuses.
    """
    module, name = BACKENDS[model].split(":")
    backend: type[LoadedStudent] = getattr(importlib.import_module(module), name)
    parsed = parse_model_args(model_args)
    return backend.checked_arguments({**parsed, **embedded_arguments(backend.METHOD, parsed)}).own
