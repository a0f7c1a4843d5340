"""Each command's help ends with one example, and each example works with the embedded models."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s2t_eval import cli
from s2t_eval.cli.application import CommandLine
from s2t_eval.cli.command import CommandEntry
from s2t_eval.models.loading import load_model
from tests.harness_helpers import STUDENT
from tests.learning import main
from tests.report_helpers import EMBEDDED

COMMANDS = {entry.name: entry for entry in cli.COMMANDS}
WITH_LM_EVAL = ("run", "scan", "choose")
"""Each starts lm_eval, which takes some seconds for every run."""
WITH_SERVERS = ("servers check",)
"""Run against servers in `tests/model_wrappers/test_served.py`."""
ELSEWHERE = ("doctor", "try")
"""Run, with what they print, in `test_doctor.py` and `test_try.py`."""
NEEDS = {
    "train": ("collect",),
    "distil": ("collect",),
    "rlkd": ("collect",),
    "analyze": ("collect",),
    "tah train": ("tah label",),
    "tah plain": ("tah label",),
    "r2r train": ("r2r label",),
}
"""Examples that make what an example reads."""
OF_EXPORT = (
    "collect --pretrained student",
    "train --pretrained student --form lookahead --score_as expected",
)
"""The same with further options, for the example of `export`, whose student is another."""


def words_of(entry: CommandEntry) -> list[str]:
    """The example as words, without the program's name."""
    program, *words = shlex.split(entry.command.EXAMPLE.replace("\\\n", " "))
    assert program == "s2t-eval"
    return words


def save_roomy_student(folder: Path) -> None:
    """The embedded student with unused output rows, which it lacks itself."""
    student, tokenizer = load_model("pretrained", STUDENT, "auto", "cpu", False)
    student.resize_token_embeddings(len(tokenizer) + 16)
    student.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def unused(name: str) -> bool:
    """Whether a committed file is of none of these methods: a report of all of them takes half a minute."""
    return not name.startswith(("greedy", "maj8", "s2t_kl", "takeover_kl", "teacher", "traces"))


def prepare(folder: Path) -> None:
    """What the examples name and no command of an example makes: results of this repository."""
    results = folder / "results/baselines/embedded"
    shutil.copytree(EMBEDDED, results, ignore=lambda path, names: {name for name in names if unused(name)})
    (folder / "runs/greedy").mkdir(parents=True)
    shutil.copy(EMBEDDED / "greedy.json", folder / "runs/greedy/results_2026-11-20T00-00-00.json")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_ends_with_one_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*name.split(), "--help"])
    out = capsys.readouterr().out
    head, _, example = out.partition("\nexample:\n")
    assert shlex.split(example.replace("\\\n", " "))[1:] == words_of(COMMANDS[name])
    assert "example:" not in head


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_examples_are_command_lines(name: str) -> None:
    command = CommandLine(cli.COMMANDS).parse(words_of(COMMANDS[name]))
    assert type(command) is COMMANDS[name].command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples run one after another, each once."""
    folder = tmp_path_factory.mktemp("examples")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What the examples that have run printed."""
    return {}


RUN = [name for name in COMMANDS if name not in (*WITH_LM_EVAL, *WITH_SERVERS, *ELSEWHERE, "export")]


@pytest.mark.parametrize("name", RUN)
def test_examples_run(
    name: str,
    place: Path,
    printed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    for each in (*NEEDS.get(name, ()), name):
        if each not in printed:
            capsys.readouterr()
            main(words_of(COMMANDS[each]))
            printed[each] = capsys.readouterr().out
    assert printed[name]


def test_the_example_of_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_roomy_student(tmp_path / "student")
    monkeypatch.chdir(tmp_path)
    for command in OF_EXPORT:
        first, *more = command.split()
        main([*words_of(COMMANDS[first]), *more])
    capsys.readouterr()
    main(words_of(COMMANDS["export"]))
    assert capsys.readouterr().out


def run_process(folder: Path, words: list[str]) -> str:
    """Run a command as users do and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "s2t_eval", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_of_run(tmp_path: Path) -> None:
    assert "|s2t_arith|" in run_process(tmp_path, words_of(COMMANDS["run"]))


@pytest.mark.slow
def test_the_examples_of_scan_and_choose(tmp_path: Path) -> None:
    run_process(tmp_path, words_of(COMMANDS["calibrate"]))
    words = words_of(COMMANDS["scan"])
    assert "s2t_k8_tau5: done" in run_process(tmp_path, words)
    from s2t_eval.embedded import embedded_path

    shutil.copytree(embedded_path("embedded/selector"), tmp_path / "selector")
    evaluation = ["--model", "pps_local", "--tasks", "s2t_arith_dev", "--limit", "8", "--log_samples"]
    for tau in ("0.01", "0.2"):
        arguments = f"pretrained=embedded/student,selector=selector,trigger=router,tau={tau}"
        out = ["--model_args", arguments, "--output_path", f"scan-dev/{tau}"]
        run_process(tmp_path, ["run", *evaluation, *out])
    assert "default of proposer base" in run_process(tmp_path, words_of(COMMANDS["choose"]))
