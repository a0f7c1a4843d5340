"""Thresholds that make a trigger fire at a wanted rate, measured on training problems and kept in a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.manifest import ManifestKind, manifest_text, write_manifest
from s2t_eval.selection.thresholds import Rates, ThresholdTable, require_rates

FORMAT = 1


class CalibrationError(ValueError):
    """A calibration file that cannot be used here; the message says why and what to do."""


@dataclass(frozen=True)
class Calibration:
    """Thresholds per trigger and rate, with all that they hold for.

    Args:
        thresholds: trigger key (see `trigger_key`) -> rate as text -> threshold.
        num_steps: steps of greedy text that the quantiles come from.
        num_texts: problems.
        warmup: tokens at the start of a text that were left out, as decoding leaves them out.
        data: source, split and hash of the problems.
        prompt: how they were put: chat template, system instruction, length limit.
        student: fingerprint of the model.
        teacher: fingerprint, or None where no teacher ran.
    """

    thresholds: Rates
    num_steps: int
    num_texts: int
    warmup: int
    data: dict[str, Any]
    prompt: dict[str, Any]
    student: str
    teacher: str | None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        require_rates(self.thresholds)

    @property
    def hash(self) -> str:
        """16 hex digits of the content, for results."""
        return hashlib.sha256(manifest_text(self).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_manifest(path, self)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises:
            CalibrationError: missing, not JSON, or of another format.
        """
        return KIND.read(f"calibration={path}", path)

    @property
    def table(self) -> ThresholdTable:
        """The thresholds, to be looked up."""
        return ThresholdTable("calibration", self.thresholds)

    def require(self, student: str, teacher: str | None, warmup: int) -> None:
        """Raise `CalibrationError` unless it was made for these models and this warm-up."""
        for role, saved, current in (("student", self.student, student), ("teacher", self.teacher, teacher)):
            if current is not None:
                KIND.require_same("calibration", role, saved, current, f"calibrate with this {role}")
        KIND.require_same("calibration", "warmup", self.warmup, warmup, f"give warmup={self.warmup}")


KIND = ManifestKind(Calibration, "s2t-eval calibrate", CalibrationError, FORMAT)
