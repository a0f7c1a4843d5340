"""Python processes of this package import nothing from the folder of a command, and are shown at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s2t_eval.artifacts.child_process import module_environment, run_shown

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


SLOW = """
import pathlib, sys, time
print("result")
print("50%|é", end="\\r", file=sys.stderr, flush=True)
end = time.monotonic() + 60
while not pathlib.Path(sys.argv[1]).exists():
    if time.monotonic() > end:
        sys.exit(4)
    time.sleep(0.01)
sys.exit(3)
"""


def test_stderr_is_shown_while_the_process_works(tmp_path: Path) -> None:
    """The process here ends only when what it has printed was shown."""
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        (tmp_path / "seen").touch()

    ended = run_shown([sys.executable, "-c", SLOW, str(tmp_path / "seen")], show)
    assert ended == (3, "result\n", "50%|é\r") and "".join(shown) == ended.stderr
