"""Results name the code and the device that made them: `git_hash` was null and `device` cuda:0 on a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from s2t_eval.artifacts.code import code_word, present_code
from s2t_eval.artifacts.software import commit_of
from tests.harness_helpers import evaluate


def git(folder: Path, *arguments: str) -> str:
    """What git prints in a folder, whatever repository and settings (signed commits, say) the user has."""
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    without_settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    environment = {**kept, **without_settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def new_checkout(folder: Path) -> Path:
    (folder / "s2t_eval").mkdir(parents=True)
    (folder / "s2t_eval" / "a.py").write_text("A = 1\n")
    (folder / "README.md").write_text(f"{folder.name}\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")
    return new_checkout(tmp_path / "one")


def test_a_checkout_has_its_commit(checkout: Path) -> None:
    (checkout / "README.md").write_text("two\n")  # prose changes no text and no score
    (checkout / "s2t_eval" / "notes.txt").write_text("untracked\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_uncommitted_code_is_not_the_commit(checkout: Path) -> None:
    (checkout / "s2t_eval" / "a.py").write_text("A = 2\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_a_repository_that_a_hook_names_is_not_the_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git exports GIT_DIR to its hooks: results got the commit of the repository whose hook started the run,
    and these tests committed into the developer's own."""
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    other = new_checkout(tmp_path / "two")
    assert commit_of(other) == git(other, "rev-parse", "HEAD") != commit
    assert git(checkout, "rev-parse", "HEAD") == commit


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
