"""`s2t-eval collect --reuse`: a set that grew, or was collected in parts, is that of one collection."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.pipelines import collect_labels
from s2t_eval.training.labels import MANIFEST, Floats, LabelSet, Trajectory, columns_of, write_labels
from tests import learning
from tests.commands import error_line
from tests.shared_artifacts import made_once


def part(skip: int, count: int, *more: str) -> Path:
    """Labels at every step of some of the problems of `learning.labels`."""

    def make(out: Path) -> None:
        learning.main(learning.collect_arguments(out, count, "--skip", str(skip), "--steps", "all", *more))

    return made_once("-".join(["labels", str(skip), str(count), *more]), make)


def require_same_labels(actual: Trajectory, expected: Trajectory) -> None:
    """The same text with the same labels, up to the rounding of other texts beside it."""
    for name, value in columns_of(expected).items():
        other = getattr(actual, name)
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            finite: Floats = np.maximum(value, -40)
            assert np.allclose(np.maximum(other, -40), finite, atol=2e-3, rtol=1e-4), name
        elif isinstance(value, np.ndarray):
            assert other.tolist() == value.tolist(), name
        else:
            assert other == value, name


def test_a_set_of_parts_is_that_of_one_collection(tmp_path: Path) -> None:
    """Two parts are taken over, one of them with unwanted problems too, and the rest is collected."""
    whole, parts = LabelSet.load(learning.labels()), [part(2, 8), part(14, 12)]
    written: list[int] = []
    generate = collect_labels.generate_rollouts

    def counting(student: object, problems: list[object], *rest: object) -> None:
        written.append(len(problems))
        generate(student, problems, *rest)  # type: ignore[arg-type]

    out = tmp_path / "labels"
    arguments = learning.collect_arguments(out, learning.COUNT, "--steps", "all")
    with patch.object(collect_labels, "generate_rollouts", counting):
        learning.main([*arguments, "--reuse", *map(str, parts)])
    assert written == [2 + 4], "problems 0, 1 and 10 to 13"
    joined = LabelSet.load(out)
    assert [row.problem_id for row in joined] == [row.problem_id for row in whole]
    for actual, expected in zip(joined, whole, strict=True):
        require_same_labels(actual, expected)
    hashes = [LabelSet.load(folder).hash for folder in parts]
    assert joined.manifest.data["reused"] == dict(zip(hashes, (8, 10), strict=True))
    counts = ("num_steps", "num_kept", "num_top", "tau", "student", "teacher", "prompt", "dtypes")
    for name in counts:
        assert getattr(joined.manifest, name) == getattr(whole.manifest, name), name
    assert joined.manifest.kl_threshold == pytest.approx(whole.manifest.kl_threshold, rel=1e-3)
    assert joined.manifest.hit_rate == whole.manifest.hit_rate
    assert joined.manifest.dtypes == {"student": "torch.float32", "teacher": "torch.float32"}


def test_a_set_of_reused_labels_alone_needs_no_model(tmp_path: Path) -> None:
    """The top steps are those of the new set: ranked over its own texts, not over those of the other one."""
    out = tmp_path / "labels"
    with patch.object(collect_labels, "_generate", side_effect=AssertionError("a text was written")):
        learning.main(learning.collect_arguments(out, 6, "--reuse", str(learning.labels())))
    few, whole = LabelSet.load(out), LabelSet.load(learning.labels())
    first = whole.trajectories[:6]
    divergences = np.concatenate([row.kl_student_teacher for row in first])
    threshold = float(np.quantile(divergences, 0.9))
    assert few.manifest.kl_threshold == threshold != whole.manifest.kl_threshold
    for row, source in zip(few, first, strict=True):
        assert row.output_ids.tolist() == source.output_ids.tolist()
        top = np.flatnonzero(source.kl_student_teacher > threshold)
        assert row.kept.tolist() == top.tolist()
        assert row.teacher_log_probs.tolist() == source.teacher_log_probs[top].tolist()


def test_of_a_problem_in_two_sets_the_first_one_is_taken(tmp_path: Path) -> None:
    out, sets = tmp_path / "labels", [part(2, 8), learning.labels()]
    learning.main(learning.collect_arguments(out, 12, "--steps", "all", "--reuse", *map(str, sets)))
    hashes = [LabelSet.load(folder).hash for folder in sets]
    assert LabelSet.load(out).manifest.data["reused"] == dict(zip(hashes, (8, 4), strict=True))


def test_a_set_named_twice_counts_once(tmp_path: Path) -> None:
    out, folder = tmp_path / "labels", part(2, 8)
    learning.main(learning.collect_arguments(out, 10, "--steps", "all", "--reuse", str(folder), str(folder)))
    assert LabelSet.load(out).manifest.data["reused"] == {LabelSet.load(folder).hash: 8}


def test_a_set_of_unknown_dtypes_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of before recorded none; to refuse them would be to label their texts again."""
    old = with_manifest(learning.labels(), tmp_path / "old", dtypes=None)
    learning.main(learning.collect_arguments(tmp_path / "labels", 6, "--reuse", str(old)))
    assert len(LabelSet.load(tmp_path / "labels")) == 6
    message = next(text for text in caplog.messages if text.startswith(f"--reuse {old}: "))
    assert "(student torch.float32, teacher torch.float32) is not compared" in message


def with_manifest(folder: Path, out: Path, **changes: object) -> Path:
    """A copy of a label set whose manifest has other values."""
    shutil.copytree(folder, out)
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({**manifest, **changes}))
    return out


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, out: Path, *more: str) -> str:
    """The line with which a set is refused; nothing is written then."""
    arguments = learning.collect_arguments(out, 6, "--steps", "all", "--reuse", str(folder), *more)
    line = error_line(capsys, learning.main, arguments)
    assert not out.exists() or not any(out.iterdir())
    return line.removeprefix(f"s2t-eval collect: --reuse {folder}: ")


def test_labels_of_other_models_or_prompts_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = LabelSet.load(learning.labels()).manifest
    anew = "; collect these problems anew"
    for name, value in (
        ("teacher", "0123456789abcdef"),
        ("prompt", {**manifest.prompt, "max_gen_toks": 40}),
        ("rollouts", {"selector": "x", "tau": 0.1, "policy": {}}),
        ("dtypes", {"student": "torch.bfloat16", "teacher": "torch.float32"}),
    ):
        changed = with_manifest(learning.labels(), tmp_path / name, **{name: value})
        field = name.removesuffix("s") if name == "dtypes" else name
        line = refusal(capsys, changed, tmp_path / "out")
        assert line.startswith(f"it was made for another {field} (expected {value}, got ")
        assert line.endswith(anew)
    other = part(0, 6, "--system_instruction", "Solve it.")
    line = refusal(capsys, other, tmp_path / "out")
    assert line.startswith("it was made for another prompt (expected {") and line.endswith(anew)


def test_a_prompt_that_the_settings_do_not_show_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chat template or a task's text may change while all recorded settings stay the same."""
    labels = LabelSet.load(learning.labels())
    changed = tmp_path / "changed"
    shutil.copytree(learning.labels(), changed)
    first = labels.trajectories[0]
    rows = [replace(first, prompt_ids=first.prompt_ids[1:]), *labels.trajectories[1:]]
    (changed / MANIFEST).unlink()
    write_labels(changed, replace(labels.manifest, shards={}), [columns_of(row) for row in rows])
    assert refusal(capsys, changed, tmp_path / "out") == (
        f"problem {first.problem_id} has another prompt of the student now (its problems, chat template or "
        "contexts differ); collect these problems anew"
    )


def test_top_steps_and_other_problems_cannot_be_reused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = tmp_path / "top"
    learning.main(learning.collect_arguments(top, 6, "--reuse", str(learning.labels())))
    assert "got candidates at its own top steps only" in refusal(capsys, top, tmp_path / "out")
    line = refusal(capsys, part(14, 12), tmp_path / "out")
    assert line.startswith("none of its 12 problems, from s2t_arith/train/14 on, is to be collected;")
    assert "expected a folder of `s2t-eval collect`" in refusal(capsys, tmp_path / "none", tmp_path / "out")


def test_sets_without_dtypes_keep_their_hash() -> None:
    """Selectors and interrupted runs name their labels by this hash; sets made before had no dtypes."""
    manifest = replace(LabelSet.load(learning.labels()).manifest, dtypes=None)
    assert "dtypes" in asdict(manifest)
    before = LabelSet(manifest, []).hash
    content = {name: value for name, value in asdict(manifest).items() if name != "dtypes"}
    assert before == data_hash([content])
