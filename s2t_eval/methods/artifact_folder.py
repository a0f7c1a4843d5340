"""Folders of trained artifacts: where a name leads to, and their weights."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from s2t_eval.embedded import resolve_model
from s2t_eval.models.loading import require_finite_tensors


def find_folder(artifact: str, name: str | Path, expected: str, error: type[ValueError]) -> Path:
    """The local folder of this name, else the snapshot of the Hub repository.

    Args:
        artifact: the argument with its name, such as `router=NAME`, for messages.
        name: folder, `embedded/...` or Hub repository.
        expected: the expected folder, as messages name it.
        error: class of the error that is raised.

    Raises:
        ValueError: of the class `error`; neither exists.
    """
    folder = Path(resolve_model(str(name)))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as cause:
        raise error(f"{artifact}: {expected} or a hub repository with one") from cause


def load_weights(role: str, name: str | Path, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        role: the argument with which the artifact was named, for messages.
        name: of the artifact.
        path: of the file.

    Raises:
        ModelLoadError: numbers that are not finite.
        OSError: the file is missing.
        SafetensorError: the file is damaged.
    """
    weights: dict[str, Tensor] = load_file(path)
    require_finite_tensors(role, name, weights)
    return weights


def shape_difference(network: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """The first tensor that only one of the two has, or that has another shape; None where all are the same.

    Returns:
        A clause for messages, such as `mix.0.weight is (3, 64), expected (8, 64)`.
    """
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    actual = {key: tuple(value.shape) for key, value in weights.items()}
    for key in sorted(expected.keys() | actual.keys()):
        if expected.get(key) != actual.get(key):
            return f"{key} is {actual.get(key)}, expected {expected.get(key)}"
    return None
