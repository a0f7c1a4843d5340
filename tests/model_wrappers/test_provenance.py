"""Results name the code and the device that made them: `git_hash` was null and `device` cuda:0 on a CPU."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from s2t_eval.artifacts.software import commit_of
from tests.harness_helpers import evaluate


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "s2t_eval").mkdir()
    (tmp_path / "s2t_eval" / "a.py").write_text("A = 1\n")
    (tmp_path / "README.md").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_checkout_has_its_commit(checkout: Path) -> None:
    (checkout / "README.md").write_text("two\n")  # prose changes no text and no score
    (checkout / "s2t_eval" / "notes.txt").write_text("untracked\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_uncommitted_code_is_not_the_commit(checkout: Path) -> None:
    (checkout / "s2t_eval" / "a.py").write_text("A = 2\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_an_installed_wheel_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert commit_of(tmp_path) is None


def test_results_name_commit_device_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the command is started in a folder that is no checkout, or another project's."""
    monkeypatch.chdir(tmp_path)
    results = evaluate("greedy", {"pretrained": "embedded/student"}, limit=2)
    entry = results["config"]["s2t_eval"]
    assert entry["commit"] == commit_of(Path(__file__).resolve().parents[2])
    assert entry["device"] == "cpu"
    assert entry["packages"]["torch"] == version("torch")
    assert entry["teacher_parameters"] is None


def test_results_name_the_size_of_the_teacher_and_its_own_dtype() -> None:
    """The work of a method with a teacher was unknown unless the teacher had been run alone as well.

    Nothing told a run with a teacher in another dtype from one without.
    """
    pair = {"pretrained": "embedded/student", "teacher": "embedded/teacher", "trigger": "never"}
    alone = evaluate("greedy", {"pretrained": "embedded/teacher"}, limit=2)["config"]["model_num_parameters"]
    for more, expected in (({}, None), ({"teacher_dtype": "bfloat16"}, "torch.bfloat16")):
        entry = evaluate("s2t", pair | more, limit=2)["config"]["s2t_eval"]
        assert (entry["teacher_parameters"], entry.get("teacher_dtype")) == (alone, expected)
        assert "teacher_device" not in entry
