"""`s2t-eval collect`: labels against a plain loop, resuming, and errors."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import make_split
from s2t_eval.engine import Request
from s2t_eval.selection.triggers import kl_divergence
from s2t_eval.training import label_collection
from s2t_eval.training.contamination import find_overlap, question_hash, require_no_overlap
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from tests.forked import start_forked
from tests.harness_helpers import STUDENT, TEACHER
from tests.learning import COUNT, collect_arguments, labels, main
from tests.twins import logits_after


@pytest.fixture(scope="module")
def label_set() -> LabelSet:
    return LabelSet.load(labels())


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(labels(), tmp_path / "labels"))


@pytest.mark.parametrize("number", [0, 13])
def test_labels_are_their_slow_twin(label_set: LabelSet, number: int) -> None:
    """The slow twin encodes the whole text anew at every step."""
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(embedded_path(name), dtype=torch.float32).eval()
        for name in (STUDENT, TEACHER)
    )
    row = label_set.trajectories[number]
    assert row.kept.tolist() == list(range(len(row.output_ids)))
    ids = row.prompt_ids.tolist()
    for t, token in enumerate(row.output_ids.tolist()):
        student_logits, teacher_logits = logits_after(student, ids), logits_after(teacher, ids)
        assert token == int(student_logits.argmax())
        top = student_logits.topk(64).indices
        for name, pair in (
            ("kl_student_teacher", (student_logits[top], teacher_logits[top])),
            ("kl_teacher_student", (teacher_logits[top], student_logits[top])),
        ):
            assert getattr(row, name)[t] == pytest.approx(float(kl_divergence(*pair)), abs=2e-3)
        p = student_logits.softmax(-1)
        assert row.entropy[t] == pytest.approx(float(-(p * p.clamp(min=1e-30).log()).sum()), abs=2e-3)
        rest = float(1 - p[top].sum())
        entropy64 = float(-(p[top] * p[top].clamp(min=1e-30).log()).sum()) - rest * math.log(max(rest, 1e-30))
        assert row.entropy64[t] == pytest.approx(entropy64, abs=2e-3)
        assert row.margin[t] == pytest.approx(float(1 - (p[top[0]] - p[top[1]])), abs=2e-3)
        assert row.teacher_argmax[t] == int(teacher_logits.argmax())
        candidates = row.candidates[t]
        torch.testing.assert_close(
            torch.from_numpy(row.student_log_probs[t]),
            student_logits.log_softmax(-1).topk(16).values,
            atol=2e-3,
            rtol=1e-3,
        )
        expected = teacher_logits.log_softmax(-1)[candidates]
        torch.testing.assert_close(torch.from_numpy(row.teacher_log_probs[t]), expected, atol=5e-3, rtol=1e-3)
        assert row.teacher_mass[t] == pytest.approx(float(expected.exp().sum()), abs=1e-3)
        ids.append(token)


def test_the_manifest_counts_what_is_there(label_set: LabelSet) -> None:
    manifest = label_set.manifest
    kl = np.concatenate([row.kl_student_teacher for row in label_set])
    top = [row.kl_student_teacher > manifest.kl_threshold for row in label_set]
    assert manifest.num_steps == len(kl) and manifest.num_top == sum(int(t.sum()) for t in top)
    assert manifest.num_top == pytest.approx(0.1 * len(kl), abs=1.5)
    hits = sum(
        int((row.candidates[t][:, :8] == row.teacher_argmax[t][:, None]).any(-1).sum())
        for row, t in zip(label_set, top, strict=True)
    )
    assert manifest.hit_rate["8"] == pytest.approx(hits / manifest.num_top)
    assert len({row.problem_id for row in label_set}) == len(label_set) == COUNT
    assert label_set.trajectories[0].problem_id == "s2t_arith/train/0"


def test_top_steps_alone_keep_candidates_by_default(tmp_path: Path) -> None:
    main(collect_arguments(tmp_path / "top", 6))
    few = LabelSet.load(tmp_path / "top")
    assert few.manifest.num_kept == few.manifest.num_top < few.manifest.num_steps
    for row in few:
        assert len(row.kl_student_teacher) == len(row.output_ids)  # divergences of all steps: negatives
        assert (row.kl_student_teacher[row.kept] > few.manifest.kl_threshold).all()
    assert not (tmp_path / "top" / "work").exists()


def test_hits_of_no_top_step_are_undefined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One text of one token has no step above its own quantile; Hit@K was recorded as 0."""
    main(collect_arguments(tmp_path / "one", 1, "--max_gen_toks", "1"))
    assert "Hit@1 undefined, Hit@2 undefined" in capsys.readouterr().out
    manifest = LabelSet.load(tmp_path / "one").manifest
    assert (manifest.num_steps, manifest.num_top, set(manifest.hit_rate.values())) == (1, 0, {None})


def test_a_question_is_never_on_both_sides(label_set: LabelSet) -> None:
    twice = [*label_set, replace(label_set.trajectories[0], problem_id="again")]
    train, held_out = LabelSet(label_set.manifest, twice).split(0.3)
    assert len(train) + len(held_out) == COUNT + 1
    assert not {row.question_hash for row in train} & {row.question_hash for row in held_out}
    with pytest.raises(LabelError, match="1 different questions cannot be split"):
        LabelSet(label_set.manifest, twice[:1]).split(0.3)


# ---------------------------------------------------------------- resuming


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_numbers_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill during the rollouts, divergences and the threshold once differed by 4e-5."""
    out, whole = tmp_path / "labels", tmp_path / "whole"
    options = ("--batch_size", "2")  # groups of 16 problems
    kill_when(out, 18, "rollouts", collect_arguments(out, 30, *options))
    done = len(list((out / "work" / "rollouts").glob("*.safetensors")))
    assert 18 <= done < 30
    with pytest.raises(LabelError, match="interrupted; run the same command again"):
        LabelSet.load(out)
    with pytest.raises(SystemExit):
        main(collect_arguments(out, 20, *options))  # another run must not mix with it

    written = watch_saves(monkeypatch)
    main(collect_arguments(out, 30, *options))
    again = [index for kind, index in written if kind == "rollouts"]
    assert len(again) < 30 and 0 not in again, "a group that was finished is not repeated"
    main(collect_arguments(whole, 30, *options))
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_a_kill_among_the_labels_changes_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "labels", tmp_path / "whole"
    kill_when(out, 10, "labels", collect_arguments(out, 40))
    written = watch_saves(monkeypatch)
    main(collect_arguments(out, 40))
    assert {kind for kind, _ in written} == {"labels"} and 0 < len(written) < 40
    main(collect_arguments(whole, 40))
    assert contents(out) == contents(whole)


def kill_when(out: Path, count: int, kind: str, arguments: list[str]) -> None:
    """Run the command in a process of its own and kill it when it has written this many files of a kind."""
    process = start_forked("-m", "tests.learning", *arguments, folder=Path(__file__).parents[2])
    folder = out / "work" / kind
    while process.is_alive():
        if folder.is_dir() and len(list(folder.glob("*.safetensors"))) >= count:
            break
        time.sleep(0.02)
    process.kill()
    process.join()


def watch_saves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A list to which kind and index of every file saved from now on are added."""
    written: list[tuple[str, int]] = []
    save = label_collection.CollectionFolder.save
    monkeypatch.setattr(
        label_collection.CollectionFolder,
        "save",
        lambda self, kind, index, tensors: (written.append((kind, index)), save(self, kind, index, tensors)),
    )
    return written


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_texts_do_not_depend_on_where_a_run_stopped(label_set: LabelSet, tmp_path: Path) -> None:
    main(collect_arguments(tmp_path / "rows", COUNT, "--steps", "all", "--batch_size", "3"))
    for one, other in zip(label_set, LabelSet.load(tmp_path / "rows"), strict=True):
        assert one.output_ids.tolist() == other.output_ids.tolist()
        np.testing.assert_allclose(one.kl_student_teacher, other.kl_student_teacher, atol=1e-3)


# ---------------------------------------------------------------- privileged context, overlap


def test_only_the_teacher_sees_the_solution(tmp_path: Path) -> None:
    main(collect_arguments(tmp_path / "told", 4, "--teacher_context", "solution"))
    with_context = LabelSet.load(tmp_path / "told")
    assert with_context.manifest.teacher_context == "solution"
    plain = LabelSet.load(labels())
    for row, other in zip(with_context, plain, strict=False):
        assert row.prompt_ids.tolist() == other.prompt_ids.tolist()
        assert row.output_ids.tolist() == other.output_ids.tolist()
        assert len(row.teacher_prompt_ids) > len(row.prompt_ids)
        assert row.teacher_prompt_ids[-5:].tolist() == row.prompt_ids[-5:].tolist()


@pytest.mark.parametrize(
    ("change", "differing"),
    [("context", "data, texts"), ("dtype", "student_dtype, teacher_dtype, dtype, dtypes")],
)
def test_an_unfinished_set_keeps_to_its_contexts_and_dtypes(
    change: str,
    differing: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels made with one context, or in float32, once became one set with those of another resumption."""
    path, questions = tmp_path / "context.jsonl", [p.question for p in make_split("train")[:2]]

    def write(context: str) -> None:
        path.write_text("".join(json.dumps({"question": q, "context": context}) + "\n" for q in questions))

    write("Tom")
    arguments = collect_arguments(tmp_path / "set", 2, "--teacher_context", str(path))
    with monkeypatch.context() as patch:
        patch.setattr("s2t_eval.pipelines.collect_labels.write_label_set", interrupt)
        with pytest.raises(SystemExit):
            main(arguments)
    if change == "context":
        write("Mia")
    with pytest.raises(SystemExit):
        main([*arguments, "--dtype", "bfloat16"] if change == "dtype" else arguments)
    assert f"of another run (its {differing} differ): expected " in capsys.readouterr().err


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_context_files_are_matched_by_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "context.jsonl"
    problems = make_split("train")[:4]
    path.write_text("".join(json.dumps({"question": p.question, "context": "Tom"}) + "\n" for p in problems))
    main(collect_arguments(tmp_path / "ok", 4, "--teacher_context", str(path)))
    with pytest.raises(SystemExit):
        main(collect_arguments(tmp_path / "few", 5, "--teacher_context", str(path)))
    assert "1 of 5 problems have none (the first is problem 4)" in capsys.readouterr().err


def test_evaluation_problems_are_refused_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forbidden = tmp_path / "mine.jsonl"
    forbidden.write_text(json.dumps({"question": make_split("train")[2].question.upper()}) + "\n")
    with pytest.raises(SystemExit):
        main(collect_arguments(tmp_path / "a", 4, "--evaluation", str(forbidden)))
    message = capsys.readouterr().err
    assert "1 of 4 problems are also evaluation problems of mine (the first is problem 2" in message
    main(collect_arguments(tmp_path / "a", 4, "--evaluation", str(forbidden), "--drop_overlap"))
    kept = LabelSet.load(tmp_path / "a")
    assert [row.problem_id[-1] for row in kept] == ["0", "1", "3"]
    assert kept.manifest.data["left_out_as_evaluation_problems"] == 1


def test_evaluation_files_of_one_name_are_all_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of `a/test.jsonl` and `b/test.jsonl` the last one alone was compared."""
    files = [tmp_path / folder / "test.jsonl" for folder in ("a", "b")]
    for file, number in zip(files, (2, 1000), strict=True):
        file.parent.mkdir()
        file.write_text(json.dumps({"question": make_split("train")[number].question}) + "\n")
    with pytest.raises(SystemExit):
        main(collect_arguments(tmp_path / "set", 4, "--evaluation", *map(str, files)))
    message = capsys.readouterr().err
    assert "1 of 4 problems are also evaluation problems of test (the first is problem 2" in message


def test_benchmarks_questions_are_known_without_their_data() -> None:
    first = (
        "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes "
        "muffins for her friends every day with four. She sells the remainder at the farmers' market "
        "daily for $2 per fresh duck egg. How much in dollars does she make every day at the farmers' "
        "market?"
    )
    last = "At 30, Anika is 4/3 the age of Maddie. What would be their average age in 15 years?"
    assert find_overlap(["What is 1 + 1?", first]) == {1: "gsm8k"}
    assert find_overlap([last]) == {0: "gsm8k_dev"}, "the end of GSM8k's training split"
    assert (
        question_hash("How  many\nEggs?") == question_hash("how many eggs") != question_hash("how many egg")
    )


def test_overlap_is_an_error_of_the_caller() -> None:
    """It is a `ValueError`, which every command prints as one line."""
    with pytest.raises(
        ValueError, match=r"^1 of 3 problems are also evaluation problems of gsm8k .*problem 1"
    ):
        require_no_overlap({1: "gsm8k"}, 3, "leave them out")
    require_no_overlap({}, 3, "leave them out")


def test_a_row_keeps_nothing_that_it_does_not_write() -> None:
    """Views of the 64 likeliest tokens kept all of them in memory for every step of the set."""
    steps, likely = 3, torch.randn(3, 64)
    rollout = {"output_ids": torch.arange(steps), "entropy": torch.rand(steps), "margin": torch.rand(steps)}
    rollout["entropy64"] = rollout["entropy"]
    rollout |= {"top_ids": torch.arange(3 * 64).view(3, 64), "top_log_probs": likely}
    problem = label_collection.LabelledProblem("p", "q", Request((1, 2), 8), (1, 2))
    row = label_collection._row(problem, rollout, {"teacher_log_probs": torch.rand(steps, 16)})
    before = {name: row[name].copy() for name in ("candidates", "student_log_probs", "top_log_probs")}
    rollout["top_ids"].zero_()
    likely.zero_()
    for name, values in before.items():
        assert (row[name] == values).all() and values.any()


# ---------------------------------------------------------------- damaged sets


def test_a_truncated_shard_is_never_read(copied: Path) -> None:
    (shard,) = (copied / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(LabelError, match=r"shard-00000\.parquet is missing, truncated or not Parquet"):
        LabelSet.load(copied)
    shard.unlink()
    with pytest.raises(LabelError, match="missing"):
        LabelSet.load(copied)


def test_a_shard_with_too_few_rows_is_refused(copied: Path) -> None:
    (shard,) = (copied / "shards").iterdir()
    table = pq.read_table(shard)
    pq.write_table(table.slice(0, 3), shard)
    with pytest.raises(LabelError, match=f"expected {COUNT} rows, as in the manifest, got 3"):
        LabelSet.load(copied)
    pq.write_table(table.slice(0, 0), shard)
    with pytest.raises(LabelError, match="got 0;"):
        LabelSet.load(copied)


def damaged(copied: Path, **columns: object) -> None:
    """Write the label set again with changed columns in its first row."""
    (shard,) = (copied / "shards").iterdir()
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0].update(columns)
    pq.write_table(type(table).from_pylist(rows, table.schema), shard)


def test_a_group_of_one_candidate_is_named(copied: Path) -> None:
    trajectory = LabelSet.load(copied).trajectories[0]
    one = {name: getattr(trajectory, name)[:, :1].tolist() for name in (
        "candidates", "student_log_probs", "teacher_log_probs"
    )}  # fmt: skip
    damaged(copied, **one)
    with pytest.raises(
        LabelError, match=r"row 0 \(s2t_arith/train/0\): expected at least 2 candidates a step, got 1"
    ):
        LabelSet.load(copied)


def test_columns_of_another_length_are_named(copied: Path) -> None:
    damaged(copied, entropy=[0.5])
    with pytest.raises(LabelError, match=r"row 0.*lengths of entropy differ from the text"):
        LabelSet.load(copied)


def test_labels_of_an_earlier_version_have_no_entropy_of_64_tokens(copied: Path) -> None:
    """They stay usable: a column that came later may be missing, but not of another length."""
    [shard] = (copied / "shards").iterdir()
    pq.write_table(pq.read_table(shard).drop_columns(["entropy64"]), shard)
    assert [len(one.entropy64) for one in LabelSet.load(copied)] == [0] * COUNT


def test_entropies_of_another_length_are_named(copied: Path) -> None:
    damaged(copied, entropy64=[0.5])
    with pytest.raises(LabelError, match=r"row 0.*lengths of entropy64 differ from the text"):
        LabelSet.load(copied)


def test_values_that_are_not_finite_are_named(copied: Path) -> None:
    trajectory = LabelSet.load(copied).trajectories[0]
    damaged(copied, kl_student_teacher=[float("nan")] * len(trajectory.output_ids))
    with pytest.raises(LabelError, match="kl_student_teacher are not finite"):
        LabelSet.load(copied)


@pytest.mark.parametrize("name", ["kl_teacher_student", "entropy", "margin", "teacher_mass"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_every_column_must_be_finite(name: str, value: float, copied: Path) -> None:
    trajectory = LabelSet.load(copied).trajectories[0]
    damaged(copied, **{name: [value, *getattr(trajectory, name)[1:].tolist()]})
    with pytest.raises(LabelError, match=f"{name} are not finite"):
        LabelSet.load(copied)


@pytest.mark.parametrize("name", ["top_log_probs", "student_log_probs", "teacher_log_probs"])
def test_a_log_probability_may_be_minus_infinity_and_nothing_else(name: str, copied: Path) -> None:
    """Minus infinity is the log-probability of a token of probability 0."""
    trajectory = LabelSet.load(copied).trajectories[0]

    def write(value: float) -> None:
        values = getattr(trajectory, name).tolist()
        values[0][-1] = value
        damaged(copied, **{name: values})

    write(float("-inf"))
    assert len(LabelSet.load(copied)) == COUNT
    for value in (float("nan"), float("inf")):
        write(value)
        with pytest.raises(LabelError, match=f"{name} are not finite"):
            LabelSet.load(copied)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"0.1"'])
def test_a_threshold_that_is_not_finite_is_refused(value: str, copied: Path) -> None:
    path = copied / "manifest.json"
    path.write_text(re.sub(r'"kl_threshold": [^,]+', f'"kl_threshold": {value}', path.read_text()))
    with pytest.raises(LabelError, match=r"kl_threshold: expected a finite number, got "):
        LabelSet.load(copied)


def test_a_teacher_of_nan_makes_no_label_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set was once finished with `kl_threshold` NaN. NaN weights and NaN outputs are both detected."""
    teacher = Path(shutil.copytree(embedded_path(TEACHER), tmp_path / "teacher"))
    tensors = load_file(teacher / "model.safetensors")
    tensors["model.norm.weight"].fill_(float("nan"))
    save_file(tensors, teacher / "model.safetensors", {"format": "pt"})
    arguments = [a.replace(TEACHER, str(teacher)) for a in collect_arguments(tmp_path / "out", 4)]
    with pytest.raises(SystemExit):
        main(arguments)
    assert "model.norm.weight holds numbers that are infinite or none" in capsys.readouterr().err
    monkeypatch.setattr("s2t_eval.model_wrappers.checked_model.require_finite", lambda *_: None)
    with pytest.raises(SystemExit):
        main(arguments)
    message = capsys.readouterr().err
    assert "on problem s2t_arith/train/0 its kl_student_teacher" in message and "are not finite" in message
    with pytest.raises(LabelError, match="interrupted"):
        LabelSet.load(tmp_path / "out")


def test_another_student_or_format_is_refused(copied: Path, label_set: LabelSet) -> None:
    with pytest.raises(LabelError, match=r"another student .*run `s2t-eval collect` with this student"):
        label_set.require_student("0123", label_set.manifest.vocabulary)
    with pytest.raises(LabelError, match="another tokenizer"):
        label_set.require_student(label_set.manifest.student, "0123")
    label_set.require_student(label_set.manifest.student, label_set.manifest.vocabulary)
    manifest = copied / "manifest.json"
    manifest.write_text(json.dumps({**asdict(label_set.manifest), "format": 9}))
    with pytest.raises(LabelError, match="format 9, expected 1"):
        LabelSet.load(copied)
    with pytest.raises(LabelError, match="there is none; make one with `s2t-eval collect`"):
        LabelSet.load(copied / "shards")


def test_a_finished_folder_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(collect_arguments(labels()))
    assert "holds a finished label set" in capsys.readouterr().err
    assert isinstance(LabelSet.load(labels()).trajectories[0], Trajectory)
