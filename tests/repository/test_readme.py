"""Every block of the README's code is run, with the embedded pair in the place of models of the reader's own.

`pip install` and `make` are started with `--dry-run`. The slow tests here run in `.github/workflows/ci.yml`.
The README's tables of figures are compared in `tests/report/test_committed_tables.py`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from s2t_eval.method_table import BACKENDS
from tests.forked import run_forked

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTEAD = {
    "STUDENT": "embedded/student",
    "TEACHER": "embedded/teacher",
    "s2t_gsm8k": "s2t_arith",
    "--limit 32": "--limit 8",
    "--limit 800": "--limit 40",
}
"""Small models, a small task and few problems, for what the README shows with large ones."""
LIMIT = ["--limit", "6"]
RUN: list[str] = []
"""For each block that a test here runs, words that are in this block alone; filled by `runs`."""
Test = TypeVar("Test", bound=Callable[..., Any])
RUNNERS = {"lm_eval": ("-m", "lm_eval"), "s2t-eval": ("-m", "s2t_eval")}


def blocks(language: str) -> list[str]:
    """The README's blocks of code, in their order."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return [code for name, code in BLOCK.findall(text) if name == language]


def commands(block: str) -> list[list[str]]:
    """The commands of a block, as words."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def runs(words: str) -> Callable[[Test], Test]:
    """Mark the test that runs the block that holds these words."""
    RUN.append(words)
    return lambda test: test


def block_with(words: str) -> list[list[str]]:
    """The commands of the one block that holds these words, ready to be run here."""
    assert words in RUN
    [block] = [block for block in blocks("bash") if words in block]
    for given, instead in INSTEAD.items():
        block = block.replace(given, instead)
    return commands(block)


def printed_by(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed; it must have succeeded."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_command(words: Sequence[str], cwd: Path) -> str:
    """Run one of the README's commands; evaluations are limited to a few problems."""
    name, *arguments = words
    limit = LIMIT if name == "lm_eval" and "--limit" not in arguments else []
    return printed_by(run_forked(*RUNNERS[name], *arguments, *limit, folder=cwd))


def test_every_block_is_run_by_a_test_here() -> None:
    """The blocks were once compared with a list, which no test had to agree with."""
    for block in blocks("bash") + blocks("python"):
        assert sum(words in block for words in RUN) == 1, block


@runs("pip install")
def test_the_install_command_finds_the_package() -> None:
    [[pip, *arguments]] = block_with("pip install")
    assert pip == "pip"
    offline = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *arguments, *offline, "--ignore-installed"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert "Would install s2t-eval-" in printed_by(done)


@runs("make demo")
def test_the_make_targets_exist() -> None:
    for command, started in zip(
        block_with("make demo"), ("s2t_eval reproduce embedded", "pytest"), strict=True
    ):
        done = subprocess.run([*command, "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0 and started in done.stdout, done.stdout + done.stderr


def test_the_table_of_methods_has_every_backend() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"\[`(\w+)`\]\(docs/methods/\1\.md\)", text)
    assert sorted(BACKENDS[name] for name in listed) == sorted(set(BACKENDS.values()))


@runs("import lm_eval")
def test_the_python_example_prints_what_it_says(tmp_path: Path) -> None:
    [code] = blocks("python")
    printed = printed_by(run_forked("-c", code, folder=tmp_path))
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(expected) == 2
    assert printed.splitlines()[-2:] == expected


@pytest.mark.slow
@runs("s2t-eval calibrate")
@runs("s2t-eval compare")
def test_calibrate_evaluate_compare_and_report(tmp_path: Path) -> None:
    calibrate, *evaluations = block_with("s2t-eval calibrate")
    run_command(calibrate, tmp_path)
    for evaluate in evaluations:
        assert "|s2t_arith|" in run_command(evaluate, tmp_path)
    # the other run is made in the section on training, which is too long for here; the shipped selector
    # was trained without a chat template
    *_, evaluate = block_with("s2t-eval collect")
    shipped = [
        word.replace("selector=selector", "selector=embedded/selector,other_prompt=true") for word in evaluate
    ]
    run_command(shipped, tmp_path)
    compare, report = block_with("s2t-eval compare")
    assert "s2t_arith" in run_command(compare, tmp_path)
    run_command(report, tmp_path)
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.slow
@runs("s2t-eval collect")
def test_train_a_selector_and_use_it(tmp_path: Path) -> None:
    collect, train, evaluate = block_with("s2t-eval collect")
    run_command(collect, tmp_path)
    run_command(train, tmp_path)
    assert (tmp_path / "selector" / "selector.json").is_file()
    assert "|s2t_arith|" in run_command(evaluate, tmp_path)
