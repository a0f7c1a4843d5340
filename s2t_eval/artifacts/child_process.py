"""Python processes of this package: their environment, and what they print while they work."""

from __future__ import annotations

import codecs
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

KEPT_CHARACTERS = 10_000
"""The end of what a process prints to stderr: a traceback fits in it."""
ROOT = Path(__file__).resolve().parents[2]
"""The folder of the package: one of installed packages, or a checkout."""


def module_environment() -> dict[str, str]:
    """The environment in which `python -m` imports nothing from the working folder.

    `python -m` puts that folder before all others, so that a user's folder `datasets` there replaces the
    library of this name in every step. Python 3.10 has no way to leave it out. A checkout that is not
    installed is found by its own path.
    """
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if ROOT not in {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}:
        paths.append(str(ROOT))
    path = {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}
    return {**os.environ, **path, "PYTHONSAFEPATH": "1"}


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    """its exit code"""
    stdout: str
    stderr: str
    """the end of it"""


def run_shown(command: Sequence[str], show: Callable[[str], object]) -> Ended:
    """Run a command, and show its stderr, where progress bars are, while it works.

    Args:
        command: the program and its arguments; it runs in the environment of `module_environment`.
        show: called with each piece of stderr as it comes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kept = ""
    with (
        tempfile.TemporaryFile() as stdout,
        subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=module_environment()) as process,
    ):
        assert process.stderr is not None
        try:
            while piece := os.read(process.stderr.fileno(), 1 << 16):
                text = decoder.decode(piece)
                show(text)
                kept = (kept + text)[-KEPT_CHARACTERS:]
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        stdout.seek(0)
        return Ended(code, stdout.read().decode(errors="replace"), kept)
