"""SpecReason's acceptance by a rate: measured on training problems, refused where it does not fit."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from s2t_eval import cli
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.acceptance import (
    StepForm,
    acceptance_threshold,
    accepted_share,
    calibrated_accept,
)
from s2t_eval.model_wrappers.specreason import SpecReason
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.selection.thresholds import ThresholdError
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    generate,
    logits_after,
    model,
    ours,
    task_manager,
    texts,
    tiny_folder,
    tokenizer,
)

pytestmark = pytest.mark.usefixtures("small_task_index")

PROBLEMS = 3
FORM = StepForm("logprob", "sentence", 512)


# ---------------------------------------------------------------- the threshold


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.8, 0.99])
def test_it_is_the_largest_threshold_that_accepts_enough(rate: float) -> None:
    numbers = random.Random(0)
    scores = [numbers.random() for _ in range(200)]
    threshold = acceptance_threshold(scores, rate)
    assert accepted_share(scores, threshold) == pytest.approx(rate, abs=1e-9)
    least = min(score for score in scores if score >= threshold)
    assert accepted_share(scores, math.nextafter(least, 1)) < rate


def test_equal_scores_are_accepted_together() -> None:
    """Marks of a small teacher: nine of ten drafts have an 8, and none can be chosen among them."""
    scores = [8 / 9] * 9 + [2 / 9]
    for rate in (0.1, 0.5, 0.9):
        threshold = acceptance_threshold(scores, rate)
        assert threshold == pytest.approx(5 / 9)  # halfway, so that rounding of a score does not matter
        assert accepted_share(scores, threshold) == 0.9
    assert acceptance_threshold(scores, 0.95) == 0.0


def test_scores_that_are_no_numbers() -> None:
    with pytest.raises(ThresholdError, match="the teacher's scores are not all finite numbers"):
        acceptance_threshold([0.5, math.nan], 0.5)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("acceptance") / "steps.json"
    models = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu"]
    steps = ["--step_score", "logprob", "digit", "--delimiter", "sentence", "--accept_rate", "0.5", "0.8"]
    problems = ["--task", "s2t_arith", "--limit", str(PROBLEMS), "--tau", "0.1"]
    cli.main(["calibrate", *models, *problems, *steps, "--out", str(out)])
    return out


def slow_scores() -> list[float]:
    """The geometric mean of the teacher's probabilities of each sentence of `generate`'s texts."""
    ends = StepEnds(tokenizer().decode, "sentence", 512)
    scores = []
    docs = task_manager().load(["s2t_arith"])["tasks"]["s2t_arith"].training_docs()
    for doc in list(docs)[:PROBLEMS]:
        text = tokenizer()(f"Question: {doc['question']}\nAnswer:")["input_ids"]
        output, step = generate(model(STUDENT), text, 96), list[int]()
        for i, token in enumerate(output):
            step.append(token)
            if ends.is_end(step) or i == len(output) - 1:
                log_probs = [
                    float(logits_after(model(TEACHER), text + step[:j]).log_softmax(-1)[one])
                    for j, one in enumerate(step)
                ]
                scores.append(math.exp(sum(log_probs) / len(step)))
                text, step = text + step, []
    return scores


def test_thresholds_are_those_of_the_slow_twin(made: Path) -> None:
    calibration = Calibration.load(made)
    scores = slow_scores()
    for rate in (0.5, 0.8):
        threshold = calibrated_accept(calibration, FORM, rate)
        assert threshold == pytest.approx(acceptance_threshold(scores, rate), abs=1e-4)
    measured = calibration.data["steps"][FORM.key]
    assert measured["drafts"] == len(scores)
    assert measured["accepted"]["0.8"] == pytest.approx(accepted_share(scores, threshold))
    assert measured["accepted"]["0.8"] >= 0.8
    assert "accept:digit:sentence:512" in calibration.thresholds
    assert "kl:student_teacher" in calibration.thresholds  # triggers are in the same file
    assert set(calibration.table.rates) == {k for k in calibration.thresholds if not k.startswith("accept:")}


def test_a_run_takes_the_threshold_of_its_rate(made: Path) -> None:
    pair = {"teacher": TEACHER, "score": "logprob", "delimiter": "sentence"}
    by_rate = evaluate("specreason", {**pair, "accept_rate": 0.8, "calibration": str(made)}, limit=3)
    calibration = Calibration.load(made)
    accept = calibration.thresholds[FORM.key]["0.8"]
    assert (ours(by_rate)["accept"], ours(by_rate)["accept_rate"]) == (accept, 0.8)
    assert ours(by_rate)["calibration"] == calibration.hash
    by_threshold = evaluate("specreason", {**pair, "accept": accept}, limit=3)
    assert texts(by_rate) == texts(by_threshold) and "accept_rate" not in ours(by_threshold)
    assert counts(by_rate)["rejected_steps"] == counts(by_threshold)["rejected_steps"]


def test_the_printed_summary(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    models = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu"]
    command = ["calibrate", *models, "--task", "s2t_arith", "--limit", "1", "--tau", "0.1", "--step_score"]
    cli.main([*command, "logprob", "--accept_rate", "0.5", "--out", str(tmp_path / "one.json")])
    *_, form, rate = capsys.readouterr().out.splitlines()
    [measured] = json.loads((tmp_path / "one.json").read_text())["data"]["steps"].values()
    assert form == f"  accept:logprob:line:512, {measured['drafts']} drafts"
    assert rate.startswith("    accept_rate 0.5: ") and rate.endswith(" %")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        (
            {"accept_rate": 0.8},
            r"^accept_rate=0\.8 needs calibration=FILE: .* `s2t-eval calibrate --step_s",
        ),
        (
            {"accept_rate": 0.8, "accept": 0.5},
            r"^accept_rate=0\.8: it chooses the threshold that accept=0\.5",
        ),
        ({"calibration": "x.json"}, r"^calibration=x\.json: it is used with accept_rate=RATE alone"),
        ({"accept_rate": 1}, r"^accept_rate: expected a rate between 0 and 1, got 1$"),
        (
            {"accept_rate": 0.8, "calibration": "no.json"},
            r"^calibration=no\.json: expected a file of `s2t",
        ),
    ],
)
def test_bad_arguments_get_one_clear_line(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecReason(STUDENT, **{"teacher": TEACHER, **model_args})


def test_what_the_file_does_not_hold_for_is_refused(made: Path, tmp_path: Path) -> None:
    given = {"teacher": TEACHER, "calibration": str(made), "score": "logprob", "delimiter": "sentence"}
    for change, message in (
        (
            {"accept_rate": 0.7},
            r"no threshold for accept_rate=0\.7 of logprob:sentence:512 \(it has .*0\.5, 0",
        ),
        (
            {"score": "expected"},
            r"of expected:sentence:512 .* --step_score expected --delimiter sentence",
        ),
        ({"max_step": 64}, r"of logprob:sentence:64 "),
        ({"teacher": str(tiny_folder(tmp_path / "other"))}, "it was made for another teacher"),
    ):
        with pytest.raises(CalibrationError, match=message):
            SpecReason(STUDENT, **{**given, "accept_rate": 0.8, **change})
    other = str(tiny_folder(tmp_path / "student", seed=1))
    with pytest.raises(CalibrationError, match="it was made for another student"):
        SpecReason(other, **given, accept_rate=0.8)


def test_other_prompts_are_refused_unless_allowed(made: Path) -> None:
    given = {"teacher": TEACHER, "calibration": str(made), "score": "logprob", "delimiter": "sentence"}
    with pytest.raises(CalibrationError, match="it was made with another prompt"):
        evaluate("specreason", {**given, "accept_rate": 0.8}, limit=1, apply_chat_template=True)
    allowed = {**given, "accept_rate": 0.8, "other_prompt": True}
    assert texts(evaluate("specreason", allowed, limit=1, apply_chat_template=True))


def test_a_score_needs_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--pretrained", STUDENT, "--task", "s2t_arith", "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit):
        cli.main(["calibrate", *given, "--step_score", "digit"])
    assert "--step_score digit: it is the teacher's score; give --teacher MODEL" in capsys.readouterr().err


def test_no_draft_with_content_is_an_error() -> None:
    with pytest.raises(ThresholdError, match="no draft has content"):
        acceptance_threshold([], 0.8)
