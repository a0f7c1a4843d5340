"""A small set of R2R's labels and a router trained on it, made once for all tests of a session."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands import error_line
from tests.harness_helpers import STUDENT, TEACHER
from tests.learning import main
from tests.shared_artifacts import made_once

COUNT = 16


def label_arguments(out: Path, *more: str, count: int = COUNT) -> list[str]:
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER, "--task", "s2t_arith", "--device", "cpu"]
    size = ["--limit", str(count), "--batch_size", "8", "--dtype", "float32"]
    return ["r2r", "label", *pair, *size, "--out", str(out), *more]


def train_arguments(labels: Path, out: Path, *more: str) -> list[str]:
    loop = ["--epochs", "4", "--lr", "3e-3", "--batch_size", "4", "--width", "16", "--blocks", "1"]
    given = ["--pretrained", STUDENT, "--labels", str(labels), "--device", "cpu", "--out", str(out)]
    return ["r2r", "train", *given, *loop, "--held_out", "0.4", "--by", "rate", "--tau", "0.1", *more]


def refusal(capsys: pytest.CaptureFixture[str], arguments: Sequence[object]) -> str:
    """The last line of a command that ends with exit code 2, behind what loading models prints."""
    return error_line(capsys, main, list(map(str, arguments)))


def labels() -> Path:
    """Labels of 16 training problems, all of them validated by answers."""
    return made_once("r2r-labels", lambda out: main(label_arguments(out, "--validate", "1")))


def router() -> Path:
    """A router's folder."""
    return made_once("r2r-router", lambda out: main(train_arguments(labels(), out)))


if __name__ == "__main__":
    main(sys.argv[1:])
