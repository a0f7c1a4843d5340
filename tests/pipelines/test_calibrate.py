"""`s2t-eval calibrate`: thresholds that fire at the wanted rate, and problems that it refuses."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from lm_eval.tasks import TaskManager
from torch import Tensor

from s2t_eval import cli
from s2t_eval.embedded.arith import make_split
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.calibrate import measured_keys
from s2t_eval.pipelines.kept_thresholds import require_same_subject, require_thresholds_kept
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import (
    TrainingDataError,
    data_prompts,
    require_training_problems,
    task_prompts,
)
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.thresholds import quantile_thresholds
from s2t_eval.training.contamination import OverlapError
from s2t_eval.training.label_collection import CollectionFolder
from tests.forked import run_forked
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    generate,
    inline_task,
    logits_after,
    model,
    ours,
    shared_data,
    task_manager,
    tokenizer,
)

pytestmark = pytest.mark.usefixtures("small_task_index")

PROBLEMS = 4
TAUS = (0.05, 0.2)
LOCAL = {"entropy", "entropy64", "margin", "line_entropy", "position"}
TRIGGERS = {"kl:student_teacher", "kl:teacher_student", *LOCAL}


def calibrate(*arguments: str | Path, teacher: bool = True) -> None:
    models = ["--pretrained", STUDENT, *(["--teacher", TEACHER] if teacher else [])]
    cli.main(["calibrate", *models, *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "arith.json"
    taus = ["--tau", *map(str, TAUS)]
    calibrate("--task", "s2t_arith", "--limit", str(PROBLEMS), "--out", path, *taus)
    return path


# ---------------------------------------------------------------- what it measures


def test_file_says_what_it_holds_for(made: Path) -> None:
    content = json.loads(made.read_text())
    assert content["format"] == 1
    assert content["thresholds"].keys() == TRIGGERS
    assert sorted(content["thresholds"]) == sorted(measured_keys(has_teacher=True))
    assert all(rates.keys() == {"0.05", "0.2"} for rates in content["thresholds"].values())
    assert content["num_texts"] == PROBLEMS
    assert content["data"]["source"] == "s2t_arith"
    assert content["data"]["split"] == "train"
    assert content["prompt"]["max_gen_toks"] == 96
    lm = SelectToThink(STUDENT, teacher=TEACHER, trigger="never")
    assert content["student"] == lm.student_fingerprint
    assert content["teacher"] == lm.teacher_fingerprint


@pytest.mark.parametrize(
    ("taus", "warmup_tokens", "said"),
    [
        ((0.2, 0.05, 0.01), 0, None),
        ((0.05,), 0, r"would be lost \(entropy: 0\.2; entropy64: 0\.2; .*measure these too"),
        ((0.05, 0.2), 2, "for warmup_tokens=0 and would be replaced, got 2"),
    ],
)
def test_a_file_keeps_the_thresholds_that_it_has(
    made: Path, taus: tuple[float, ...], warmup_tokens: int, said: str | None
) -> None:
    """`calibrate --tau 0.02 --out c.json`, as a message had advised, replaced the file and all its rates."""
    existing = Calibration.load(made)
    measured = dict.fromkeys(TRIGGERS, taus)
    with nullcontext() if said is None else pytest.raises(ValueError, match=said):
        require_thresholds_kept(made, existing, measured, warmup_tokens)
    same = {"student": existing.student, "teacher": existing.teacher, "prompt": existing.prompt}
    require_same_subject(made, existing, **same)
    for change in ({"student": "0" * 16}, {"teacher": None}, {"prompt": {"num_fewshot": 3}}):
        with pytest.raises(ValueError, match=f"measured with another {next(iter(change))} "):
            require_same_subject(made, existing, **{**same, **change})


def slow_divergences() -> dict[str, list[float]]:
    """Every step of `generate`'s greedy texts of the training problems, prefix by prefix."""
    task = task_manager().load(["s2t_arith"])["tasks"]["s2t_arith"]
    divergences: dict[str, list[float]] = {name: [] for name in sorted(TRIGGERS)}
    for doc, _ in zip(task.training_docs(), range(PROBLEMS), strict=False):
        prompt = tokenizer()(f"Question: {doc['question']}\nAnswer:")["input_ids"]
        output = generate(model(STUDENT), prompt, 96)
        for t in range(len(output)):
            student = logits_after(model(STUDENT), prompt + output[:t])
            teacher = logits_after(model(TEACHER), prompt + output[:t])
            p = student.softmax(-1)
            divergences["entropy"].append(float(-(p * p.log()).sum()))
            likely = p.topk(64).values
            rest = 1 - likely.sum()
            divergences["entropy64"].append(float(-(likely * likely.log()).sum() - rest * rest.log()))
            begins = t == 0 or tokenizer().decode(output[t - 1]).endswith("\n")
            divergences["line_entropy"].append(divergences["entropy"][-1] if begins else 0.0)
            divergences["position"].append(1 / (t + 1))
            first, second = p.topk(2).values.tolist()
            divergences["margin"].append(1 - (first - second))
            support = student.topk(64).indices
            p, q = student[support].softmax(-1), teacher[support].softmax(-1)
            divergences["kl:student_teacher"].append(float((p * (p / q).log()).sum()))
            divergences["kl:teacher_student"].append(float((q * (q / p).log()).sum()))
    return divergences


def test_thresholds_are_quantiles_of_the_slow_twin(made: Path) -> None:
    calibration = Calibration.load(made)
    for name, values in slow_divergences().items():
        assert calibration.num_steps == len(values)
        for tau in TAUS:
            expected = float(np.quantile(values, 1 - tau))
            assert calibration.thresholds[name][str(tau)] == pytest.approx(expected, abs=2e-4)


def test_quantiles_leave_the_wanted_share_above_them() -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)).pow(5).tolist()
    for tau, threshold in quantile_thresholds(values, (0.01, 0.1, 0.5)).items():
        above = sum(value > threshold for value in values)
        assert above == pytest.approx(float(tau) * 1000, abs=1)


@pytest.mark.parametrize(
    ("trigger", "tau"), [("kl", TAUS[0]), ("kl", TAUS[1]), ("entropy", TAUS[1]), ("margin", TAUS[1])]
)
def test_rate_on_the_calibrated_problems_is_the_wanted_one(trigger: str, tau: float, made: Path) -> None:
    """With one candidate the text stays greedy, so its steps are those that were measured."""
    lm = SelectToThink(
        STUDENT, teacher=TEACHER, trigger=trigger, tau=tau, calibration=str(made), top_k=1, batch_size=8
    )
    lm.generate_until(task_prompts(lm, "s2t_arith", PROBLEMS, Prompting()).instances)
    report = lm.telemetry.report()
    assert report["tokens"] == Calibration.load(made).num_steps
    assert report["triggers"] == pytest.approx(tau * report["tokens"], abs=1)


def test_s2t_runs_at_the_calibrated_threshold(made: Path) -> None:
    model_args = {"teacher": TEACHER, "tau": 0.05, "calibration": str(made)}
    results = evaluate("s2t", model_args)
    calibration = Calibration.load(made)
    entry = ours(results)
    assert entry["calibration"] == calibration.hash
    assert entry["tau"] == 0.05
    assert entry["policy"]["threshold"] == calibration.thresholds["kl:student_teacher"]["0.05"]
    assert 0.01 < counts(results)["realised_rate"] < 0.2


def test_without_a_teacher_local_triggers_alone(tmp_path: Path) -> None:
    out = tmp_path / "local.json"
    calibrate("--task", "s2t_arith", "--limit", "2", "--out", out, teacher=False)
    calibration = Calibration.load(out)
    assert calibration.thresholds.keys() == LOCAL
    assert calibration.teacher is None
    model_args = {"teacher": TEACHER, "trigger": "entropy", "tau": 0.1, "calibration": str(out)}
    assert counts(evaluate("s2t", model_args, limit=2))["triggers"] > 0


def test_warmup_is_left_out_and_must_be_the_same(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "late.json"
    calibrate(
        "--task", "s2t_arith", "--limit", PROBLEMS, "--out", out, "--warmup_tokens", "5", "--tau", "0.2"
    )  # fmt: skip
    assert Calibration.load(out).num_steps == Calibration.load(made).num_steps - 5 * PROBLEMS
    model_args = {"teacher": TEACHER, "tau": 0.2, "calibration": str(out)}
    with pytest.raises(
        ValueError, match=r"^calibration: it was made for another warmup_tokens \(expected 5, got 0\)"
    ):
        evaluate("s2t", model_args)
    assert ours(evaluate("s2t", {**model_args, "warmup_tokens": 5}, limit=1))["policy"]["warmup"] == 5


def test_same_run_writes_the_same_file(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.json"
    taus = ["--tau", *map(str, TAUS)]
    calibrate("--task", "s2t_arith", "--limit", PROBLEMS, "--out", out, *taus, "--batch_size", "2")
    first, repeated = Calibration.load(made), Calibration.load(out)
    assert repeated.data == first.data
    assert repeated.num_steps == first.num_steps
    for name, rates in first.thresholds.items():
        assert repeated.thresholds[name] == pytest.approx(rates, abs=1e-4)


def test_an_interrupted_calibration_goes_on_with_the_texts_that_it_lacks(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept nothing until its end: interrupted at the last of 500 problems, it began at the first."""
    out, taus = tmp_path / "again.json", ["--tau", *map(str, TAUS)]
    arguments = ["--task", "s2t_arith", "--limit", PROBLEMS, "--out", out, *taus]
    save, texts = CollectionFolder.save, tmp_path / "again.json.unfinished" / "work" / "divergences"

    def save_three(self: CollectionFolder, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        if len(list(texts.iterdir())) == 3:
            raise KeyboardInterrupt
        save(self, kind, index, tensors)

    with monkeypatch.context() as patched:
        patched.setattr(CollectionFolder, "save", save_three)
        with pytest.raises(SystemExit, match=r"^130$"):
            calibrate(*arguments)
    assert not out.exists()
    kept = {path.name for path in texts.iterdir()}
    assert len(kept) == 3
    generated: list[int] = []

    def save_and_note(self: CollectionFolder, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        generated.append(index)
        save(self, kind, index, tensors)

    monkeypatch.setattr(CollectionFolder, "save", save_and_note)
    calibrate(*arguments)
    assert len(generated) == 1 and f"{generated[0]:06d}.safetensors" not in kept
    first, resumed = Calibration.load(made), Calibration.load(out)
    assert (resumed.data, resumed.num_steps) == (first.data, first.num_steps)
    for name, rates in first.thresholds.items():
        assert resumed.thresholds[name] == pytest.approx(rates, abs=1e-4)
    assert list(tmp_path.iterdir()) == [out]


def test_printed_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    calibrate("--task", "s2t_arith", "--limit", "1", "--out", out, "--tau", "0.1", teacher=False)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{out}: {Calibration.load(out).num_steps} steps of 1 problems, thresholds"
    assert [line.split()[0] for line in rest] == [
        "entropy",
        "entropy64",
        "margin",
        "line_entropy",
        "position",
    ]


# ---------------------------------------------------------------- data of one's own


def lines_file(path: Path, *records: Any) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.mark.parametrize("field", ["question", "problem", "prompt"])
def test_json_lines(field: str, tmp_path: Path) -> None:
    data = lines_file(tmp_path / "mine.jsonl", *({field: doc["question"]} for doc in arith_docs(3)))
    out = tmp_path / "out.json"
    calibrate(
        "--data", data, "--out", out, "--max_gen_toks", "12", "--limit", "2", "--tau", "0.5",
        "--apply_chat_template", "--system_instruction", "Think.", teacher=False,
    )  # fmt: skip
    calibration = Calibration.load(out)
    assert calibration.num_texts == 2
    assert calibration.num_steps <= 24
    assert calibration.data["source"] == "mine.jsonl"
    assert calibration.prompt == {
        "system_instruction": "Think.",
        "apply_chat_template": True,
        "num_fewshot": 0,
        "max_gen_toks": 12,
    }


GOOD = '{"question": "How many?"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + "{broken\n", r"bad.jsonl, line 2: expected one JSON object, got '{broken'"),
        (GOOD + GOOD + "[1, 2]\n", "bad.jsonl, line 3: expected one JSON object, got '[1, 2]"),
        (GOOD + "7\n", "bad.jsonl, line 2: expected one JSON object, got '7"),
        (GOOD + '{"text": "x"}\n', "bad.jsonl: record 1 has no text under question, problem, prompt"),
        ('{"question": 7}\n', "bad.jsonl: record 0 has no text under question, problem, prompt"),
        ("", "bad.jsonl: it has no problems"),
    ],
)
def test_malformed_records_are_named(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bad.jsonl"
    data.write_text(content)
    out = tmp_path / "out.json"
    refused(capsys, message, "--data", data, "--out", out)
    assert not out.exists()


def test_records_behind_skipped_ones_are_named_by_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were counted from the first that was not skipped, so that another record was looked at."""
    data = tmp_path / "bad.jsonl"
    skipped = ["--data", data, "--skip", "2", "--out", tmp_path / "out.json"]
    data.write_text(3 * GOOD + '{"text": "x"}\n')
    refused(capsys, "bad.jsonl: record 3 has no text under question, problem, prompt", *skipped)
    anika = "At 30, Anika is 4/3 the age of Maddie. What would be their average age in 15 years?"
    lines_file(data, *3 * [{"question": "How many?"}], {"question": anika})
    refused(
        capsys, "1 of 2 problems are also evaluation problems of gsm8k_dev (the first is problem 3", *skipped
    )


# ---------------------------------------------------------------- refusals


def refused(capsys: pytest.CaptureFixture[str], message: str, *arguments: str | Path) -> None:
    """One line on stderr, exit code 2."""
    with pytest.raises(SystemExit) as caught:
        calibrate(*arguments, teacher=False)
    assert caught.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s2t-eval")]
    assert len(errors) == 1
    assert errors[0].startswith("s2t-eval calibrate: ")
    assert message in errors[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --task NAME and --data FILE|NAME:SPLIT"),
        (["--task", "s2t_arith", "--data", "x.jsonl"], "expected one of --task NAME and --data"),
        (["--task", "s2t_arith", "--tau", "0.1", "1"], "--tau: expected rates between 0 and 1, got 1.0"),
        (["--task", "s2t_arith", "--tau", "0"], "--tau: expected rates between 0 and 1, got 0.0"),
        (["--task", "s2t_arith", "--tau", "nan"], "--tau: expected rates between 0 and 1, got nan"),
        (["--task", "s2t_arith", "--warmup_tokens", "-1"], "--warmup_tokens: expected"),
        (["--task", "s2t_arith", "--limit", "0"], "--limit: expected"),
        (
            ["--task", "s2t_arith", "--warmup_tokens", "500", "--limit", "1"],
            "warmup_tokens: expected fewer tokens than the longest of 1 texts has, got 500",
        ),
        (["--task", "nonesuch"], "--task nonesuch: "),
        (["--data", "nonesuch.jsonl"], "--data nonesuch.jsonl: there is no such file"),
    ],
)
def test_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    refused(capsys, message, *arguments, "--out", out)
    # Texts are kept: with fewer warm-up tokens they need not be written again.
    assert [path for path in tmp_path.iterdir() if path.suffix != ".unfinished"] == []


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gone" / "out.json"
    message = f"--out: there is no folder {tmp_path / 'gone'}"
    refused(capsys, message, "--task", "s2t_arith", "--out", out)


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pretrained", "/no/folder", "--task", "s2t_arith", "--out", tmp_path / "out.json"]
    refused(capsys, "pretrained=/no/folder: the model cannot be loaded", *arguments)


@pytest.mark.parametrize(
    "spec",
    [
        "x:test",
        "x:config:test",
        "x:TEST",
        "x:validation",
        "x:test_hard",
        "x:hard-test",
        "x:train+test",
        "x:test[:50]",
        "x:test[:10%]",
        "x:train+validation",
    ],
)
def test_test_split_is_refused_before_it_is_loaded(
    spec: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("loaded"))
    message = "is a split that models are scored on, which must not be calibrated or trained on"
    refused(capsys, message, "--data", spec, "--out", tmp_path / "out.json")


@pytest.mark.parametrize("name", ["test.jsonl", "gsm8k_test.jsonl", "my-eval.jsonl", "Test.jsonl"])
def test_file_named_after_a_test_split_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lines_file(tmp_path / name, {"question": "How many?"})
    refused(capsys, "is a split that models are scored on", "--data", data, "--out", tmp_path / "o.json")


@pytest.mark.parametrize("name", ["train.jsonl", "contest.jsonl", "latest.jsonl", "tests4kids.jsonl"])
def test_file_whose_name_only_looks_like_it_is_taken(name: str, tmp_path: Path) -> None:
    data = lines_file(tmp_path / name, {"question": "How many?"})
    lm = Greedy(STUDENT)
    problems = data_prompts(lm, str(data), 1, Prompting())
    assert [instance.doc for instance in problems.instances] == [{"question": "How many?"}]
    assert problems.split == data.stem


@pytest.mark.parametrize("splits", [{}, {"training_split": "test"}])
def test_task_without_training_problems_is_refused(
    splits: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task has no training split, or it is the split that the task is scored on."""
    loaded = task_manager().load([inline_task("untrained", arith_docs(2), **splits)])
    monkeypatch.setattr(TaskManager, "load", lambda self, names: loaded)
    lm = SelectToThink(STUDENT, teacher=TEACHER, trigger="never")
    message = r"^--task untrained: it has no training split beside the split that it is scored on, .* --data$"
    with pytest.raises(TrainingDataError, match=message):
        task_prompts(lm, "untrained", 2, Prompting())


def test_a_task_of_development_problems_gives_those(tmp_path: Path) -> None:
    """`--task s2t_gsm8k_dev` took the training split that the task shares with s2t_gsm8k, in silence."""
    lm = Greedy(STUDENT)
    posed = task_prompts(lm, "s2t_arith_dev", 2, Prompting())
    assert posed.split == "dev" and posed.questions == [p.question for p in make_split("dev")[:2]]
    assert task_prompts(lm, "s2t_arith_dev", 1, Prompting(), skip=1).questions == posed.questions[1:]
    with pytest.raises(TrainingDataError, match=r"nothing is trained on them; name s2t_arith$"):
        require_training_problems(posed)
    require_training_problems(task_prompts(lm, "s2t_arith", 1, Prompting()))
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER]
    with pytest.raises(SystemExit):
        cli.main(["collect", *pair, "--task", "s2t_arith_dev", "--out", str(tmp_path / "labels")])


def test_development_problems_are_calibrated_on_and_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", str(shared_data("openai/gsm8k")))
    posed = task_prompts(Greedy(STUDENT), "s2t_gsm8k_dev", 2, Prompting())
    assert without_evaluation_problems(posed, drop=False).questions == posed.questions
    with pytest.raises(OverlapError, match="gsm8k_dev"):
        without_evaluation_problems(replace(posed, source="mine"), drop=False)


def test_the_command_writes_the_thresholds(tmp_path: Path) -> None:
    data = lines_file(tmp_path / "mine.jsonl", {"question": "How many?"})
    done = run_forked(
        "-m", "s2t_eval", "calibrate", "--pretrained", STUDENT, "--data", data, "--max_gen_toks", "8",
        "--out", tmp_path / "out.json", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "thresholds" in done.stdout
    assert Calibration.load(tmp_path / "out.json").num_texts == 1
