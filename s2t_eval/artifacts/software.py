"""The software of a run: the commit of the checkout that this package lies in, and versions of packages."""

from __future__ import annotations

import functools
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SOURCES = ("s2t_eval", "model_wrappers", "tasks")
"""Folders of a checkout whose uncommitted changes make it another code than its commit."""

REPOSITORY_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)
"""Variables that name a repository; git exports them to its hooks, and they take precedence over its `-C`."""

STEPS_AT_ONCE = "S2T_EVAL_STEPS_AT_ONCE"
"""Environment variable: how many commands `s2t-eval reproduce` keeps at work on this machine."""


@functools.cache
def commit_of(root: Path) -> str | None:
    """The commit of a checkout of s2t-eval, 40 hexadecimal digits, or None for an installed wheel.

    "-dirty" is appended where tracked files of `SOURCES` differ from the commit. The result of the
    first call is kept: the caller asks when the process starts, and files may change later.

    Args:
        root: the folder that contains the package.
    """
    if not (root / ".git").exists():
        return None
    commit = run_git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    existing = [name for name in SOURCES if (root / name).exists()]
    changes = run_git(root, "status", "--porcelain", "--untracked-files=no", "--", *existing)
    return f"{commit}-dirty" if changes else commit


def run_git(root: Path, *arguments: str) -> str | None:
    """What git prints in a folder; None where there is no git or where git refuses the folder."""
    command = ["git", "-C", str(root), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
