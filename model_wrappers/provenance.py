"""Which code, on which device, with which packages a run was made: what the results file records of it.

The harness's own entries cannot serve: its `git_hash` is that of the folder a command was started in, and
its `device` is the argument of that name, which is `cuda:0` by default on machines that have no GPU.
"""

from __future__ import annotations

import functools
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import s2t_eval
from s2t_eval.engine import ModelRunner

PACKAGES = ("torch", "transformers", "lm-eval", "peft", "tokenizers", "math-verify")
"""Distributions whose version may change a text or a score."""
SOURCES = ("s2t_eval", "model_wrappers", "tasks")
"""Folders of a checkout whose uncommitted changes make it another code than its commit."""


def provenance(model: Any, teacher: ModelRunner | None) -> dict[str, Any]:
    """The entries of a results file that name code, device and packages.

    Args:
        model: the student, loaded; its device is the device of the run.
        teacher: None for a method without one.

    Returns:
        commit: see `commit_of`; device: for example "cpu" or "cuda:0 (NVIDIA H100 80GB HBM3)"; packages:
        distribution -> version, those that are installed; teacher_parameters: their number, or None.
    """
    return {
        "commit": commit_of(Path(s2t_eval.__file__).resolve().parents[1]),
        "device": _device_name(torch.device(model.device)),
        "packages": _package_versions(),
        "teacher_parameters": sum(p.numel() for p in teacher.base.parameters()) if teacher else None,
    }


@functools.cache
def commit_of(root: Path) -> str | None:
    """The commit of a checkout of s2t-eval, 40 hexadecimal digits, or None for an installed wheel.

    "-dirty" is appended where tracked files of `SOURCES` differ from the commit. The result is kept: the code
    of a process is what it was at its start, also where files change later.

    Args:
        root: the folder that contains the package.
    """
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    existing = [name for name in SOURCES if (root / name).exists()]
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *existing)
    return f"{commit}-dirty" if changes else commit


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git or where git refuses the folder."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # math-verify and peft may be absent where nothing needs them
            continue
    return versions
