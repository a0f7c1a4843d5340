"""No command calibrates or trains on a problem that models are scored on, whatever the name of its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s2t_eval.embedded.arith import make_split
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.selection.thresholds import ThresholdError, quantile_thresholds
from s2t_eval.training import contamination as evaluation
from s2t_eval.training.question_index import QuestionIndex, records
from tests.commands import error_line
from tests.harness_helpers import STUDENT, TEACHER
from tests.learning import collect_arguments, labels, main, train_arguments

PAIR = ["--pretrained", STUDENT, "--device", "cpu"]
SCORED = 2
"""Index of the training problem that stands in for a benchmark's."""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that contains one of the embedded task's training problems."""
    labels()  # made before
    index = QuestionIndex({"mine": records([make_split("train")[SCORED].question])})
    monkeypatch.setattr(evaluation, "_evaluation_index", lambda: index)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Problems in a file of a neutral name, one of them with changed markup."""
    questions = [problem.question for problem in make_split("train")[:5]]
    questions[SCORED] = f"Question: {questions[SCORED].upper()}"
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return error_line(capsys, main, arguments)


@pytest.mark.usefixtures("benchmark")
def test_calibrate_checks_the_problems(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the name of the file was checked once."""
    out = tmp_path / "c.json"
    arguments = (
        "calibrate",
        *PAIR,
        "--data",
        str(data),
        "--max_gen_toks",
        "8",
        "--tau",
        "0.1",
        "--out",
        str(out),
    )
    assert "1 of 5 problems are also evaluation problems of mine (the first is problem 2" in refused(
        capsys, *arguments
    )
    assert not out.exists()
    main([*arguments, "--drop_overlap"])
    assert Calibration.load(out).num_texts == 4


@pytest.mark.usefixtures("benchmark")
def test_train_and_distil_check_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels are checked at every use, because a benchmark may have been added since."""
    out = tmp_path / "out"
    distil = ("distil", *PAIR, "--teacher", TEACHER, "--labels", str(labels()), "--out", str(out))
    for command in (train_arguments(labels(), out), list(distil)):
        message = refused(capsys, *command)
        assert "of 24 problems are also evaluation problems of mine (the first is problem 2" in message
        assert "collect labels of other problems" in message and not out.exists()


@pytest.mark.usefixtures("benchmark")
def test_collect_and_tah_check_the_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "1 of 4 problems are also evaluation problems of mine"
    assert message in refused(capsys, *collect_arguments(tmp_path / "labels", 4))
    tah = ("tah", "label", *PAIR, "--task", "s2t_arith", "--limit", "4", "--out", str(tmp_path / "tah"))
    assert message in refused(capsys, *tah)


def test_tah_training_checks_its_labels(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tah"
    main(["tah", "label", *PAIR, "--task", "s2t_arith", "--limit", "8", "--out", str(folder)])
    request.getfixturevalue("benchmark")
    for command in (("train", "--stage", "1"), ("plain",)):
        arguments = ("tah", *command, *PAIR, "--labels", str(folder), "--out", str(tmp_path / "out"))
        assert "1 of 8 problems are also evaluation problems of mine" in refused(capsys, *arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_thresholds_are_finite(value: float, tmp_path: Path) -> None:
    with pytest.raises(ThresholdError, match="1 of 3 divergences are not finite numbers"):
        quantile_thresholds([0.1, value, 0.2], (0.1,))
    path = tmp_path / "c.json"
    Calibration({"entropy": {"0.1": value}}, 3, 1, 0, {}, {}, "s", None).save(path)
    with pytest.raises(CalibrationError, match=r"thresholds\.entropy\.0\.1: expected a finite number"):
        Calibration.load(path)
