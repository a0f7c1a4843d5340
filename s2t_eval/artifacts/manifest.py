"""One base for what is saved: a JSON manifest of a numbered format, alone or in a folder of weights.

Calibrations, selectors, distilled students, Think-at-Hard folders and label sets are written, read and
compared here, so that the same fault has the same words wherever it is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from s2t_eval.artifacts.errors import one_line
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.saved import OtherFormatError, SavedT, conform, read_object, require_format

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SETS = ("target_modules", "exclude_modules", "modules_to_save", "target_parameters")
"""peft holds these as sets, whose order differs from process to process."""


@dataclass(frozen=True)
class ManifestKind(Generic[SavedT]):
    """What is saved under one name, and how messages speak of it.

    Args:
        saved: the dataclass that a manifest holds, with a field `format`.
        command: that makes it, such as `s2t-eval train`.
        error: class of its errors.
        format: the one that is written.
        file: name of the manifest in its folder; None where the artifact is this file alone.
        upgrades: older format -> makes the present content of it.
    """

    saved: type[SavedT]
    command: str
    error: type[ValueError]
    format: int
    file: str | None = None
    upgrades: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] | None = None

    @property
    def expected(self) -> str:
        """What messages ask for."""
        return f"expected a file of `{self.command}`" if self.file is None else (
            f"expected a folder of `{self.command}` with {self.file}"
        )  # fmt: skip

    def read(self, artifact: str, path: Path, if_missing: str = "") -> SavedT:
        """A manifest, each value of its declared type.

        Args:
            artifact: as messages call it, such as `selector=FOLDER`.
            path: of the file.
            if_missing: what to do where there is none; empty: run the command.

        Raises:
            ValueError: of this kind's error class: no file, another format, or a damaged one.
        """
        its = f"its {self.file}" if self.file else "it"
        again = f"make it again with `{self.command}`"
        try:
            content = read_object(path)
            upgrades = self.upgrades or {}
            number = require_format(content, (self.format, *upgrades))
            if number != self.format:
                content = {**upgrades[number](content), "format": self.format}
            saved: SavedT = conform(content, self.saved, "")
            return saved
        except FileNotFoundError:
            hint = if_missing or f"make one with `{self.command}`"
            raise self.error(f"{artifact}: {self.expected}, there is none; {hint}") from None
        except OtherFormatError as error:
            raise self.error(f"{artifact}: {its} {error}; {again}, or update s2t-eval") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise self.error(
                f"{artifact}: {self.expected}, {its} cannot be read ({one_line(error)}); {again}"
            ) from error

    def require_same(
        self, artifact: str, field: str, saved: object, current: object, fix: str, name: str = ""
    ) -> None:
        """Raise this kind's error unless an artifact is used with what it was made for.

        Args:
            artifact: as messages call it.
            field: what is compared, such as `tokenizer`.
            saved: its value or fingerprint in the manifest.
            current: the one that is there now.
            fix: what to do.
            name: what the saved one was called, for people.
        """
        if saved != current:
            expected = f"{saved}, of {name}" if name else saved
            raise self.error(
                f"{artifact}: it was made for another {field} (expected {expected}, got {current}); {fix}"
            )

    def require_same_prompt(
        self, artifact: str, saved: Mapping[str, Any], current: Mapping[str, Any], fix: str
    ) -> None:
        """Raise this kind's error unless an artifact is used with the prompt settings it was made with.

        Args:
            artifact: as messages call it.
            saved: the settings in the manifest; settings that it lacks are not compared.
            current: those of the present prompts.
            fix: what to do instead of changing the prompts.
        """
        differing = [name for name in current if name in saved and saved[name] != current[name]]
        if differing:
            shown = "; ".join(f"{name} {saved[name]!r}, now {current[name]!r}" for name in differing)
            raise self.error(
                f"{artifact}: it was made with another prompt ({shown}); evaluate with the same settings, "
                f"{fix}, or allow the difference with other_prompt=true"
            )


def require_same_run(
    where: str, what: str, saved: Mapping[str, Any], current: Mapping[str, Any], error: type[ValueError]
) -> None:
    """Raise `error` unless an interrupted run is resumed with the settings that it began with.

    Args:
        where: the folder, as messages call it.
        what: it holds.
        saved: the settings of the run that began it.
        current: of this one.
        error: class to raise.
    """
    differing = [key for key in current if saved.get(key) != current[key]]
    if differing:
        raise error(
            f"{where} holds {what} of another run (its {', '.join(differing)} differ); remove it or name "
            "another --out"
        )


def manifest_text(saved: Any) -> str:
    """How a manifest's dataclass is written: the same content is the same bytes."""
    return json.dumps(asdict(saved), indent=2, sort_keys=True) + "\n"


def write_manifest(path: Path, saved: Any) -> None:
    """Write a manifest whole or not at all."""
    write_text(path, manifest_text(saved))


def save_adapter(folder: Path, model: PeftModel, base_name: str) -> None:
    """Write an adapter's files into a folder; the same adapter is the same files.

    Args:
        folder: exists.
        model: with the adapter.
        base_name: how the model without it is called: no folder of this machine.
    """
    # "auto" asks the hub for the model to see whether its embeddings grew; ours never do
    model.save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base_name
    for name in SETS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
