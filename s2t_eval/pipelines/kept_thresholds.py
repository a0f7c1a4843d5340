"""Whether a calibration that is measured again keeps what its file holds: a file is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.thresholds import has_rate


def require_thresholds_kept(
    path: Path, existing: Calibration, measured: Mapping[str, Sequence[float]], warmup_tokens: int
) -> None:
    """Raise `ValueError` for a new calibration that would lose thresholds of the one in its place.

    Args:
        path: of the file.
        existing: its content.
        measured: trigger key, or form of a step -> the rates that are measured.
        warmup_tokens: with which they are measured.
    """
    lost = {
        key: [rate for rate in rates if not has_rate(map(str, measured.get(key, ())), float(rate))]
        for key, rates in existing.thresholds.items()
    }
    if any(lost.values()):
        shown = "; ".join(f"{key}: {', '.join(rates)}" for key, rates in lost.items() if rates)
        raise ValueError(
            f"--out: {path} holds thresholds that would be lost ({shown}); measure these too, or name "
            "another file"
        )
    if existing.warmup != warmup_tokens:
        raise ValueError(
            f"--out: the thresholds of {path} are for warmup_tokens={existing.warmup} and would be replaced, "
            f"got {warmup_tokens}; name another file"
        )


def require_same_subject(
    path: Path, existing: Calibration, student: str, teacher: str | None, prompt: Mapping[str, Any]
) -> None:
    """Raise `ValueError` for a new calibration of other models or prompts than the one in its place.

    Args:
        path: of the file.
        existing: its content.
        student, teacher: fingerprints of the new one's models; None: there is no teacher.
        prompt: settings of the new one's prompts.
    """
    # A file of an earlier version may have fewer settings of its prompts.
    known = {name: value for name, value in prompt.items() if name in existing.prompt}
    for name, before, now in (
        ("student", existing.student, student),
        ("teacher", existing.teacher, teacher),
        ("prompt", existing.prompt, known),
    ):
        if before not in (None, now):
            raise ValueError(
                f"--out: {path} was measured with another {name} (expected {before}, got {now}) and would be "
                "replaced; name another file, or remove it"
            )
