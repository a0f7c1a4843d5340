"""Every setting's range and every conflict of two settings: refused where it is given, in one line."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.cli import main
from s2t_eval.model_wrappers.arguments import (
    LocalArguments,
    SamplingArguments,
    SelectionArguments,
    context_of,
    one_of_each,
    require_stock,
)
from s2t_eval.model_wrappers.collect import Collection, Source
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.problems import Prompting
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal, S2TLocal
from s2t_eval.model_wrappers.tah import TahArguments
from s2t_eval.ranges import PART, POSITIVE, SHARE, whole
from s2t_eval.tah.settings import DeciderSettings, LoopedSettings
from s2t_eval.tah.train import DecisionSettings, DepthSettings
from s2t_eval.training.distil.model import Adapter
from s2t_eval.training.distil.run import DistilSettings
from s2t_eval.training.loop import LoopSettings
from s2t_eval.training.selector_model import SelectorSettings
from s2t_eval.training.train import TrainSettings
from tests.harness_helpers import STUDENT, TEACHER, evaluate, model, texts, tiny_folder
from tests.report_helpers import EMBEDDED

NAN, INF, HUGE = math.nan, math.inf, 10**400

# ---------------------------------------------------------------- dataclasses

COUNTS = (0, -1, 1.5, True, NAN, "2")
SHARES_PART = (0, 1, -0.1, 1.1, NAN, INF, True, "0.1")
SETTINGS: list[tuple[type, dict[str, tuple[Any, ...]]]] = [
    (
        LoopSettings,
        {
            "epochs": COUNTS,
            "batch_size": COUNTS,
            "accumulate": COUNTS,
            "evaluations": COUNTS,
            "lr": (0, -1e-3, NAN, INF, "fast"),
            "schedule": ("cosin", "", "reduce_lr_on_plateau", 3),
            "warmup": (2, -0.1, NAN, "0.1"),
            "weight_decay": (-0.1, NAN, INF),
            "clip": (-1, 0, NAN, INF),
            "patience": (-1, 0.5),
            "precision": ("fp8", "", None, 16),
            "seed": (-1, 0.5, 2**63),
            "log_with": (("nonesuch",), ("",)),
        },
    ),
    (
        SelectorSettings,
        {
            "bins": (1, 0, -3, 2.5),
            "temperature": (0, -1, NAN, INF),
            "beta": (-0.1, NAN, INF),
            "rank": COUNTS,
            "alpha": COUNTS,
            "dropout": (1, -0.1, NAN, 2),
        },
    ),
    (
        TrainSettings,
        {
            "num_candidates": (1, 0, -3, 2.5, True),
            "top_k": (1, 0, 17, 100, 2.5),
            "quiet": (2, -0.1, NAN),
            "held_out": SHARES_PART,
        },
    ),
    (Adapter, {"rank": COUNTS, "alpha": COUNTS, "dropout": (1, -0.1, NAN)}),
    (
        DistilSettings,
        {
            "method": ("kdd", "", None),
            "temperature": (0, -1, NAN, INF),
            "held_out": SHARES_PART,
            "rows": COUNTS,
            "limit": COUNTS,
            "until": (("x",), ("",)),
            "beta": (0.5,),
        },
    ),
    (
        LoopedSettings,
        {
            "max_depth": (0, 99, 9, True, 1.5),
            "top_n": COUNTS,
            "rank": COUNTS,
            "alpha": COUNTS,
            "dropout": (1, -0.1, NAN),
        },
    ),
    (DeciderSettings, {"width": COUNTS, "blocks": COUNTS, "dropout": (1, NAN), "layers": ((1, 1),)}),
    (DepthSettings, {"easy": (-0.1, 1.1, NAN), "held_out": SHARES_PART, "checked": COUNTS}),
    (
        DecisionSettings,
        {
            "positive_weight": (0, -1, NAN, INF),
            "held_out": SHARES_PART,
            "checked": COUNTS,
            "threshold": (-0.1, 1.1, NAN, True, "0.5"),
            "decoding_threshold": (-0.1, 1.1, NAN),
        },
    ),
    (Prompting, {"num_fewshot": (-1, 1.5), "max_gen_toks": (0, -1, 1.5)}),
    (Collection, {"tau": (0, 1, NAN, -0.1), "steps": ("some", "")}),
    (
        SamplingArguments,
        {
            "num_samples": COUNTS,
            "temperature": (0, -1, NAN, INF, "hot"),
            "top_p": (0, 1.5, NAN, "most"),
            "sample_top_k": (-1, 1.5, True),
            "seed": (-1, 0.5, "x", 2**63),
            "trace": ("", 5, True),
        },
    ),
    (TahArguments, {"threshold": (-0.1, 1.1, NAN), "max_depth": (0, 99, 1.5)}),
]


@pytest.mark.parametrize(("kind", "wrong"), SETTINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_field_has_a_range(kind: type, wrong: dict[str, tuple[Any, ...]]) -> None:
    kind()
    assert set(wrong) <= {item.name for item in fields(kind)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}: ") as caught:
                kind(**{name: value})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        (LoopSettings, {"warmup": 0, "patience": 3, "weight_decay": 0.0, "precision": "bf16", "clip": 1}),
        (LoopSettings, {"schedule": "constant", "warmup": 1.0, "seed": 2**63 - 1}),
        (TrainSettings, {"num_candidates": 2, "top_k": 2, "quiet": 1.0, "held_out": 0.001}),
        (SelectorSettings, {"beta": 0.0, "dropout": 0.0, "bins": 2, "temperature": 0.01}),
        (LoopedSettings, {"max_depth": 8, "top_n": 5000}),
        (DistilSettings, {"method": "jsd", "beta": 0.5}),
        (DistilSettings, {"method": "seqkd", "until": ("\n\n",), "rows": 1}),
        (DecisionSettings, {"threshold": 0, "decoding_threshold": 1}),
    ],
)
def test_ends_of_the_ranges_are_taken(kind: type, right: dict[str, Any]) -> None:
    kind(**right)


def test_problems_need_a_number_and_a_beginning() -> None:
    for wrong in ({"limit": 0}, {"limit": -5}, {"limit": 1, "skip": -1}):
        with pytest.raises(ValueError, match=r"^(limit|skip): expected at least"):
            Source("s2t_arith", None, **wrong)


def test_more_candidates_in_decoding_than_in_training() -> None:
    """`--top_k 100` became 16 without a word."""
    with pytest.raises(ValueError, match=r"^top_k: expected at most the 4 candidates of training .* got 8$"):
        TrainSettings(num_candidates=4)


def test_reverse_has_something_to_reverse() -> None:
    with pytest.raises(ValueError, match=r"^reverse: with beta 0 there is no regularizer"):
        SelectorSettings(beta=0.0, reverse=True)


@pytest.mark.parametrize("value", [NAN, INF, -INF, True, None, "1", HUGE, [1], 1 + 0j])
def test_what_is_never_in_a_range(value: object) -> None:
    assert not any(allowed.holds(value) for allowed in (SHARE, PART, whole(1, 16)))
    assert not POSITIVE.holds(value) or value == HUGE


# ---------------------------------------------------------------- model arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trigger": "always", "threshold": 3}, "trigger=always does not depend on threshold, got thres"),
        ({"trigger": "always", "tau": 0.5}, "trigger=always does not depend on tau, got tau=0.5"),
        ({"trigger": "never", "tau": 0.5}, "trigger=never does not depend on tau"),
        ({"trigger": "never", "tau": 1}, "trigger=never does not depend on tau"),
        ({"trigger": "never", "threshold": 0}, "trigger=never does not depend on threshold"),
        ({"trigger": "random", "threshold": 5}, "threshold of trigger=random: expected a share from 0"),
        ({"trigger": "random", "threshold": -1}, "threshold of trigger=random: expected a share from 0"),
        ({"trigger": "random", "threshold": INF}, "threshold of trigger=random: expected a share from"),
        ({"trigger": "margin", "threshold": 1.5}, "threshold of trigger=margin: expected a share from 0"),
        ({"trigger": "kl", "threshold": -0.5}, "threshold of trigger=kl: expected a divergence of 0 or"),
        ({"trigger": "entropy", "threshold": -1}, "threshold of trigger=entropy: expected an entropy"),
        ({"trigger": "entropy", "threshold": 1, "kl_direction": "teacher_student"}, "kl_direction: trigg"),
        ({"threshold": 1, "calibration": "c.json"}, "calibration=c.json: nothing is read from it beside"),
        ({"threshold": 1, "teacher_device": "cuda:9"}, "teacher_device: expected a device of this machine"),
        ({"threshold": 1, "teacher_device": "quux"}, "teacher_device: expected a device of this machine"),
    ],
)  # fmt: skip
def test_arguments_that_say_two_things(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}"):
        SelectionArguments(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"trigger": "always"},
        {"trigger": "always", "tau": 1},
        {"trigger": "never"},
        {"trigger": "random", "tau": 0.1},
        {"trigger": "random", "threshold": 0.9},
        {"trigger": "kl", "threshold": INF},
        {"trigger": "entropy", "threshold": 0},
        {"tau": 1, "calibration": "c.json"},
        {"threshold": 1, "kl_direction": "teacher_student"},
        {"threshold": 1, "teacher_device": "cpu"},
    ],
)
def test_arguments_that_agree(given: dict[str, Any]) -> None:
    SelectionArguments(**given)


def test_a_teacher_s_arguments_need_a_teacher() -> None:
    for name, value in (("teacher_dtype", "float32"), ("teacher_device", "cpu")):
        with pytest.raises(ValueError, match=rf"^{name}: there is no teacher it could hold for"):
            LocalArguments(selector="x", **{name: value})


@pytest.mark.parametrize("backend", [S2TLocal, PPSLocal])
def test_a_local_backend_names_itself(backend: type[S2TLocal]) -> None:
    """`pps_local` spoke of `s2t_local`."""
    with pytest.raises(ValueError, match=rf"^--model {backend.METHOD}: it needs selector=FOLDER"):
        backend(STUDENT, selector=None)
    with pytest.raises(ValueError, match=rf"^--model {backend.METHOD}: unknown argument 'selektor'"):
        backend(STUDENT, selektor="x")


def test_an_oracle_has_no_threshold() -> None:
    with pytest.raises(ValueError, match=r"^threshold: an oracle decides in the decider's place"):
        TahArguments(tah="x", oracle="trace.jsonl", threshold=0.5)


@pytest.mark.parametrize(
    ("stock", "message"),
    [
        ({"batch_size": 0}, r"^batch_size: expected a whole number of at least 1, or auto, got 0$"),
        ({"batch_size": "0"}, r"^batch_size: .* got '0'$"),
        ({"batch_size": -3}, r"^batch_size: .* got -3$"),
        ({"batch_size": "auto:x"}, r"^batch_size: .* got 'auto:x'$"),
        ({"batch_size": "many"}, r"^batch_size: .* got 'many'$"),
        ({"batch_size": 1.5}, r"^batch_size: .* got 1\.5$"),
        ({"max_batch_size": 0}, r"^max_batch_size: expected a whole number of at least 1, got 0$"),
        ({"device": "quux"}, r"^device: expected a device of this machine \(cpu.*\), got 'quux'$"),
        ({"device": "cuda:99"}, r"^device: expected a device of this machine"),
        ({"device": 0}, r"^device: expected a device of this machine"),
        ({"max_length": 0}, r"^max_length: expected a whole number of at least 1, got 0$"),
    ],
)  # fmt: skip
def test_stock_arguments_are_refused_before_anything_is_loaded(stock: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Greedy("/no/folder", **stock)


def test_stock_arguments_that_are_right() -> None:
    for stock in ({"batch_size": "auto"}, {"batch_size": "auto:4"}, {"batch_size": "8"}, {"device": "cpu"}):
        require_stock(stock)


def test_max_length_above_the_model_s(tmp_path: Path) -> None:
    message = r"^max_length: expected at most the model's context of 1024 tokens, got 100000$"
    with pytest.raises(ValueError, match=message):
        Greedy(STUDENT, max_length=100000)
    Greedy(STUDENT, max_length=1024)
    short = tiny_folder(tmp_path / "short", max_position_embeddings=128)
    message = r"^max_length: expected at most the teacher's context of 128 tokens, got 512$"
    with pytest.raises(ValueError, match=message):
        SelectToThink(STUDENT, teacher=str(short), threshold=1, max_length=512)


def test_scaled_positions_count() -> None:
    config = model(STUDENT).config
    before = config.rope_parameters
    try:
        config.rope_parameters = {**before, "rope_type": "yarn", "factor": 4.0}
        assert context_of(config) == 4096
        config.rope_parameters = {**before, "factor": 8.0, "original_max_position_embeddings": 64}
        assert context_of(config) == 1024
    finally:
        config.rope_parameters = before
    assert context_of(config) == 1024


@pytest.mark.parametrize("device", [None, "cpu"])
def test_device_among_the_model_arguments(device: str | None) -> None:
    """The harness handed both over, which was a TypeError."""
    arguments = f"pretrained={STUDENT},device=cpu,batch_size=2"
    found = evaluate("greedy", arguments, limit=2, batch_size=1, device=device)
    assert texts(found) == texts(evaluate("greedy", limit=2))


def test_flags_and_arguments_that_differ() -> None:
    with pytest.raises(ValueError, match=r"^device: --device cuda and device=cpu of --model_args differ"):
        one_of_each({"device": "cpu"}, {"device": "cuda", "batch_size": 1})
    with pytest.raises(ValueError, match=r"^batch_size: --batch_size 4 and batch_size=2 of"):
        one_of_each({"batch_size": 2}, {"batch_size": 4})
    assert one_of_each({"batch_size": 2}, {"batch_size": 1, "device": None}) == {}


def test_the_harness_s_own_default_is_no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval's command hands over cuda:0 where nobody said so; stock takes the CPU then, and so do we."""
    monkeypatch.setattr("sys.argv", ["lm_eval", "--model", "greedy"])
    monkeypatch.setattr("s2t_eval.model_wrappers.arguments.devices", lambda: ["cpu"])
    assert one_of_each({}, {"device": "cuda:0"}) == {}
    assert one_of_each({"device": "cpu"}, {"device": "cuda:0"}) == {}
    monkeypatch.setattr("s2t_eval.model_wrappers.arguments.devices", lambda: ["cpu", "cuda", "cuda:0"])
    assert one_of_each({}, {"device": "cuda:0"}) == {"device": "cuda:0"}
    assert one_of_each({"device": "cpu"}, {"device": "cuda:0"}) == {}
    for given in (["--device", "cuda:0"], ["--device=cuda:0"]):
        monkeypatch.setattr("sys.argv", ["lm_eval", *given])
        assert one_of_each({}, {"device": "cuda:0"}) == {"device": "cuda:0"}


def test_an_embedded_adapter_is_found_as_distil_finds_it() -> None:
    lm = Greedy(STUDENT, peft="embedded/distilled")
    assert lm.student_fingerprint != Greedy(STUDENT).student_fingerprint
    with pytest.raises(ValueError, match=r"unknown embedded model 'embedded/distiled'"):
        Greedy(STUDENT, peft="embedded/distiled")


# ---------------------------------------------------------------- commands


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command ends in, with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line


PAIR = ("--pretrained", STUDENT, "--device", "cpu")
TRAIN = ("train", *PAIR, "--labels", "gone", "--out", "OUT")
DISTIL = ("distil", *PAIR, "--teacher", TEACHER, "--labels", "gone", "--out", "OUT")
COLLECT = ("collect", *PAIR, "--teacher", TEACHER, "--task", "s2t_arith", "--out", "OUT")
TAH = ("tah", "train", *PAIR, "--labels", "gone", "--out", "OUT")
RESULTS = EMBEDDED / "greedy.json"
COMPARE = ("compare", RESULTS, RESULTS)
SCAN = ("scan", "--model_args", "pretrained=a", "--tasks", "t", "--tau", "0.1", "--out", "OUT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--quiet", "2"), "quiet: expected a share from 0 to 1, got 2.0"),
        ((*TRAIN, "--num_candidates", "1"), "num_candidates: expected at least 2, got 1"),
        ((*TRAIN, "--top_k", "100"), "top_k: expected at most the 16 candidates of training"),
        ((*TRAIN, "--held_out", "0"), "held_out: expected a share above 0 and below 1, got 0.0"),
        ((*TRAIN, "--warmup", "2"), "warmup: expected a share from 0 to 1, got 2.0"),
        ((*TRAIN, "--clip", "-1"), "clip: expected a number above 0, got -1.0"),
        ((*TRAIN, "--alpha", "0"), "alpha: expected at least 1, got 0"),
        ((*TRAIN, "--lr", "nan"), "lr: expected a rate above 0, got nan"),
        ((*TRAIN, "--schedule", "cosin"), "schedule: expected one of linear, cosine"),
        ((*TRAIN, "--epochs", "two"), "--epochs: invalid int value: 'two'"),
        ((*TRAIN, "--log_with", "nonesuch"), "log_with: expected trackers of accelerate"),
        ((*TRAIN, "--device", "quux"), "labels: expected a folder of `s2t-eval collect`"),
        ((*DISTIL, "--until", "x"), "until: only seqkd has the teacher write texts"),
        ((*DISTIL, "--method", "kd", "--rows", "4"), "--rows: only seqkd has the teacher write texts"),
        ((*DISTIL, "--held_out", "0"), "held_out: expected a share above 0"),
        ((*DISTIL, "--dropout", "1"), "dropout: expected a share of at least 0 and below 1, got 1.0"),
        ((*DISTIL, "--method", "jsd", "--beta", "nan"), "beta: expected a number between 0 and 1"),
        ((*COLLECT, "--num_fewshot", "-1"), "--num_fewshot: expected at least 0, got -1"),
        ((*COLLECT, "--batch_size", "0"), "--batch_size: expected at least 1, got 0"),
        ((*COLLECT, "--max_gen_toks", "0"), "--max_gen_toks: expected at least 1, got 0"),
        ((*COLLECT, "--tau", "nan"), "--tau: expected a rate between 0 and 1, got nan"),
        ((*COLLECT, "--device", "cuda:99"), "device: expected a device of this machine"),
        ((*TAH, "--stage", "1", "--max_depth", "99"), "max_depth: expected at most 8 passes a token, got 99"),
        ((*TAH, "--stage", "1", "--held_out", "1"), "held_out: expected a share above 0"),
        ((*TAH, "--stage", "1", "--alpha", "-1"), "alpha: expected at least 1, got -1"),
        ((*COMPARE, "--threshold", "nan"), "--threshold: expected points from 0 to 100, got nan"),
        ((*COMPARE, "--threshold", "-1"), "--threshold: expected points from 0 to 100, got -1.0"),
        ((*COMPARE, "--threshold", "inf"), "--threshold: expected points from 0 to 100, got inf"),
        ((*COMPARE, "--cost-threshold", "nan"), "--cost-threshold: expected 0 or more, got nan"),
        ((*COMPARE, "--cost-threshold", "inf"), "--cost-threshold: expected 0 or more, got inf"),
        ((*COMPARE, "--cost-threshold", "-1"), "--cost-threshold: expected 0 or more, got -1.0"),
        ((*COMPARE, "--alpha", "nan"), "--alpha: expected a probability between 0 and 1, got nan"),
        ((*COMPARE, "--alpha", "1"), "--alpha: expected a probability between 0 and 1, got 1.0"),
        ((*COMPARE, "--fail-on", "nothing", "cost"), "--fail-on: expected `nothing` alone"),
        ((*COMPARE, "--metric", "gsm9k=a,b"), "--metric: no run of task 'gsm9k' is given; there are s2t_ari"),
        (("report", RESULTS, "--out", "OUT", "--texts", "-1"), "--texts: expected at least 0, got -1"),
        (("report", RESULTS, "--out", "OUT", "--student", "x=y"), "--student: no run is of model 'x'"),
        (("analyze", "--k", "99", "--out", "OUT"), "--k: it is of the error split, which needs --labels"),
        ((*SCAN, "--top_k", "0"), "--top_k: expected at least 1, got 0"),
        ((*SCAN, "--tau", "1.5"), "--tau: expected a rate above 0, at most 1 (every step), got 1.5"),
        ((*SCAN, "--model", "greedy"), "--model: invalid choice: 'greedy'"),
        ((*SCAN, "--model_args", "pretrained=a,foo"), "--model_args: expected name=value pairs without"),
        (("nonesuch",), "command: invalid choice: 'nonesuch'"),
    ],
)  # fmt: skip
def test_flags(
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
