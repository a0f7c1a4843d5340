"""A small label set and selectors trained on it, made once for all tests of a session."""

from __future__ import annotations

import sys
from pathlib import Path

from s2t_eval.cli import main
from tests.harness_helpers import STUDENT, TEACHER
from tests.shared_artifacts import made_once

COUNT = 24


def collect_arguments(out: Path, count: int = COUNT, *more: str) -> list[str]:
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER, "--task", "s2t_arith", "--device", "cpu"]
    return ["collect", *pair, "--limit", str(count), "--batch_size", "8", "--out", str(out), *more]


def train_arguments(labels: Path, out: Path, *more: str) -> list[str]:
    loop = ["--epochs", "2", "--lr", "2e-3", "--batch_size", "4", "--accumulate", "1", "--evaluations", "1"]
    given = ["--pretrained", STUDENT, "--labels", str(labels), "--device", "cpu", "--out", str(out)]
    return ["train", *given, *loop, "--held_out", "0.25", *more]


def labels() -> Path:
    """Labels at every step of 24 training problems."""
    return made_once("labels", lambda out: main(collect_arguments(out, COUNT, "--steps", "all")))


def selector(form: str = "residual") -> Path:
    """A selector folder of this form."""
    return made_once(f"selector-{form}", lambda out: main(train_arguments(labels(), out, "--form", form)))


if __name__ == "__main__":
    main(sys.argv[1:])
