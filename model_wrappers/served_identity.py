"""Whether servers serve the model that an argument names: by its weights, else by its name.

Servers answer requests of token ids whatever they serve: with two addresses swapped, a run would record the
names and fingerprints of one model over the texts of another.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from s2t_eval.artifacts.fingerprint import checkpoint_fingerprint
from s2t_eval.embedded import resolve_model
from s2t_eval.models.loading import UNREADABLE, first_line
from s2t_eval.remote.client import Server
from s2t_eval.remote.settings import ServerError

logger = logging.getLogger(__name__)


def require_served(
    role: str, servers: Sequence[Server], argument: str, name: str, fingerprint: str | None, trust: bool
) -> None:
    """Compare the models that servers loaded with the one that an argument names.

    Args:
        role: `student` or `teacher`, for messages.
        servers: of this role.
        argument: that names the model, for messages.
        name: its value.
        fingerprint: of its weights; None where they are not on this machine.
        trust: run the checkpoint's own code.

    A server's copy of a model may have another name, so a difference of names alone is only logged.

    Raises:
        ServerError: a server loaded a folder of this machine, which contains other weights.
    """
    for served, server in {server.root or server.model: server for server in servers}.items():
        if _is_same_folder(served, name):
            continue
        actual = folder_fingerprint(served, trust) if fingerprint is not None else None
        if actual is None:
            if _own_name(served) != _own_name(name):
                logger.warning(
                    "%s server %s: it serves %s, and %s=%s; the weights are not here to be compared",
                    *(role, server.url, served, argument, name),
                )
        elif actual != fingerprint:
            raise ServerError(
                f"{role} server {server.url}: it serves {served}, with other weights than {argument}={name} "
                f"({actual} instead of {fingerprint}); correct the address, or name the model that it serves"
            )


def _is_same_folder(served: str, name: str) -> bool:
    path = Path(resolve_model(name))
    return path.is_dir() and Path(served).is_dir() and path.resolve() == Path(served).resolve()


def _own_name(name: str) -> str:
    """The last part of a name or path; of a snapshot in the hub's cache that of the repository."""
    repository = next((part for part in Path(name).parts if part.startswith("models--")), None)
    return Path(name).name if repository is None else repository.rpartition("--")[2]


def folder_fingerprint(folder: str, trust: bool) -> str | None:
    """The fingerprint of a folder's checkpoint; None where it is not on this machine or cannot be read."""
    return named_fingerprint(folder, trust) if Path(folder).is_dir() else None


def named_fingerprint(name: str, trust: bool) -> str | None:
    """The fingerprint of a checkpoint that servers serve; None where it is not on this machine.

    Servers may serve models that transformers does not know as causal ones, such as those that also read
    images: there it is None after a warning.

    Args:
        name: hub name, folder or `embedded/...`.
        trust: run the checkpoint's own code.
    """
    files = _safetensors(name)
    if not files:
        return None
    try:
        config = AutoConfig.from_pretrained(resolve_model(name), trust_remote_code=trust)
        return checkpoint_fingerprint(unloaded_model(config, trust), files)
    except UNREADABLE as error:
        logger.warning(
            "%s, which a server serves, cannot be read here to be compared: %s", name, first_line(error)
        )
        return None


def unloaded_model(config: Any, trust: bool) -> PreTrainedModel:
    """A model of this configuration without weights; only its shape is used."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    # Stock `hf` moves every model to a GPU where there is one; this model has no weights to move.
    model.to = lambda *args, **kwargs: model
    return model.eval()


def unloaded_fingerprint(name: str, model: PreTrainedModel, revision: str | None = None) -> str | None:
    """The fingerprint of a checkpoint whose safetensors are on this machine; None where they are not.

    Args:
        name: hub name, folder or `embedded/...`.
        model: of its shape, without weights.
        revision: of the hub; None takes its main branch.
    """
    files = _safetensors(name, revision)
    return checkpoint_fingerprint(model, files) if files else None


def _safetensors(name: str, revision: str | None = None) -> list[Path]:
    """The files of a checkpoint's weights on this machine; empty where they are not here."""
    path = resolve_model(name)
    if not Path(path).is_dir():
        try:
            path = snapshot_download(
                path, revision=revision, local_files_only=True, allow_patterns=["*.safetensors"]
            )
        except (LocalEntryNotFoundError, HFValidationError):
            return []
    return sorted(Path(path).glob("*.safetensors"))
