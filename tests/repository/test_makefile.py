"""The Makefile's own choices."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report_helpers import REPOSITORY

DASH, MAKE = shutil.which("dash"), shutil.which("make")


@pytest.mark.skipif(DASH is None or MAKE is None, reason="needs make and dash")
@pytest.mark.parametrize("name", ["python3", "python3.11"])
def test_a_python_is_found_where_the_shell_is_dash(name: str, tmp_path: Path) -> None:
    """dash reads the first operand of `command -v` alone: without python3.11 no Python was found."""
    assert DASH is not None and MAKE is not None
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    [line] = re.findall(r"^PYTHON \?=.*$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    (tmp_path / "Makefile").write_text(f"SHELL := {DASH}\n{line}\n$(info $(PYTHON))\nall: ;\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    done = subprocess.run(
        [MAKE, "-s", "-C", tmp_path],
        capture_output=True,
        text=True,
        env={**environment, "PATH": str(tmp_path)},
    )
    assert done.stdout.splitlines()[0] == str(tmp_path / name)
