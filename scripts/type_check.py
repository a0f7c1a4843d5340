"""Run mypy on the package in the layout of a wheel: `python -m scripts.type_check`.

mypy does not support `__path__`, so it cannot find `s2t_eval.model_wrappers` in the top-level folder. This
script copies the sources to a wheel's layout, runs mypy there, and reports the original file names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".mypy_cache"


def stage(folder: Path) -> None:
    """Copy the sources to `folder` in a wheel's layout, with their times, which mypy's cache compares."""
    leave_out = shutil.ignore_patterns("__pycache__", "model_wrappers.py")
    shutil.copytree(ROOT / "s2t_eval", folder / "s2t_eval", ignore=leave_out)
    shutil.copytree(ROOT / "model_wrappers", folder / "s2t_eval" / "model_wrappers", ignore=leave_out)
    for name in ("benchmarks", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    shutil.copy2(ROOT / "pyproject.toml", folder)


def main() -> None:
    """Run mypy and exit with its status."""
    with tempfile.TemporaryDirectory(prefix="s2t-eval-types-") as name:
        stage(Path(name))
        command = [sys.executable, "-m", "mypy", "--cache-dir", str(CACHE), *sys.argv[1:]]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True)
    print(re.sub(r"^s2t_eval/model_wrappers/", "model_wrappers/", done.stdout, flags=re.MULTILINE), end="")
    print(done.stderr, end="", file=sys.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
