"""The places of what a command keeps until its result is written, from which an interrupted run resumes."""

from __future__ import annotations

from pathlib import Path


def work_folder(out: Path) -> Path:
    """The folder beside the result `out` that an interrupted run resumes from: its name with `.training`."""
    return out.with_name(out.name + ".training")


def unfinished_folder(out: Path) -> Path:
    """The folder of what a calibration or labelling has made of each text: its name with `.unfinished`."""
    return out.with_name(out.name + ".unfinished")
