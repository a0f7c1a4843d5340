"""Who stands in whose block: teachers of several students, several teachers of one, names in all columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.analysis.grid import is_done
from s2t_eval.report.ablation_table import _teacher_of, ablation_table
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.blocks import Entry, _with_names, arrange
from s2t_eval.report.cells import MISSING
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.costs import costs
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.main_table import main_table
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.report.submission import Claim, require_whole
from s2t_eval.report.traces import Trace, by_task, greedy_control, run_of_trace, scores_by_position
from tests.report_helpers import BASELINES, EMBEDDED, edited, scored

SMALL = ("greedy", "s2t_kl_tau5", "teacher")


def run_of(name: str) -> Run:
    [run] = read_runs([EMBEDDED / f"{name}.json"])
    return run


def named(folder: Path, name: str, new: str, **backend: Any) -> Path:
    """A copy of a committed run with other entries of its models."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= backend
        if "pretrained" in backend:
            content["config"]["model_args"]["pretrained"] = backend["pretrained"]

    return edited(EMBEDDED / f"{name}.json", folder / f"{new}.json", change)


def test_a_teacher_of_two_students_stands_in_both_blocks(tmp_path: Path) -> None:
    """The last student alone had it, and the share of the gap of the other one was missing."""
    other = {"pretrained": "other", "student": "0" * 16}
    files = [EMBEDDED / f"{name}.json" for name in SMALL]
    files += [named(tmp_path, name, f"other_{name}", **other) for name in SMALL[:2]]
    entries = arrange(read_runs(files))
    assert [e.student for e in entries if e.is_teacher] == ["embedded/student", "other"]
    table = ablation_table(entries)
    assert table is not None and len(table.blocks) == 2
    assert table.data["share_of_gap"].notna().sum() == 2
    assert len(costs(entries)) == 6


def test_two_teachers_of_a_student_are_teachers_both(tmp_path: Path) -> None:
    """They were taken for methods, one of them for the best one, and for the control of the others."""
    files = [EMBEDDED / f"{name}.json" for name in SMALL]
    files.append(named(tmp_path, "s2t_kl_tau5", "s2t_big", teacher="b" * 16))
    files.append(named(tmp_path, "teacher", "a_big", pretrained="big", student="b" * 16))
    entries = arrange(read_runs(files))
    labels = sorted(e.label for e in entries if e.is_teacher)
    assert labels == ["Teacher alone (a_big)", "Teacher alone (teacher)"]
    assert entries[0].label == "Greedy"
    table = ablation_table(entries)
    assert table is not None and "greedy 44.3" in str(table.blocks[0].heading)
    shares = table.data.set_index("method")["share_of_gap"]
    assert shares[labels].isna().all() and shares.drop(labels).notna().all()
    rows = [cells for block in main_table(entries).blocks for cells in block.rows]
    best = [cells[0].text for cells in rows if any(cell.is_best for cell in cells)]
    # Both have the same score.
    assert best == [e.label for e in entries if e.run.method.key == "s2t"]


@pytest.mark.parametrize(
    ("method", "teacher", "has_share"),
    [
        ("s2t_kl_tau5", {}, True),
        ("s2t_kl_tau5", {"teacher": "b" * 16, "teacher_name": "org/teacher-32b"}, False),
        ("s2t_kl_tau5", {"teacher": "unknown", "teacher_name": "org/teacher-32b"}, False),
        ("maj8", {}, True),  # it names none
        ("distil", {}, True),
        ("distil", {"distilled": {"method": "kd", "teacher": "b" * 16}}, False),
    ],
)
def test_the_share_of_a_gap_is_that_of_the_row_s_own_teacher(
    method: str, teacher: dict[str, Any], has_share: bool, tmp_path: Path
) -> None:
    """A run with a teacher of 32B had a share of the gap to the only teacher of the block, of 1.5B."""
    files = [EMBEDDED / "greedy.json", EMBEDDED / "s2t_kl_tau1.json", EMBEDDED / "teacher.json"]
    files.append(named(tmp_path, method, "row", **teacher))
    entries = arrange(read_runs(files))
    [teacher_alone] = [e for e in entries if e.is_teacher]
    [row] = [e for e in entries if e.run.name == "row"]
    assert _teacher_of(row, [teacher_alone]) is (teacher_alone if has_share else None)
    assert _teacher_of(teacher_alone, [teacher_alone]) is None


def test_a_student_of_unknown_weights_is_not_the_teacher_of_unknown_weights(tmp_path: Path) -> None:
    """All were on servers that were trusted: one student's greedy run was the other's "Teacher alone"."""
    served = {"student": "unknown", "teacher": "unknown", "teacher_name": "me/teacher"}
    files = [
        named(tmp_path, "greedy", "plain", student="unknown", pretrained="me/student"),
        named(tmp_path, "s2t_kl_tau5", "s2t", **served, pretrained="me/student"),
        named(tmp_path, "s2t_kl_tau5", "other", **served, pretrained="me/other"),
        named(tmp_path, "teacher", "teacher", student="unknown", pretrained="me/teacher"),
    ]
    entries = arrange(read_runs(files))
    assert sorted((e.run.name, e.student, e.is_teacher) for e in entries) == [
        ("other", "me/other", False),
        ("plain", "me/student", False),
        ("s2t", "me/student", False),
        ("teacher", "me/other", True),
        ("teacher", "me/student", True),
    ]
    assert [e.run.name for e in entries if e.is_control] == ["plain"]


def test_a_model_that_is_student_and_teacher_has_its_own_block_too(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {
            "pretrained": "embedded/teacher",
            "student": teacher,
            "teacher": "c",
        }
        content["config"]["model_args"]["pretrained"] = "embedded/teacher"

    teacher = run_of("teacher").backend_info["student"]
    chain = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "chain.json", change)
    entries = arrange(read_runs([*(EMBEDDED / f"{name}.json" for name in SMALL), chain]))
    placed = {(e.student, e.label) for e in entries if e.run.name == "teacher"}
    assert placed == {("embedded/student", "Teacher alone"), ("embedded/teacher", "Greedy")}


def test_a_run_without_a_scored_document_is_left_out_with_a_note(tmp_path: Path) -> None:
    """One unscored document out of one refused the whole report."""
    files = scored(tmp_path, greedy=[0], s2t_kl_tau5=[], teacher=[0])
    table = ablation_table(arrange(read_runs(files)))
    assert table is not None and table.data["method"].tolist() == ["Teacher alone"]
    assert "under greedy: S2T (teacher), kl, tau 5 %, K 8 (embedded/student, Arith" in table.notes[1]
    assert ablation_table(arrange(read_runs(files[:2]))) is None


def test_the_share_of_runs_without_a_common_scored_document_is_undefined(tmp_path: Path) -> None:
    """Each shares one with greedy; the three together have none, and the bootstrap of nothing raised."""
    files = scored(tmp_path, greedy=[0, 1], s2t_kl_tau5=[0], teacher=[1])
    table = ablation_table(arrange(read_runs(files)))
    assert table is not None and table.data["n"].tolist() == [1, 1]
    assert table.data[["share_of_gap", "share_low", "share_high"]].isna().all(axis=None)
    assert [row[6].text for row in table.blocks[0].rows] == [MISSING, MISSING]


def test_names_are_those_of_a_row_in_every_column() -> None:
    """A row that shared a cell in one column alone fell into two rows."""
    run, other = replace(run_of("pps_local"), name="a"), replace(run_of("pps_local"), name="b")
    here, there = benchmark_of("s2t_gsm8k"), benchmark_of("s2t_math500")
    entries = [
        Entry("x", "PPS-Local", here, run),
        Entry("x", "PPS-Local", here, other),
        Entry("x", "PPS-Local", there, run),
        Entry("x", "Greedy", here, run_of("greedy")),
    ]
    names = [entry.label for entry in _with_names(entries)]
    assert names == ["PPS-Local (a)", "PPS-Local (b)", "PPS-Local (a)", "Greedy"]


# ---------------------------------------------------------------- what else tells runs apart


def repeated(content: dict[str, Any]) -> None:
    content["configs"]["s2t_arith"]["repeats"] = 8
    telemetry = content["config"]["s2t_eval"]["telemetry"]
    for name in ("texts", "tokens", "forwards"):
        telemetry[name] *= 8


def test_repeats_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    """A run of eight responses was left out for a newer one of one response, or shared its column."""
    once = EMBEDDED / "greedy.json"
    runs = read_runs([once, edited(once, tmp_path / "often.json", repeated)])
    assert len(runs) == 2
    with pytest.raises(NotComparableError, match="repeats 1 against 8"):
        arrange(runs)
    [plain], [eight] = (costs(arrange([run])).to_dict("records") for run in runs)
    for name in ("tokens", "tokens_per_correct"):  # of one response
        assert eight[name] == pytest.approx(plain[name])


def test_a_metric_that_kept_documents_have_no_scores_of_is_refused() -> None:
    """Strict scores were paired with flexible ones."""
    file = BASELINES / "stock-qwen-40" / "stock_gsm8k.json"
    assert read_runs([file], {"gsm8k": "exact_match,strict-match"})[0].value == pytest.approx(0.075)
    with pytest.raises(ResultsError, match=r"are those of exact_match,strict-match, not of .*flexible"):
        read_runs([file], {"gsm8k": "exact_match,flexible-extract"})


def test_one_model_id_is_not_given_to_two_models() -> None:
    """The teacher's score went out as the student's plain one."""
    runs = [run_of("greedy"), run_of("teacher")]
    with pytest.raises(ResultsError, match=r"^--model_id me/student: expected runs of one student, got"):
        require_whole(runs, Claim(model_id="me/student"))
    require_whole(runs[:1], Claim(model_id="me/student"))


def test_results_whose_samples_were_cut_off_are_not_complete(tmp_path: Path) -> None:
    """lm_eval writes the results first: a run that was ended among its samples counted as done."""

    def cut(content: dict[str, Any]) -> None:
        del content["documents"]["s2t_arith"][200:]

    for change, whole in ((cut, False), (len, True)):
        edited(EMBEDDED / "greedy.json", tmp_path / "run" / "m" / "results_1.json", change)
        assert is_done(tmp_path / "run") is whole


def test_scores_of_a_trace_are_found_by_position_and_task() -> None:
    """Under --samples the trace counts from 0, and the scores of other documents stood beside its texts."""
    run = run_of("greedy")
    assert run.documents is not None
    moved = replace(run, documents=run.documents.assign(doc_id=run.documents["doc_id"] + 400))
    assert scores_by_position(moved) == scores_by_position(run) and min(scores_by_position(moved)) == 0
    trace = Trace(
        Path("t"), [{"task": "a", "doc_id": 0}, {"task": "b", "doc_id": 0}, {"task": "a", "doc_id": 1}]
    )
    assert [len(part.records) for part in by_task(trace)] == [2, 1]


def test_a_student_with_an_adapter_is_a_student_of_its_own(tmp_path: Path) -> None:
    """Its methods stood in the plain student's block, with gains over the plain student's greedy decoding."""

    def adapted(name: str, new: str) -> Path:
        def change(content: dict[str, Any]) -> None:
            content["config"]["model_args"]["peft"] = "made/my-adapter"
            content["config"]["s2t_eval"]["student"] = "c" * 16

        return edited(EMBEDDED / f"{name}.json", tmp_path / f"{new}.json", change)

    files = [EMBEDDED / f"{name}.json" for name in SMALL]
    files += [adapted("greedy", "tuned"), adapted("s2t_entropy64_tau5", "tuned_s2t")]
    runs = read_runs(files)
    entries = arrange(runs)
    own = [e for e in entries if e.student == "embedded/student with made/my-adapter"]
    assert [e.run.method.key for e in own if not e.is_teacher] == ["tuned", "s2t"]
    assert [e.is_control for e in own] == [True, False, False]
    plain = [e for e in entries if e.student == "embedded/student"]
    assert [e.run.method.key for e in plain if e.is_control] == ["greedy"]
    assert sorted(e.label for e in plain) == [
        "Greedy",
        "S2T (teacher), kl, tau 5 %, K 8",
        "Teacher alone",
        "Tuned",
    ]
    table = ablation_table(entries)
    assert table is not None
    gains = table.data.set_index(["student", "method"])["delta"]
    gain, _ = gains["embedded/student with made/my-adapter"]
    assert gain > 0 and "S2T (teacher), entropy64, tau 5 %, K 8" not in gains["embedded/student"]
    by_name = {run.name: run for run in runs}
    assert greedy_control(by_name["tuned_s2t"], runs) is by_name["tuned"]
    assert greedy_control(by_name["s2t_kl_tau5"], runs) is by_name["greedy"]
    assert greedy_control(by_name["tuned_s2t"], [by_name["greedy"]]) is None
    assert greedy_control(run_of("distil"), runs) is by_name["greedy"]


def test_a_trace_belongs_to_the_run_that_wrote_it(tmp_path: Path) -> None:
    """Of two runs whose traces had one name in two folders the first one gave its scores to both."""

    def traced(folder: str, threshold: float, top_k: int = 8) -> Path:
        def change(content: dict[str, Any]) -> None:
            content["config"]["model_args"]["trace"] = str(tmp_path / folder / "trace.jsonl")
            content["config"]["s2t_eval"]["policy"] |= {"threshold": threshold, "top_k": top_k}

        return edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / folder / "s2t.json", change)

    runs = read_runs([traced("a", 1.0), traced("b", 2.0), traced("c", 2.0, 4)])
    settings = {"task": runs[0].task, "method": "s2t", "trigger": "kl", "doc_id": 0}

    def found(path: Path, threshold: float) -> Run | None:
        return run_of_trace(Trace(path, [{**settings, "threshold": threshold}]), runs)

    assert found(tmp_path / "b" / "trace.jsonl", 2.0) is runs[1]
    assert found(tmp_path / "c" / "trace.jsonl", 2.0) is runs[2]
    assert found(Path("moved/trace.jsonl"), 1.0) is runs[0]
    assert found(Path("moved/trace.jsonl"), 2.0) is None  # either of two could have written it
    assert found(Path("other.jsonl"), 3.0) is None

    def of_other_direction(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"]["trigger"]["direction"] = "teacher_student"

    runs.append(read_runs([edited(traced("d", 4.0), tmp_path / "d.json", of_other_direction)])[0])
    assert found(tmp_path / "d" / "trace.jsonl", 4.0) is runs[3]  # a trace names the trigger alone
