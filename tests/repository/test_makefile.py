"""The Makefile's own choices."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report_helpers import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
DASH, MAKE = shutil.which("dash"), shutil.which("make")


@pytest.mark.skipif(DASH is None or MAKE is None, reason="needs make and dash")
@pytest.mark.parametrize("name", ["python3", "python3.11"])
def test_a_python_is_found_where_the_shell_is_dash(name: str, tmp_path: Path) -> None:
    """dash reads the first operand of `command -v` alone: without python3.11 no Python was found."""
    assert DASH is not None and MAKE is not None
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    [line] = re.findall(r"^PYTHON \?=.*$", MAKEFILE, re.MULTILINE)
    (tmp_path / "Makefile").write_text(f"SHELL := {DASH}\n{line}\n$(info $(PYTHON))\nall: ;\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    done = subprocess.run(
        [MAKE, "-s", "-C", tmp_path],
        capture_output=True,
        text=True,
        env={**environment, "PATH": str(tmp_path)},
    )
    assert done.stdout.splitlines()[0] == str(tmp_path / name)


@pytest.mark.skipif(MAKE is None, reason="needs make")
@pytest.mark.parametrize(("python", "makes"), [("exit 0", False), ("exit 1", True), (None, True)])
def test_an_environment_without_pip_is_completed(python: str | None, makes: bool, tmp_path: Path) -> None:
    """Where its creation had been interrupted, every later `make install` ended with "No module named pip".

    Nothing is removed, since VENV may be any folder.
    """
    assert MAKE is not None
    venv, maker = tmp_path / "venv", tmp_path / "python3"
    (venv / "bin").mkdir(parents=True)
    for path, script in ((venv / "bin" / "python", python), (maker, f'echo "$@" > {tmp_path}/made')):
        if script is not None:
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
    [line] = re.findall(r"^\t.*-m venv.*$", MAKEFILE, re.MULTILINE)
    (tmp_path / "Makefile").write_text(f"all:\n{line}\n")
    subprocess.run([MAKE, "-s", "-C", tmp_path, f"VENV={venv}", f"PYTHON={maker}"], check=True)
    made = tmp_path / "made"
    assert (made.read_text() if made.exists() else None) == (f"-m venv {venv}\n" if makes else None)


def test_a_new_version_is_installed_anew() -> None:
    """The version stayed that of the first install, and the test of `--version` failed."""
    [inputs] = re.findall(r"^INSTALL_INPUTS := (.*)$", MAKEFILE, re.MULTILINE)
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    [path] = re.findall(r'^\[tool\.hatch\.version\]\npath = "(.*)"$', settings, re.MULTILINE)
    assert path in inputs.split()
