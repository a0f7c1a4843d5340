"""Results name the code and the device that made them: `git_hash` was null and `device` cuda:0 on a CPU."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from s2t_eval.artifacts.code import code_word, present_code
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
    assert entry["code"] == present_code()
    assert entry["device"] == "cpu"
    assert entry["packages"]["torch"] == version("torch")
    assert entry["teacher_parameters"] is None


def test_results_name_the_size_of_the_teacher() -> None:
    """The work of a method with a teacher was unknown unless the teacher had been run alone as well."""
    pair = {"pretrained": "embedded/student", "teacher": "embedded/teacher", "trigger": "never"}
    alone = evaluate("greedy", {"pretrained": "embedded/teacher"}, limit=2)["config"]["model_num_parameters"]
    assert evaluate("s2t", pair, limit=2)["config"]["s2t_eval"]["teacher_parameters"] == alone


def test_one_word_for_equal_code_alone(checkout: Path) -> None:
    """Every change of a commit was the same `-dirty`, and every installed package the same version."""
    for folder in ("model_wrappers", "tasks"):
        (checkout / folder).mkdir()
        (checkout / folder / "a.py").write_text("A = 1\n")
    package, words = checkout / "s2t_eval", []
    for content in ("A = 2\n", "A = 3\n", "A = 2\n"):
        (package / "__init__.py").write_text(content)
        words.append(code_word(package))
    assert words[0] == words[2] != words[1] and all(word.startswith("files-") for word in words)
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "second")
    head = git(checkout, "rev-parse", "HEAD")
    assert code_word(package) == head
    words = []
    for content in ("A = 4\n", "A = 5\n"):
        (package / "__init__.py").write_text(content)
        words.append(code_word(package))
    assert words[0] != words[1] and all(word.startswith(f"{head}-dirty-") for word in words)
