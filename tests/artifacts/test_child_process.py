"""Python processes of this package import nothing from the folder that a command is typed in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s2t_eval.artifacts.child_process import module_environment

HELP = (sys.executable, "-m", "s2t_eval", "--help")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot leave the working folder out")
def test_a_file_with_a_library_s_name_is_not_run(tmp_path: Path) -> None:
    """A research folder with `datasets/` in it ended every step of a reproduction."""
    (tmp_path / "dataclasses.py").write_text("raise SystemExit('of the working folder')")
    plain = subprocess.run(HELP, cwd=tmp_path, capture_output=True, text=True)
    assert "of the working folder" in plain.stderr
    protected = subprocess.run(HELP, cwd=tmp_path, capture_output=True, text=True, env=module_environment())
    assert protected.returncode == 0 and protected.stdout.strip()


def test_the_users_own_path_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/own")
    assert module_environment()["PYTHONPATH"].startswith("/own")
