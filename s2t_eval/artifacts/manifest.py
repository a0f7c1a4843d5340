"""Versioned JSON manifests of saved artifacts, alone or in a folder with weights.

Manifests of calibrations, selectors, distilled students, Think-at-Hard folders and label sets are written,
read and compared here, so that the same problem has the same message for every artifact.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol

from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.figures import without_nan
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.typed_json import OtherFormatError, SavedT, conform, read_object, require_format

if TYPE_CHECKING:
    from peft import PeftModel

UNKNOWN_WEIGHTS = "unknown"
"""Fingerprint of a model on servers whose weights are not on this machine."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SHOWN_VALUES = 4
"""Differing values that the message on another run shows; the names of all settings are in it."""
UNORDERED_FIELDS = ("target_modules", "exclude_modules", "modules_to_save", "target_parameters")
"""peft stores these fields as sets, whose order differs between processes; they are sorted when saved."""


class MadeForStudent(Protocol):
    """A manifest that names the student of its artifact."""

    @property
    def base(self) -> str:
        """Fingerprint of the student without an adapter."""
        ...

    @property
    def base_name(self) -> str:
        """Its name, for people."""
        ...

    @property
    def vocabulary(self) -> str:
        """Hash of its tokenizer's text entries."""
        ...

    @property
    def hidden_size(self) -> int:
        """Its width."""
        ...


@dataclass(frozen=True)
class ManifestKind(Generic[SavedT]):
    """One kind of artifact: its schema, its format number and the texts of its error messages.

    Args:
        saved: dataclass of the manifest's content; it has a field `format`.
        command: the command that creates the artifact, such as `s2t-eval train`.
        error: class of the errors that are raised.
        format: format number that is written.
        file: name of the manifest in its folder; None (default) where the artifact is this file alone.
        upgrades: older format number -> function that converts its content to the current format; default
            None, which means that only the current format can be read.
    """

    saved: type[SavedT]
    command: str
    error: type[ValueError]
    format: int
    file: str | None = None
    upgrades: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] | None = None

    @property
    def expected(self) -> str:
        """The expected artifact, as error messages name it."""
        return f"expected a file of `{self.command}`" if self.file is None else (
            f"expected a folder of `{self.command}` with {self.file}"
        )  # fmt: skip

    def read(self, artifact: str, path: Path, if_missing: str = "") -> SavedT:
        """Read a manifest and check every value against its declared type.

        Args:
            artifact: its name in messages, such as `selector=FOLDER`.
            path: path of the manifest.
            if_missing: advice for a missing file; empty (default) for "make one with `COMMAND`".

        Raises:
            ValueError: this kind's error class; the file is missing, damaged or of another format.
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
                f"{artifact}: {self.expected}, {its} cannot be read ({single_line_message(error)}); {again}"
            ) from error

    def require_same(
        self, artifact: str, field: str, saved: object, current: object, fix: str, name: str = ""
    ) -> None:
        """Raise this kind's error if a value differs from the one the artifact was made for.

        Args:
            artifact: its name in messages.
            field: the compared property, such as `tokenizer`.
            saved: its value or fingerprint in the manifest.
            current: its value or fingerprint now.
            fix: advice for the message.
            name: human-readable name of the saved value; default empty.
        """
        if saved != current:
            expected = f"{saved}, of {name}" if name else saved
            raise self.error(
                f"{artifact}: it was made for another {field} (expected {expected}, got {current}); {fix}"
            )

    def require_student(
        self,
        artifact: str,
        saved: MadeForStudent,
        base: str,
        vocabulary: str,
        hidden_size: int,
        fix: str,
        field: str = "base model",
    ) -> None:
        """Raise this kind's error unless an artifact is used with the student that it was made for.

        Args:
            artifact: its name in messages.
            saved: its manifest.
            base: fingerprint of the student without an adapter.
            vocabulary: hash of its tokenizer's text entries.
            hidden_size: its width.
            fix: advice for the message.
            field: what the student is to the artifact, for messages.
        """
        for name, expected, actual in (
            ("hidden size", saved.hidden_size, hidden_size),
            ("tokenizer", saved.vocabulary, vocabulary),
            (field, saved.base, base),
        ):
            self.require_same(artifact, name, expected, actual, fix, saved.base_name)

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
        if saved.get("apply_chat_template") and saved.get("num_fewshot"):
            saved = {"fewshot_as_multiturn": True, **saved}  # so our commands make all of their prompts
        differing = [name for name in current if name in saved and saved[name] != current[name]]
        if differing:
            shown = "; ".join(f"{name} {saved[name]!r}, now {current[name]!r}" for name in differing)
            raise self.error(
                f"{artifact}: it was made with another prompt ({shown}); evaluate with the same settings, "
                f"{fix}, or allow the difference with other_prompt=true"
            )


def require_same_run(
    folder: str, content: str, saved: Mapping[str, Any], current: Mapping[str, Any], error: type[ValueError]
) -> None:
    """Raise `error` if an interrupted run would be resumed with different settings.

    A setting that only one of the two runs has, such as the selector that a training starts from, is None in
    the other one.

    Args:
        folder: name of the output folder in messages.
        content: description of the folder's content for messages, such as `labels`.
        saved: settings of the interrupted run.
        current: settings of this run.
        error: class of the error.
    """
    differing = [key for key in {**current, **saved} if saved.get(key) != current.get(key)]
    if differing:
        expected = _innermost({key: current[key] for key in differing if key in current})
        actual = _innermost({key: saved[key] for key in differing if key in saved})
        raise error(
            f"{folder} holds {content} of another run (its {', '.join(differing)} differ): expected "
            f"{_shown(expected, actual)}, got {_shown(actual, expected)}; remove it or name another --out"
        )


def _innermost(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The single values of nested settings, by their names joined with dots."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        is_section = isinstance(value, Mapping) and value
        values |= _innermost(value, f"{place}{name}.") if is_section else {f"{place}{name}": value}
    return values


def _shown(values: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """The first values that the others lack or have differently, long ones shortened; `none` without any."""
    differing = [name for name in values if name not in others or values[name] != others[name]]
    shown = [f"{name} {reprlib.repr(values[name])}" for name in differing[:SHOWN_VALUES]]
    return ", ".join(shown + ["..."] * (len(differing) > SHOWN_VALUES)) or "none"


def manifest_text(saved: Any) -> str:
    """The JSON text of a manifest; equal content gives equal bytes.

    NaN, which files of earlier versions contain, stays as it is: a folder's hash is over these bytes.
    """
    return _text(asdict(saved))


def write_manifest(path: Path, saved: Any) -> None:
    """Write a manifest atomically; figures that are NaN become null, which is JSON."""
    write_text(path, _text(without_nan(asdict(saved))))


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def save_adapter(folder: Path, model: PeftModel, base_name: str) -> None:
    """Write an adapter's files into a folder; equal adapters give equal bytes.

    Args:
        folder: an existing folder.
        model: model with the adapter.
        base_name: name of the base model that the adapter's configuration records; not a local path.
    """
    # The default "auto" downloads the base model's configuration to see whether the embeddings were
    # resized. Adapters of this package never resize them.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base_name
    for name in UNORDERED_FIELDS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
