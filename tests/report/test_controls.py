"""Gains are over greedy decoding of the row's own student, whatever else shares its name or block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.analysis.scans import controls
from s2t_eval.analysis.triggers import gain_kept
from s2t_eval.report.ablation_table import ablation_table
from s2t_eval.report.blocks import Entry, arrange
from s2t_eval.report.controls import control_of
from s2t_eval.report.runs import read_runs
from s2t_eval.report.traces import greedy_control
from tests.report_helpers import EMBEDDED, edited

GAIN = 36.0
"""Points that S2T at 5 % gains over greedy on the embedded pair."""
SPOILT = 100
"""Of 300 answers: its gain over a greedy run with so many made wrong is 69.3 points."""


def run_of(path: Path, name: str, model: str, student: str, spoilt: int = 0, **arguments: str) -> Path:
    """A copy of a committed run of another student, with so many right answers made wrong."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {"pretrained": model, "student": student}
        content["config"]["model_args"] |= {"pretrained": model, **arguments}
        lines = content["documents"]["s2t_arith"]
        right = [i for i, line in enumerate(lines) if i and line.endswith(" 1")][:spoilt]
        for i in right:
            lines[i] = lines[i].removesuffix("1") + "0"
        content["results"]["s2t_arith"]["exact_match,answer"] -= spoilt / 300

    return edited(EMBEDDED / f"{name}.json", path, change)


def pair(folder: Path, model: str, student: str, spoilt: int = 0, **arguments: str) -> list[Path]:
    """Greedy decoding and S2T of a student, greedy with so many answers made wrong."""
    greedy = run_of(folder / "greedy.json", "greedy", model, student, spoilt, **arguments)
    return [greedy, run_of(folder / "s2t.json", "s2t_kl_tau5", model, student, **arguments)]


def gains(entries: Sequence[Entry]) -> dict[str, list[float]]:
    """Block -> the gains of its S2T rows in points."""
    table = ablation_table(entries)
    assert table is not None
    data = table.data[table.data["method"].str.startswith("S2T")]
    return {student: part["delta"].round(1).tolist() for student, part in data.groupby("student")}


@pytest.mark.parametrize(
    ("models", "revisions", "names"),
    [
        (
            ("/runs/a/checkpoint-1000", "/runs/b/checkpoint-1000"),
            ("", ""),
            ["a/checkpoint-1000", "b/checkpoint-1000"],
        ),
        (("runs/x", "runs/x"), ("", "v2"), ["runs/x", "runs/x@v2"]),
        (("me/model", "me/model"), ("v1", "v2"), ["me/model@v1", "me/model@v2"]),
        (("checkpoint-1000", "checkpoint-1000"), ("", ""), [f"checkpoint-1000 ({c * 8})" for c in "ab"]),
    ],
    ids=["two folders", "a revision", "two revisions", "kept without folders"],
)
def test_students_of_one_name_have_blocks_of_their_own(
    models: tuple[str, str], revisions: tuple[str, str], names: list[str], tmp_path: Path
) -> None:
    """They shared a block, and S2T of the second one gained 69.3 points over the greedy run of the first."""
    files = []
    for model, revision, student, spoilt in zip(models, revisions, "ab", (SPOILT, 0), strict=True):
        arguments = {"revision": revision} if revision else {}
        files += pair(tmp_path / student, model, student * 16, spoilt, **arguments)
    entries = arrange(read_runs(files))
    assert list(dict.fromkeys(e.student for e in entries)) == names
    assert gains(entries) == {names[0]: [69.3], names[1]: [GAIN]}


def test_a_run_without_a_fingerprint_stands_beside_its_model(tmp_path: Path) -> None:
    def stock(content: dict[str, Any]) -> None:
        content["config"]["model"] = "hf"
        content["config"]["model_args"]["pretrained"] = "/runs/b/last"
        del content["config"]["s2t_eval"]

    files = [*pair(tmp_path / "a", "/runs/a/last", "a" * 16), *pair(tmp_path / "b", "/runs/b/last", "b" * 16)]
    files.append(edited(EMBEDDED / "greedy.json", tmp_path / "hf.json", stock))
    places = {e.run.method.key: e.student for e in arrange(read_runs(files)) if e.run.name == "hf"}
    assert places == {"hf": "b/last"}


def test_a_student_on_a_server_of_unknown_weights_is_no_other_one(tmp_path: Path) -> None:
    files = [*pair(tmp_path / "a", "me/model", "a" * 16), *pair(tmp_path / "b", "me/model", "unknown")]
    entries = arrange(read_runs(files))
    assert {e.student for e in entries} == {"me/model"}


JOINED = {"/runs/a/tuned": "embedded/student"}


@pytest.mark.parametrize("is_first", [True, False])
def test_which_greedy_run_is_the_control_does_not_hang_on_the_order(is_first: bool, tmp_path: Path) -> None:
    plain = [EMBEDDED / f"{name}.json" for name in ("greedy", "s2t_kl_tau5", "teacher")]
    placed = pair(tmp_path / "tuned", "/runs/a/tuned", "c" * 16)
    entries = arrange(read_runs([*placed, *plain] if is_first else [*plain, *placed]), JOINED)
    control_models = {}
    for entry in entries:
        control = control_of(entry, entries)
        control_models[entry.run.method.key, entry.run.model] = control and control.run.model
    assert control_models == {
        ("greedy", "embedded/student"): None,
        ("s2t", "embedded/student"): "embedded/student",
        ("greedy", "/runs/a/tuned"): "embedded/student",  # a row of the student's block, as its methods are
        ("s2t", "/runs/a/tuned"): "/runs/a/tuned",
        ("greedy", "embedded/teacher"): "embedded/student",
    }


def test_tables_and_figures_take_a_placed_checkpoint_s_own_greedy_run(tmp_path: Path) -> None:
    """Its S2T gained over the plain student's greedy run, in the table and in the figure of the triggers."""
    plain = [EMBEDDED / f"{name}.json" for name in ("greedy", "s2t_kl_tau5")]
    placed = pair(tmp_path / "tuned", "/runs/a/tuned", "c" * 16, SPOILT)
    placed.append(run_of(tmp_path / "router.json", "s2t_router_tau5", "/runs/a/tuned", "c" * 16))
    entries = arrange(read_runs([*plain, *placed]), JOINED)
    assert {e.student for e in entries} == {"embedded/student"}
    table = ablation_table(entries)
    assert table is not None
    assert sorted(str(block.heading).split(": ")[1] for block in table.blocks) == [
        "Greedy (embedded/student) 44.3 %",
        "Greedy (tuned) 11.0 %",
    ]
    rows = table.data.assign(method=table.data["method"].str.split(",").str[:2].str.join(","))
    assert sorted(zip(rows["method"], rows["delta"].round(1), strict=True)) == [
        ("Greedy (tuned)", round(-SPOILT / 3, 1)),
        ("S2T (teacher), kl", GAIN),
        ("S2T (teacher), kl", 69.3),
        ("S2T (teacher), router", 68.3),
    ]
    plot = gain_kept(entries)
    assert plot is not None and plot.data["gain"].round(1).tolist() == [68.3]
    assert plot.data["share"].round(1).tolist() == [98.6]  # 205 of 208 answers
    lines = dict(controls(entries, "embedded/student", "Arith (embedded)"))
    assert lines == pytest.approx({"Greedy (embedded/student)": 133 / 300, "Greedy (tuned)": 33 / 300})


def test_of_greedy_runs_in_two_dtypes_the_row_s_own_is_the_control(tmp_path: Path) -> None:
    def half(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["dtype"] = "torch.bfloat16"

    files = pair(tmp_path / "full", "me/model", "a" * 16)
    halves = pair(tmp_path / "half", "me/model", "a" * 16, SPOILT)
    files += [edited(file, tmp_path / f"half_{file.name}", half) for file in halves]
    assert sorted(gains(arrange(read_runs(files)))["me/model"]) == [GAIN, 69.3]


def test_a_row_with_two_possible_controls_is_left_out_with_a_note(tmp_path: Path) -> None:
    files = pair(tmp_path / "a", "me/model", "a" * 16)
    eager = {"attn_implementation": "eager"}
    files.append(run_of(tmp_path / "eager.json", "greedy", "me/model", "a" * 16, SPOILT, **eager))
    files += pair(tmp_path / "b", "me/other", "b" * 16)
    table = ablation_table(arrange(read_runs(files)))
    assert table is not None and set(table.data["student"]) == {"me/other"}
    assert table.notes[1] == (
        "Left out, because there is not one greedy run that is their student's: S2T (teacher), kl, tau 5 %, "
        "K 8 (me/model, Arith (embedded))."
    )


def test_a_distilled_student_belongs_to_the_student_that_it_was_made_from(tmp_path: Path) -> None:
    def made_from(base: str) -> Any:
        def change(content: dict[str, Any]) -> None:
            content["config"]["s2t_eval"] |= {"pretrained": "/runs/b/last"}
            content["config"]["s2t_eval"]["distilled"]["base"] = base
            content["config"]["model_args"]["pretrained"] = "/runs/b/last"

        return change

    files = [*pair(tmp_path / "a", "/runs/a/last", "a" * 16), *pair(tmp_path / "b", "/runs/b/last", "b" * 16)]
    files.append(edited(EMBEDDED / "distil.json", tmp_path / "kd.json", made_from("b" * 16)))
    runs = read_runs(files)
    assert [e.student for e in arrange(runs) if e.run.name == "kd"] == ["b/last"]
    [distilled] = [run for run in runs if run.name == "kd"]
    control = greedy_control(distilled, runs)
    assert control is not None and control.source == tmp_path / "b" / "greedy.json"
