"""Folders that a test session makes once for all of its processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import torch

VARIABLE = "S2T_EVAL_TEST_ARTIFACTS"
"""Names the session's folder, to the processes of pytest-xdist and to those that a test starts."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name; the first process that needs it makes it, the others wait and then read it.

    It is made with gradients, whether or not the test that comes first computes any.
    """
    root = Path(os.environ[VARIABLE])
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            with torch.enable_grad():
                make(folder)
            done.touch()
    return folder
