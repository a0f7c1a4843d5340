"""The environment of Python processes of this package."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

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
