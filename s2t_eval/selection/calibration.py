"""Thresholds that make a trigger fire at a wanted rate, measured on training problems and kept in a file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from s2t_eval.artifacts.manifest import ManifestKind, manifest_text, write_manifest
from s2t_eval.selection.triggers import KlTrigger, Trigger

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

    thresholds: dict[str, dict[str, float]]
    num_steps: int
    num_texts: int
    warmup: int
    data: dict[str, Any]
    prompt: dict[str, Any]
    student: str
    teacher: str | None
    format: int = field(default=FORMAT)

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

    def threshold(self, trigger: Trigger, tau: float) -> float:
        """The threshold at which `trigger` fires at the rate `tau`.

        Raises:
            CalibrationError: this trigger or rate was not calibrated; the message lists what was.
        """
        rates = self.thresholds.get(trigger_key(trigger))
        if rates is None:
            raise CalibrationError(
                f"calibration: it has no trigger {trigger_key(trigger)!r}, only "
                f"{', '.join(sorted(self.thresholds))}; calibrate again"
            )
        for rate, threshold in rates.items():
            if math.isclose(float(rate), tau):
                return threshold
        raise CalibrationError(
            f"tau: expected a calibrated rate ({', '.join(rates)}), got {tau}; "
            f"run `s2t-eval calibrate --tau {tau}`"
        )

    def require(self, student: str, teacher: str | None, warmup: int) -> None:
        """Raise `CalibrationError` unless it was made for these models and this warm-up."""
        for role, saved, current in (("student", self.student, student), ("teacher", self.teacher, teacher)):
            if current is not None:
                KIND.require_same("calibration", role, saved, current, f"calibrate with this {role}")
        KIND.require_same("calibration", "warmup", self.warmup, warmup, f"give warmup={self.warmup}")


KIND = ManifestKind(Calibration, "s2t-eval calibrate", CalibrationError, FORMAT)


def trigger_key(trigger: Trigger) -> str:
    """A trigger's name in the file; the two directions of KL have thresholds of their own."""
    return f"kl:{trigger.direction}" if isinstance(trigger, KlTrigger) else trigger.name


def quantile_thresholds(divergences: Sequence[float], taus: Sequence[float]) -> Mapping[str, float]:
    """For each rate tau the (1 - tau) quantile: a share tau of the divergences lies above it."""
    values = np.asarray(divergences, dtype=np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise CalibrationError(
            f"calibration: {count} of {len(values)} divergences are not finite numbers; a model's weights "
            "are damaged, or its dtype is too narrow (try float32)"
        )
    return {str(tau): float(np.quantile(values, 1 - tau)) for tau in taus}
