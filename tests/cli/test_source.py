"""Calibration, label collection and TaH labelling choose their problems with the same flags."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from s2t_eval import cli
from s2t_eval.cli.application import CommandLine
from s2t_eval.pipelines.settings import Prompting, Source
from tests.commands import refused
from tests.harness_helpers import STUDENT, TEACHER

COMMANDS = {
    "calibrate": (("calibrate", "--teacher", TEACHER), 32),
    "collect": (("collect", "--teacher", TEACHER), 500),
    "tah label": (("tah", "label"), 500),
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return COMMANDS[request.param][0]


def parsed(command: tuple[str, ...], *flags: str) -> tuple[dict[str, Any], Prompting]:
    """The problems that a command line chooses, and how they are prompted."""
    line = CommandLine(cli.COMMANDS)
    chosen: Any = line.parse([*command, "--pretrained", STUDENT, "--out", "x", *flags])
    return asdict(chosen.source), chosen.prompting


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults(name: str) -> None:
    command, limit = COMMANDS[name]
    expected = asdict(Source("gsm8k", None, limit, 0))
    assert parsed(command, "--task", "gsm8k") == (expected, Prompting())


def test_every_flag_is_read(command: tuple[str, ...]) -> None:
    flags = ("--data", "x.jsonl", "--limit", "7", "--skip", "3", "--max-gen-toks", "9")
    posed = ("--apply-chat-template", "--system-instruction", "Be brief.")
    expected = asdict(Source(None, "x.jsonl", 7, 3))
    assert parsed(command, *flags, *posed) == (expected, Prompting("Be brief.", True, 0, 9))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected one of --task NAME"),
        (("--task", "a", "--data", "b"), "expected one of --task NAME"),
        (("--task", "a", "--limit", "0"), "--limit: expected at least 1, got 0"),
        (("--task", "a", "--skip", "-1"), "--skip: expected at least 0, got -1"),
        (("--data", "a", "--num_fewshot", "2"), "a task's examples are shown with --task alone"),
    ],
)
def test_what_is_refused(
    flags: tuple[str, ...],
    message: str,
    command: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = (*command, "--pretrained", STUDENT, "--out", tmp_path / "out", *flags)
    assert message in refused(capsys, *given)
