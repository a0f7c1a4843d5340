"""The place of a training run's checkpoints and texts, which are removed when its result is written."""

from __future__ import annotations

from pathlib import Path


def work_folder(out: Path) -> Path:
    """The folder beside the result `out` that an interrupted run resumes from: its name with `.training`."""
    return out.with_name(out.name + ".training")
