"""Running the command line in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from s2t_eval.cli import main


def exit_code(*arguments: object) -> int:
    """Run a command and return its exit code."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def error_line(
    capsys: pytest.CaptureFixture[str], run: Callable[..., object], *arguments: Any, **more: Any
) -> str:
    """The last line of error output of a call that must end with exit code 2.

    Loading models may have printed lines before it; `refused` is for commands that print nothing else.
    """
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*arguments, **more)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with exit code 2, and return its one line of error output."""
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line
