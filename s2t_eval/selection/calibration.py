"""Thresholds at which a trigger fires at a given rate, measured on training problems and saved in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS, ManifestKind, manifest_text, write_manifest
from s2t_eval.selection.thresholds import Rates, ThresholdTable, require_rates

FORMAT = 1
OF_STEPS = "accept:"
"""How the keys of thresholds begin that are of drafted steps (SpecReason), not of triggers."""


class CalibrationError(ValueError):
    """A calibration file that does not fit this run; the message names the reason and a remedy."""


@dataclass(frozen=True)
class Calibration:
    """Thresholds per trigger and rate, with the models, problems and prompts they were measured on.

    The field names are the keys of the file (see `policy.PERSISTED_KEYS`).

    Args:
        thresholds: the trigger's name (of `kl` with its direction, `kl:student_teacher`; of an R2R router
            with the hash of its folder, `r2r:HASH`) -> rate as text -> threshold; and for SpecReason
            `accept:SCORE:DELIMITER:MAX_STEP` -> wanted rate of acceptance as text -> score.
        num_steps: steps of greedy text behind the quantiles.
        num_texts: problems.
        warmup: `warmup_tokens`: steps at the start of a text that were excluded, as in decoding.
        data: source, split and hash of the problems; under `steps` for each form of a step the number of
            drafts, and the share of them that each threshold accepts.
        prompt: settings of their prompts: chat template, system instruction, few-shot examples, length limit.
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
        """16 hex digits of the content, recorded in results."""
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
        """The thresholds by trigger and rate, without those of drafted steps."""
        of_triggers = {key: rates for key, rates in self.thresholds.items() if not key.startswith(OF_STEPS)}
        return ThresholdTable("calibration", of_triggers)

    def require(self, student: str | None, teacher: str | None, warmup_tokens: int) -> None:
        """Raise `CalibrationError` unless it was made for these models and this number of warm-up tokens.

        A model that is None, or that was on a server while its weights were not on the machine that
        calibrated, is not compared.
        """
        for role, saved, current in (("student", self.student, student), ("teacher", self.teacher, teacher)):
            if current is not None and saved != UNKNOWN_WEIGHTS:
                KIND.require_same("calibration", role, saved, current, f"calibrate with this {role}")
        fix = f"give warmup_tokens={self.warmup}"
        KIND.require_same("calibration", "warmup_tokens", self.warmup, warmup_tokens, fix)

    def require_prompt(self, current: Mapping[str, Any]) -> None:
        """Raise `CalibrationError` unless it was measured with these prompt settings."""
        KIND.require_same_prompt("calibration", self.prompt, current, "calibrate with the present ones")


KIND = ManifestKind(Calibration, "s2t-eval calibrate", CalibrationError, FORMAT)
