"""The places beside a result: of what a command keeps until it is written, to resume from, and of logs."""

from __future__ import annotations

from pathlib import Path

TRAINING = ".training"


def work_folder(out: Path) -> Path:
    """The folder beside the result `out` that an interrupted run resumes from: its name with `.training`."""
    return out.with_name(out.name + TRAINING)


def logs_folder(checkpoints: Path) -> Path:
    """The folder beside a result that trackers write to: its name with `.logs`.

    Args:
        checkpoints: a folder of checkpoints, which is or lies in the `work_folder` of the result; beside any
            other folder the logs have its name.
    """
    folders = (checkpoints, *checkpoints.parents)
    work = next((folder for folder in folders if folder.suffix == TRAINING), checkpoints)
    return work.with_name(work.name.removesuffix(TRAINING) + ".logs")


def unfinished_folder(out: Path) -> Path:
    """The folder of what a calibration or labelling has made of each text: its name with `.unfinished`."""
    return out.with_name(out.name + ".unfinished")
