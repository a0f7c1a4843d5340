"""A mistake in what was given is one line: of `s2t-eval`, and last and alone of the harness's command."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from s2t_eval.artifacts import errors
from s2t_eval.cli import main
from s2t_eval.cli.application import CommandLine
from s2t_eval.cli.command import CommandEntry
from s2t_eval.cli.execute import NOTICES_AT_IMPORT, execute
from s2t_eval.cli.run_harness import errors_in_one_line
from s2t_eval.models.loading import ModelLoadError
from tests.harness_helpers import BIN, STUDENT, run_command

WRONG = f"pretrained={STUDENT},teacher=embedded/teacher,trigger=never,tau=0.5"
SAID = "s2t-eval: trigger=never does not depend on tau, got tau=0.5; leave it out, or name another trigger"


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-m", "lm_eval"),
        pytest.param((BIN / "lm_eval",), marks=pytest.mark.slow),  # each scans lm_eval's 14,000 tasks
        pytest.param((sys.executable, "-m", "s2t_eval", "run"), marks=pytest.mark.slow),
    ],
    ids=["module", "script", "ours"],
)
def test_our_line_stands_last_and_alone(command: tuple[str | Path, ...], tmp_path: Path) -> None:
    """The harness printed a traceback of fifty lines."""
    given = ("--model", "s2t", "--model_args", WRONG, "--tasks", "s2t_arith", "--limit", "1")
    done = run_command(*command, *given, folder=tmp_path)
    assert done.returncode == (2 if "s2t_eval" in command else 1)
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == SAID
    assert done.stderr.count("trigger=never does not depend") == 1


@pytest.mark.slow
def test_an_error_while_texts_are_written_is_one_line_too(tmp_path: Path) -> None:
    given = ("--model", "greedy", "--model_args", f"pretrained={STUDENT}", "--tasks", "s2t_arith")
    done = run_command(
        *(sys.executable, "-m", "lm_eval", *given, "--limit", "1", "--gen_kwargs", "num_beams=4"),
        folder=tmp_path,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("s2t-eval: task s2t_arith, document 0: ")


PROGRAM = f"""
import sys
import lm_eval.models
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
assert sys.excepthook is sys.__excepthook__
get_model("s2t").create_from_arg_string({WRONG!r})
"""


@pytest.mark.slow  # a fresh process that imports the harness's models
def test_a_program_of_the_user_s_keeps_its_tracebacks(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM)
    done = run_command(sys.executable, "mine.py", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") or "\nTraceback" in done.stderr
    assert done.stderr.rstrip().endswith(SAID.removeprefix("s2t-eval: "))


@pytest.mark.parametrize(
    ("spec", "file", "expected"),
    [
        ("lm_eval.__main__", "/x/lm_eval/__main__.py", True),
        (None, "/venv/bin/lm_eval", True),
        (None, "/venv/bin/lm-eval", True),
        (None, "/home/me/evaluate.py", False),
        (None, "", False),
        ("pytest.__main__", "/x/pytest/__main__.py", False),
        ("lm_eval.tasks", "/x/lm_eval/tasks.py", False),
    ],
)
def test_which_process_is_the_harness_s_command(
    spec: str | None, file: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("__main__")
    module.__spec__ = None if spec is None else SimpleNamespace(name=spec)  # type: ignore[assignment]
    module.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", module)
    assert errors.is_harness_command() is expected


def test_commands_do_not_begin_with_a_library_s_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On processors with bfloat16 instructions every command, `--plan` and Ctrl-C included, printed a line of
    bitsandbytes first, which peft imports: "Failed to load CPU gemm_4bit_forward from kernels-community"."""
    notices = logging.getLogger(NOTICES_AT_IMPORT)
    monkeypatch.setattr(notices, "level", notices.level)  # what it is now comes back afterwards
    notices.setLevel(logging.NOTSET)
    assert notices.isEnabledFor(logging.WARNING)

    @dataclass(frozen=True, kw_only=True)
    class Importing:
        """Import a library."""

        EXAMPLE: ClassVar[str] = "s2t-eval importing"

        def run(self) -> None:
            notices.warning("Failed to load")
            notices.error("a failure")

    execute(CommandLine((CommandEntry("report", "importing", Importing),)), ["importing"])
    assert caplog.messages == ["a failure"]


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def from_us(code: str) -> BaseException:
    try:
        exec(compile(code, "ours.py", "exec"), {"__name__": "s2t_eval.somewhere"})
    except BaseException as caught:
        return caught
    raise AssertionError("it raised nothing")


def test_user_errors_are_those_raised_by_this_package() -> None:
    assert errors.is_user_error(raised(ModelLoadError("x")))
    assert errors.is_user_error(from_us("raise ValueError('x')"))
    assert not errors.is_user_error(raised(ValueError("x")))
    assert not errors.is_user_error(raised(OSError("x")))
    assert not errors.is_user_error(from_us("raise TypeError('x')"))
    assert not errors.is_user_error(from_us("raise KeyboardInterrupt"))
    assert not errors.is_user_error(ValueError("never raised"))


def test_hook_shortens_user_errors_and_forwards_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarded = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: forwarded.append(args))
    monkeypatch.setattr(errors, "is_harness_command", lambda: True)
    monkeypatch.setenv(errors.TRACEBACK_VARIABLE, "1")
    before = sys.excepthook
    errors.install_for_harness_command()
    assert sys.excepthook is before, f"{errors.TRACEBACK_VARIABLE}=1 leaves tracebacks on"
    monkeypatch.delenv(errors.TRACEBACK_VARIABLE)
    errors.install_for_harness_command()
    ours, other = raised(ModelLoadError("one\n  two")), raised(TypeError("theirs"))
    for error in (ours, other):
        sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "s2t-eval: one two\n"
    assert [args[1] for args in forwarded] == [other]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file or directory", "x.json"), "x.json: No such file or directory"),
        (PermissionError(13, "Permission denied", "/proc/x"), "/proc/x: Permission denied"),
        (OSError("bad\nthing"), "bad thing"),
        (ValueError("a\n  b"), "a b"),
        (ValueError(), "ValueError"),
    ],
)
def test_single_line_message(error: Exception, expected: str) -> None:
    assert errors.single_line_message(error) == expected


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "--help"])
    assert "--cost_threshold" in capsys.readouterr().out


def test_no_hook_in_this_process() -> None:
    assert not errors.is_harness_command()
    assert os.environ.get(errors.TRACEBACK_VARIABLE) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--completion", "bash"],
        ["train", "--help"],
        pytest.param(["run", "--help", "--limit"], marks=pytest.mark.slow),  # lm_eval's own
    ],
)
def test_a_closed_output_ends_a_command_in_silence(arguments: list[str]) -> None:
    """`s2t-eval train --help | head -1` ended in a traceback now and then."""
    code = "import sys; from s2t_eval.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """Be interrupted by Ctrl-C while at work."""

    EXAMPLE: ClassVar[str] = "s2t-eval work"

    def run(self) -> None:
        """Be interrupted as by Ctrl-C, whose signal the jobs of a script ignore."""
        raise KeyboardInterrupt


def test_ctrl_c_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`collect`, `train`, `calibrate` and others printed a traceback of the place that they were at."""
    with pytest.raises(SystemExit) as caught:
        execute(CommandLine([CommandEntry("evaluate", "work", Interrupted)]), ["work"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "s2t-eval work: interrupted\n"


def test_ctrl_c_ends_an_evaluation_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`s2t-eval run`, the longest of all commands, ended in lm_eval's traceback."""
    with pytest.raises(SystemExit) as caught, errors_in_one_line():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "s2t-eval run: interrupted\n"
    with pytest.raises(BrokenPipeError), errors_in_one_line():  # `silent_when_closed` ends it
        raise BrokenPipeError
