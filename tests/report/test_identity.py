"""Which runs are one thing run twice: everything else stays in the table, or is refused by it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.analysis.grid import is_done
from s2t_eval.report.blocks import arrange
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.compare import compare
from s2t_eval.report.costs import costs
from s2t_eval.report.main_table import main_table
from s2t_eval.report.origin import require_one_origin
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.report.seeds_table import seeds_table
from s2t_eval.report.shape import BACKEND_INFO, OPTIONAL, POLICY
from s2t_eval.report.submission import details
from s2t_eval.report.write import Options, make_tables
from tests.report_helpers import EMBEDDED, edited, other_limit

Change = Callable[[dict[str, Any]], object]


def info(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["config"]["s2t_eval"]
    return entry


def stock(content: dict[str, Any]) -> None:
    """As if stock `hf` had made the run."""
    content["config"].update(model="hf", model_args={"pretrained": "org/model"}, model_dtype="torch.float32")
    del content["config"]["s2t_eval"]


def two_runs(tmp_path: Path, name: str, change: Change) -> list[Run]:
    """A committed run and a newer copy of it with changed content, read together."""

    def newer(content: dict[str, Any]) -> None:
        content["date"] = content["date"] + 60.0
        change(content)

    edited(EMBEDDED / f"{name}.json", tmp_path / "old.json", len)
    edited(EMBEDDED / f"{name}.json", tmp_path / "new.json", newer)
    return read_runs([tmp_path])


def other_prompts(content: dict[str, Any]) -> None:
    info(content)["prompt_hashes"]["s2t_arith"] = "0" * 16
    lines = content["documents"]["s2t_arith"]
    for at, line in enumerate(lines[1:], 1):
        doc_id, doc_hash, _, *others = line.split(" ")
        lines[at] = " ".join([doc_id, doc_hash, "0" * 16, *others])


DIFFERENT: dict[str, tuple[str, Change]] = {
    "folder of tah": ("tah", lambda c: info(c).update(tah_hash="0" * 16)),
    "threshold of tah": ("tah", lambda c: info(c).update(threshold=0.5)),
    "depth of tah": ("tah", lambda c: info(c).update(max_depth=3)),
    "oracle of tah": ("tah", lambda c: info(c).update(oracle="0" * 16)),
    "beam": ("tot", lambda c: info(c)["search"].update(beam=4)),
    "greedy search": ("tot", lambda c: info(c).update(sampling=None)),
    "delimiter": ("specreason", lambda c: info(c).update(delimiter="line")),
    "longest step": ("specreason", lambda c: info(c).update(max_step=64)),
    "temperature": ("maj8", lambda c: info(c)["sampling"].update(temperature=1.0)),
    "calibration": ("s2t_kl_tau5", lambda c: info(c).update(calibration="0" * 16)),
    "warmup": ("s2t_kl_tau5", lambda c: info(c)["policy"].update(warmup=7)),
    "teacher": ("s2t_kl_tau5", lambda c: info(c).update(teacher="0" * 16)),
    "dtype": ("greedy", lambda c: info(c).update(dtype="torch.bfloat16")),
    "attention": ("greedy", lambda c: c["config"]["model_args"].update(attn_implementation="eager")),
    "prompts": ("greedy", other_prompts),
    "limit": ("greedy", other_limit),
    "documents": ("greedy", lambda c: c["n-samples"]["s2t_arith"].update(effective=299)),
    "version": ("greedy", lambda c: c["versions"].update(s2t_arith=2.0)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_runs_are_both_read(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newer one replaced the older: two thresholds of TaH were "two runs of TaH: taking the newer"."""
    name, change = DIFFERENT[what]
    assert [run.name for run in two_runs(tmp_path, name, change)] == ["new", "old"]
    assert capsys.readouterr().err == ""


def moved(content: dict[str, Any]) -> None:
    info(content)["pretrained"] = "/models/student"
    content["config"]["model_args"]["pretrained"] = "/models/student"


SAME: dict[str, Change] = {
    "commit": lambda c: info(c).update(commit="f" * 40, code="f" * 40, version="9.9"),
    "machine": lambda c: info(c).update(device="cuda:0", packages={}, steps_at_once=2, batch_size=1),
    "costs": lambda c: info(c)["telemetry"].update(seconds=1e3, tokens=1),
    "teacher's size": lambda c: info(c).update(teacher_parameters=10**9),
    "an entry that does not apply": lambda c: info(c).update(think_end_token=None, oracle=None),
    "a moved checkpoint": moved,
    "prompts of another task": lambda c: info(c)["prompt_hashes"].update(other="0" * 16),
}


@pytest.mark.parametrize("what", SAME)
def test_one_thing_run_again_replaces_the_older_run(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run.name for run in two_runs(tmp_path, "s2t_kl_tau5", SAME[what])] == ["new"]
    assert "with equal settings: taking the newer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda config: config["model_args"].update(load_in_4bit=True), 2),
        (lambda config: config.update(model_args="pretrained=org/model,parallelize=True"), 2),
        (lambda config: config.update(model_dtype="torch.bfloat16"), 2),
        (lambda config: config["model_args"].update(device="cpu", batch_size=4), 1),
        (lambda config: config.update(model_args="pretrained=org/model"), 1),
    ],
)
def test_runs_of_stock_hf_are_told_apart_by_their_arguments(
    change: Change, number: int, tmp_path: Path
) -> None:
    stock_file = edited(EMBEDDED / "greedy.json", tmp_path / "a.json", stock)
    edited(stock_file, tmp_path / "b.json", lambda content: change(content["config"]))
    assert len(read_runs([tmp_path])) == number


def test_the_chat_template_tells_prompts_apart_that_have_no_hash(tmp_path: Path) -> None:
    def without_samples(content: dict[str, Any]) -> None:
        stock(content)
        del content["documents"]
        content["task_hashes"] = {}

    plain = edited(EMBEDDED / "greedy.json", tmp_path / "a.json", without_samples)
    edited(plain, tmp_path / "b.json", lambda content: content.update(chat_template_sha="f" * 64))
    assert len(read_runs([tmp_path])) == 2


def test_the_table_refuses_what_reading_once_left_out(tmp_path: Path) -> None:
    """docs/guides/reports.md promises a refusal; the older run had vanished before it could be refused."""
    for what, message in (
        ("dtype", "of different dtypes: bfloat16"),
        ("limit", r"of different Arith \(embedded\) limits: 512"),
    ):
        runs = two_runs(tmp_path / what, *DIFFERENT[what])
        with pytest.raises(NotComparableError, match=message):
            require_one_origin(arrange(runs, other_limits=True))
    with pytest.raises(NotComparableError, match="300 documents have another prompt"):
        arrange(two_runs(tmp_path / "prompts", *DIFFERENT["prompts"]))


def test_rows_of_one_label_have_the_shortest_names_that_differ(tmp_path: Path) -> None:
    """Two files of one folder would have shared a row, in which one of them had no figure."""
    runs = two_runs(tmp_path, *DIFFERENT["threshold of tah"])
    assert [entry.label for entry in arrange(runs)] == ["TaH (new)", "TaH (old)"]
    assert len(main_table(arrange(runs), with_published=False).blocks[0].rows) == 2
    folder = tmp_path / "tah"
    for run in runs:
        edited(run.source, folder / "model" / f"results_{run.name}.json", len)
    labels = [entry.label for entry in arrange(read_runs([folder]))]
    assert labels == ["TaH (results_new)", "TaH (results_old)"]


def test_settings_without_a_column_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        info(content)["sampling"]["temperature"] = 1.0
        info(content)["seed"] = 1

    assert seeds_table(arrange(two_runs(tmp_path, "maj8", change))) is None
    seeds = two_runs(tmp_path / "seeds", "maj8", lambda content: info(content).update(seed=1))
    assert seeds_table(arrange(seeds)) is not None


def test_runs_with_two_teachers_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    """No seed trains the teacher: seed 0 with one and seed 1 with another had a mean and a deviation."""
    seeds = two_runs(tmp_path / "seeds", "s2t_random_tau5", lambda c: info(c).update(seed=1))
    assert seeds_table(arrange(seeds)) is not None
    teachers = two_runs(
        tmp_path / "teachers", "s2t_random_tau5", lambda c: info(c).update(seed=1, teacher="b" * 16)
    )
    assert seeds_table(arrange(teachers)) is None
    students = two_runs(  # a seed trains a student, and what selects
        tmp_path / "students",
        "pps_local_tau5",
        lambda c: info(c).update(seed=1, student="b" * 16, selector="b" * 16),
    )
    assert seeds_table(arrange(students, {"embedded/student": "student"})) is not None


def with_direction(content: dict[str, Any]) -> None:
    info(content)["policy"]["trigger"]["direction"] = "teacher_student"


def with_warmup(content: dict[str, Any]) -> None:
    info(content)["policy"]["warmup"] = 7


@pytest.mark.parametrize(
    ("change", "label", "detail"),
    [
        (
            with_direction,
            "S2T (teacher), kl:teacher_student, tau 5 %, K 8",
            ("trigger", "kl:teacher_student"),
        ),
        (with_warmup, "S2T (teacher), kl, tau 5 %, K 8, warm-up 7", ("warmup", "7")),
    ],
    ids=["direction", "warm-up"],
)
def test_directions_and_warm_ups_are_settings(
    change: Change, label: str, detail: tuple[str, str], tmp_path: Path
) -> None:
    """Rows of both had one label with the names of their folders, and were compared with each other."""
    base = two_runs(tmp_path / "base", "s2t_kl_tau5", change)
    assert [run.label for run in base] == [label, "S2T (teacher), kl, tau 5 %, K 8"]
    assert sorted(entry.label for entry in arrange(base)) == sorted(run.label for run in base)

    def calibrated_anew(content: dict[str, Any]) -> None:
        info(content)["calibration"] = "0" * 16
        info(content)["policy"]["threshold"] = 2.5

    new = [edited(run.source, tmp_path / f"again_{run.name}.json", calibrated_anew) for run in base]
    rows = compare(base, read_runs(new))
    assert [(row.base, row.new) for row in rows] == [
        (f"{run.name}: {run.label}", f"again_{run.name}: {run.label}") for run in base
    ]
    with pytest.raises(NotComparableError, match=r"has no counterpart"):
        compare(base, read_runs(new[:1]))
    assert [detail in details(run).items() for run in base] == [True, False]


def test_a_warm_up_that_all_rows_share_is_not_in_their_labels(tmp_path: Path) -> None:
    """The label of a row holds what tells it from others; greedy decoding has no step that fires."""
    late = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "late.json", with_warmup)
    labels = [entry.label for entry in arrange(read_runs([EMBEDDED / "greedy.json", late]))]
    assert labels == ["Greedy", "S2T (teacher), kl, tau 5 %, K 8"]
    beside = arrange(read_runs([late, EMBEDDED / "s2t_kl_tau1.json"]))
    assert [entry.label for entry in beside] == [
        "S2T (teacher), kl, tau 1 %, K 8",
        "S2T (teacher), kl, tau 5 %, K 8, warm-up 7",
    ]


def test_each_of_two_thresholds_is_compared_with_its_own(tmp_path: Path) -> None:
    """With one of them missing among the new runs, its baseline was compared with the other's new run."""
    base = two_runs(tmp_path / "base", *DIFFERENT["threshold of tah"])
    again = [edited(run.source, tmp_path / "new" / f"again_{run.name}.json", len) for run in base]
    rows = compare(base, read_runs([tmp_path / "new"]))
    assert [(row.base, row.new) for row in rows] == [
        ("new: TaH", "again_new: TaH"),
        ("old: TaH", "again_old: TaH"),
    ]
    again[0].unlink()
    with pytest.raises(NotComparableError, match=r"new \(TaH, .*has no counterpart"):
        compare(base, read_runs([tmp_path / "new"]))


# ---------------------------------------------------------------- null


def test_a_tree_at_temperature_0_is_read(tmp_path: Path) -> None:
    """Its sampling is null, on which reading, the report and a resumed `reproduce` ended with a traceback."""
    path = edited(EMBEDDED / "tot.json", tmp_path / "tot.json", lambda c: info(c).update(sampling=None))
    [run] = read_runs([path])
    assert (run.label, run.cost["texts"]) == ("Tree of Thoughts, bfs, loglik", 300)
    assert is_done(tmp_path)


NULLABLE: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], tuple[str, ...]]] = {
    "results": (lambda content: content, tuple(OPTIONAL)),
    "backend": (info, tuple(BACKEND_INFO)),
    "policy": (lambda content: info(content)["policy"], tuple(POLICY)),
    "telemetry": (
        lambda content: info(content)["telemetry"],
        ("texts", "realised_rate", "hit_rate", "tokens"),
    ),
    "metrics": (lambda content: content["higher_is_better"], ("s2t_arith",)),
}


DEPENDENT = {
    "teacher_parameters": {"billions_of_work"},
    **{name: {"method"} for name in ("step_score", "accept", "search")},
    "texts": {"cut_off"},
    "tokens": {"tokens", "tokens_per_correct", "computed_per_correct", "billions_of_work"},
}
"""Entry -> the columns of the costs that are made from it; without `telemetry` there are none at all."""


@pytest.mark.parametrize("name", ["specreason", "tot"])
def test_every_entry_that_may_be_missing_may_be_null(name: str, tmp_path: Path) -> None:
    source = json.loads((EMBEDDED / f"{name}.json").read_text())
    head, *lines = source["documents"]["s2t_arith"]
    source["documents"]["s2t_arith"] = [head, *lines[:3]]  # quick to read again and again
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(source))
    whole = costs(arrange(read_runs([path])))
    for place, entries in NULLABLE.values():
        for entry in entries:
            content = copy.deepcopy(source)
            place(content)[entry] = None
            path.write_text(json.dumps(content))
            left = costs(arrange(read_runs([path])))
            assert len(left) == (entry != "telemetry")
            changed = {column for column in left if not left[column].equals(whole[column])}
            assert changed <= DEPENDENT.get(entry, set()), entry


@pytest.mark.parametrize("part", NULLABLE)
def test_tables_are_made_of_entries_that_are_all_null(part: str, tmp_path: Path) -> None:
    place, entries = NULLABLE[part]
    null = dict.fromkeys(entries)
    path = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "a.json", lambda c: place(c).update(null))
    assert make_tables(arrange(read_runs([path])), Options())[0].name == "main"
