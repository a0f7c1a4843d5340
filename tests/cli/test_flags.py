"""Flags of our commands out of range or against each other: one line, exit code 2, nothing written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines.prompts import TrainingDataError, data_prompts
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.selector_training import train_selector
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from tests.commands import refused
from tests.harness_helpers import STUDENT, TEACHER, model, tokenizer
from tests.learning import collect_arguments, labels
from tests.learning import main as learning_main
from tests.report_helpers import EMBEDDED

# ---------------------------------------------------------------- commands


PAIR = ("--pretrained", STUDENT, "--device", "cpu")
TRAIN = ("train", *PAIR, "--labels", "gone", "--out", "OUT")
DISTIL = ("distil", *PAIR, "--teacher", TEACHER, "--labels", "gone", "--out", "OUT")
RLKD = ("rlkd", *PAIR, "--labels", "gone", "--out", "OUT")
COLLECT = ("collect", *PAIR, "--teacher", TEACHER, "--task", "s2t_arith", "--out", "OUT")
CALIBRATE = ("calibrate", *PAIR, "--task", "s2t_arith", "--out", "OUT")
TAH = ("tah", "train", *PAIR, "--labels", "gone", "--out", "OUT")
RESULTS = EMBEDDED / "greedy.json"
COMPARE = ("compare", RESULTS, RESULTS)
TEACHER_ARGS = f"pretrained={STUDENT},teacher={TEACHER}"
FILE = f"{TEACHER_ARGS},calibration={EMBEDDED / 'calibration.json'}"
SELECTOR = f"pretrained={STUDENT},selector=embedded/selector"
R2R = f"{TEACHER_ARGS},router=embedded/r2r"
SCAN = ("scan", "--model_args", "pretrained=a", "--tasks", "t", "--tau", "0.1", "--out", "OUT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--low_kl_fraction", "2"), "low_kl_fraction: expected a share from 0 to 1, got 2.0"),
        ((*TRAIN, "--num_candidates", "1"), "num_candidates: expected at least 2, got 1"),
        ((*TRAIN, "--top_k", "100"), "top_k: expected at most the 16 candidates of training"),
        ((*TRAIN, "--held_out", "0"), "held_out: expected a share above 0 and below 1, got 0.0"),
        ((*TRAIN, "--lr_warmup_fraction", "2"), "lr_warmup_fraction: expected a share from 0 to 1, got 2.0"),
        ((*TRAIN, "--clip", "-1"), "clip: expected a number above 0, got -1.0"),
        ((*TRAIN, "--alpha", "0"), "alpha: expected at least 1, got 0"),
        ((*TRAIN, "--lr", "nan"), "lr: expected a rate above 0, got nan"),
        ((*TRAIN, "--schedule", "cosin"), "schedule: expected one of linear, cosine"),
        ((*TRAIN, "--epochs", "two"), "--epochs: expected a whole number, got 'two'"),
        ((*TRAIN, "--log_with", "nonesuch"), "log_with: expected trackers of accelerate"),
        ((*TRAIN, "--device", "quux"), ": expected a folder of `s2t-eval collect`"),
        ((*DISTIL, "--until", "x"), "--until: the teacher generates texts for seqkd only, got method kd"),
        ((*DISTIL, "--method", "kd", "--rows", "4"), "--rows: the teacher generates texts for seqkd only"),
        ((*DISTIL, "--held_out", "0"), "held_out: expected a share above 0"),
        ((*DISTIL, "--dropout", "1"), "dropout: expected a share of at least 0 and below 1, got 1.0"),
        ((*DISTIL, "--method", "jsd", "--beta", "nan"), "beta: expected a number between 0 and 1"),
        ((*COLLECT, "--num_fewshot", "-1"), "--num_fewshot: expected at least 0, got -1"),
        ((*COLLECT, "--batch_size", "0"), "--batch_size: expected at least 1, got 0"),
        ((*COLLECT, "--max_gen_toks", "0"), "--max_gen_toks: expected at least 1, got 0"),
        ((*COLLECT, "--tau", "nan"), "--tau: expected a rate between 0 and 1, got nan"),
        ((*COLLECT, "--device", "cuda:99"), "device: expected a device of this machine"),
        ((*CALIBRATE, "--accept_rate", "0.7"), "accept_rate: a calibration without --step_score does"),
        ((*CALIBRATE, "--max_step", "64"), "max_step: a calibration without --step_score does not use it"),
        ((*TAH, "--stage", "1", "--max_depth", "99"), "max_depth: expected at most 8 passes a token, got 99"),
        ((*TAH, "--stage", "1", "--held_out", "1"), "held_out: expected a share above 0"),
        ((*TAH, "--stage", "1", "--alpha", "-1"), "alpha: expected at least 1, got -1"),
        ((*COMPARE, "--threshold", "nan"), "--threshold: expected points from 0 to 100, got nan"),
        ((*COMPARE, "--threshold", "-1"), "--threshold: expected points from 0 to 100, got -1.0"),
        ((*COMPARE, "--threshold", "inf"), "--threshold: expected points from 0 to 100, got inf"),
        ((*COMPARE, "--cost_threshold", "nan"), "--cost_threshold: expected 0 or more, got nan"),
        ((*COMPARE, "--cost_threshold", "inf"), "--cost_threshold: expected 0 or more, got inf"),
        ((*COMPARE, "--cost_threshold", "-1"), "--cost_threshold: expected 0 or more, got -1.0"),
        ((*COMPARE, "--alpha", "nan"), "--alpha: expected a probability between 0 and 1, got nan"),
        ((*COMPARE, "--alpha", "1"), "--alpha: expected a probability between 0 and 1, got 1.0"),
        ((*COMPARE, "--fail_on", "nothing", "cost"), "--fail_on: expected `nothing` alone"),
        ((*COMPARE, "--metric", "gsm9k=a,b"), "--metric: none of the runs is of task 'gsm9k'; there"),
        (("report", RESULTS, "--out", "OUT", "--texts", "-1"), "--texts: expected at least 0, got -1"),
        (("report", RESULTS, "--out", "OUT", "--student", "x=y"), "--student: no run is of model 'x'"),
        (("analyze", "--k", "99", "--out", "OUT"), "--k: it is of the error split, which needs --labels"),
        ((*SCAN, "--top_k", "0"), "--top_k: expected at least 1, got 0"),
        ((*SCAN, "--tau", "1.5"), "--tau: expected a rate above 0, at most 1 (every step), got 1.5"),
        ((*SCAN, "--model", "greedy"), "--model: expected one of s2t_local, pps_local, s2t, takeover, r2r"),
        ((*SCAN, "--model_args", "pretrained=a,foo"), "--model_args: expected name=value pairs without"),
        ((*SCAN, "--model_args", "calibraton=c"), "scan: --model s2t: unknown argument 'calibraton'"),
        ((*SCAN, "--model_args", "pretrained=a,trigger=random"), "scan: --model s2t: it needs teacher=MODEL"),
        ((*SCAN, "--model_args", "calibration=gone.json"), "calibration=gone.json: expected a file of"),
        ((*SCAN, "--tau", "0.02", "--model_args", FILE), "trigger kl:student_teacher at tau=0.02 (it has"),
        ((*SCAN, "--tau", "0.05", "--model_args", f"{FILE},warmup_tokens=3"), "warmup_tokens (expected 0, g"),
        ((*SCAN, "--model", "pps_local", "--tau", "0.03", "--model_args", SELECTOR), "trigger at tau=0.03 ("),
        ((*SCAN, "--model", "r2r", "--tau", "0.03", "--model_args", R2R), "trigger router at tau=0.03 (it h"),
        ((*SCAN, "--", "--model", "greedy"), "--model: the scan gives it to every point itself; leave"),
        ((*TAH, "--stage", "1", "--width", "8"), "--width: it belongs to stage 2, this is 1"),
        ((*TAH, "--stage", "2", "--rank", "8"), "--rank: it belongs to stage 1, this is 2"),
        ((*RLKD, "--group_size", "1"), "group_size: expected at least 2, got 1"),
        ((*RLKD, "--clip_range", "1"), "clip_range: expected a share above 0 and below 1, got 1.0"),
        ((*RLKD, "--structurer", "gsrm"), "--structurer: expected one of rule, llm, got 'gsrm'"),
        ((*RLKD, "--aligner", "llm"), "--teacher: the structurer and the aligner llm prompt the teacher"),
        ((*RLKD, "--teacher_dtype", "float32"), "--teacher_dtype: it belongs to --teacher, which is not"),
        ((*RLKD, "--dropout", "0.1"), "dropout: expected 0, got 0.1; the probabilities of a text before"),
        ((*RLKD, "--structure_weight", "0", "--correctness_weight", "0"), "structure_weight: expected a num"),
        ((*RLKD, "--structure_weight", "0", "--aggregate", "sum"), "aggregate: expected mean beside struc"),
        ((*RLKD, "--unverified"), "unverified: it keeps problems whose teacher's text has a wrong answ"),
        ((*RLKD, "--labels", "gone"), "expected a folder of `s2t-eval collect`"),
        ((*DISTIL, "--full", "--rank", "8"), "--full: it trains all weights and has no rank"),
    ],
)  # fmt: skip
def test_values_out_of_their_range_or_place_are_refused(
    arguments: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [tmp_path / "out" if argument == "OUT" else argument for argument in arguments]
    assert message in refused(capsys, *given)
    assert list(tmp_path.iterdir()) == []


def test_scan_names_what_is_no_pair(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It said "got []"."""
    given = ("--model_args", "pretrained=a,foo", "--tasks", "t", "--tau", 0.1, "--out", tmp_path / "out")
    assert "got ['foo']" in refused(capsys, "scan", *given)


def test_examples_belong_to_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (*PAIR, "--data", "x.jsonl", "--num_fewshot", 2, "--out", tmp_path / "out.json")
    assert "--num_fewshot: a task's examples are shown with --task alone" in refused(
        capsys, "calibrate", *given
    )


def test_texts_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("label", *PAIR, "--texts", "x", "--limit", 3, "--out", tmp_path / "out")
    assert "--limit: the texts of --texts are taken as they are" in refused(capsys, "tah", *given)


# ---------------------------------------------------------------- what only the labels and problems show


def test_more_problems_skipped_than_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It said that all 0 problems are evaluation problems."""
    given = collect_arguments(tmp_path / "out", 4, "--skip", "100000000")
    with pytest.raises(SystemExit) as caught:
        learning_main(given)
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "s2t-eval collect: --task s2t_arith: --skip 100000000 leaves none of its 4000 problems; skip fewer"
    )
    data = tmp_path / "mine.jsonl"
    data.write_text('{"question": "How many?"}\n' * 3)
    with pytest.raises(TrainingDataError, match=r"--skip 3 leaves none of its 3 problems; skip fewer$"):
        data_prompts(Greedy(STUDENT), str(data), 2, Prompting(), skip=3)


def test_more_candidates_than_the_labels_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`analyze --k 99` left the line out without a word."""
    folder = labels()
    capsys.readouterr()
    line = refused(capsys, "analyze", "--labels", folder, "--k", 8, 99, "--out", tmp_path / "out")
    assert line == "s2t-eval analyze: --k: expected at most the 16 candidates a step of the labels, got 99"
    assert list(tmp_path.iterdir()) == []


def test_quiet_steps_need_labels_at_every_step(tmp_path: Path) -> None:
    found = LabelSet.load(labels())
    top = LabelSet(replace(found.manifest, steps="top"), found.trajectories)
    manifest = top.manifest
    who = Student(model(STUDENT), "student", manifest.student, manifest.vocabulary, len(tokenizer()))
    with pytest.raises(ValueError, match=r"^low_kl_fraction: expected 0 for labels .* got 0\.5;"):
        train_selector(
            who, top, SelectorSettings(), LoopSettings(), TrainSettings(low_kl_fraction=0.5), tmp_path / "out"
        )
