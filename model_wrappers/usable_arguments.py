"""Whether a backend accepts its `--model_args`, without loading a model."""

from __future__ import annotations

import importlib

from s2t_eval.method_table import BACKENDS, ScoreForm
from s2t_eval.model_wrappers.arguments import CommonArguments
from s2t_eval.model_wrappers.embedded_pair import embedded_arguments
from s2t_eval.model_wrappers.loading import LoadedStudent
from s2t_eval.model_wrappers.local_arguments import LocalArguments
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
    backend, parsed = _backend(model), parse_model_args(model_args)
    return backend.checked_arguments({**parsed, **embedded_arguments(backend.METHOD, parsed)}).own


def require_usable_selector(
    model: str, arguments: CommonArguments, form: ScoreForm | None, has_routers: bool
) -> None:
    """Check the arguments of a backend against a selector that is not loaded, or not trained yet.

    Args:
        model: its `--model` name.
        arguments: its own arguments.
        form: of their `selector`; None: there is none, or it is not known.
        has_routers: whether the folder has routers from which trigger `router` takes its own.

    Raises:
        ValueError: arguments of a selection that the form does not make, or a router that is not trained.
    """
    if isinstance(arguments, LocalArguments):
        proposer = arguments.proposer or getattr(_backend(model), "PROPOSER", None)
        if form == "direct" and proposer == "tuned":
            arguments.require_no_selection(model)
    if not has_routers and getattr(arguments, "trigger", None) == "router":
        raise ValueError(
            "trigger=router: the selector is trained with skip_routers and will have none; leave "
            "skip_routers out, or name another trigger"
        )


def _backend(model: str) -> type[LoadedStudent]:
    """The class of a backend."""
    module, name = BACKENDS[model].split(":")
    backend: type[LoadedStudent] = getattr(importlib.import_module(module), name)
    return backend
