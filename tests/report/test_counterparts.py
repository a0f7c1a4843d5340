"""Which runs are compared with each other, on real results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.compare import compare
from s2t_eval.report.counterparts import match
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from tests.report_helpers import EMBEDDED, REAL, edited

GREEDY = EMBEDDED / "greedy.json"


def test_a_task_that_vanished(tmp_path: Path) -> None:
    with pytest.raises(NotComparableError, match="task s2t_arith: the baseline has it, the new"):
        compare(read_runs([GREEDY]), read_runs([REAL]))


def test_a_method_that_vanished() -> None:
    new = read_runs([GREEDY, EMBEDDED / "maj8.json"])
    with pytest.raises(NotComparableError, match=r"distil .* has no counterpart among"):
        compare(read_runs([EMBEDDED]), new)


def copies(folder: Path, changes: dict[str, Callable[[dict[str, Any]], object]]) -> list[Run]:
    """Two runs of the baseline and a third one, each changed."""
    for name in ("greedy", "s2t_kl_tau5", "pps_local"):
        edited(EMBEDDED / f"{name}.json", folder / f"{name}.json", changes.get(name, len))
    return read_runs([folder])


def backend(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["config"]["s2t_eval"]
    return entry


def calibrated_anew(content: dict[str, Any]) -> None:
    backend(content)["calibration"] = "another"
    backend(content)["policy"]["threshold"] *= 1 + 1e-6


def trained_anew(content: dict[str, Any]) -> None:
    backend(content)["selector"] = "another"


def test_the_threshold_of_a_rate_is_no_setting(tmp_path: Path) -> None:
    """Calibrated on another processor, it had another last digit, and no counterpart under an equal label."""
    base = copies(tmp_path / "base", {})
    rows = compare(base, copies(tmp_path / "new", {"s2t_kl_tau5": calibrated_anew}))
    assert [row.base for row in rows] == [row.new for row in rows] and len(rows) == 3


def test_of_two_calibrations_each_has_its_own_counterpart(tmp_path: Path) -> None:
    """Their dtype may be another one, by which no run is equal: the thresholds then tell them apart."""

    def in_half(content: dict[str, Any]) -> None:
        backend(content)["dtype"] = "float16"

    pairs = []
    for folder, change in (("base", len), ("new", in_half)):
        first = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / folder / f"{folder}_1.json", change)
        second = edited(first, tmp_path / folder / f"{folder}_2.json", calibrated_anew)
        pairs.append(read_runs([first, second]))
    base, new = pairs
    assert [(one.name, other.name) for one, other in match(base, new)] == [
        ("base_1", "new_1"),
        ("base_2", "new_2"),
    ]
    with pytest.raises(NotComparableError, match=r"base_2 .* has no counterpart .* new_1 \(.*; threshold "):
        match(base, new[:1])


def test_a_selector_that_was_trained_anew_is_compared_under_its_name(tmp_path: Path) -> None:
    base = copies(tmp_path / "base", {})
    new = copies(tmp_path / "new", {"pps_local": trained_anew})
    assert [(one.name, other.name) for one, other in match(base, new)] == [
        (run.name, run.name) for run in base
    ]
    [moved] = [run for run in new if run.name == "pps_local"]
    renamed = [run for run in new if run is not moved] + [dataclasses.replace(moved, name="pps")]
    message = r"pps_local .* has no counterpart .*pps \(PPS-Local.*; checkpoint \w+ against another\)"
    with pytest.raises(NotComparableError, match=message):
        match(base, renamed)


def test_the_teacher_alone_is_not_taken_for_the_student(tmp_path: Path) -> None:
    """Both are `greedy`; once a baseline's teacher was compared with the new student, for want of its own."""
    for path in EMBEDDED.glob("*.json"):
        if path.stem not in ("teacher", "calibration"):
            (tmp_path / path.name).write_text(path.read_text())
    with pytest.raises(NotComparableError, match=r"teacher \(Greedy, embedded/teacher\) has no counterpart"):
        compare(read_runs([EMBEDDED]), read_runs([tmp_path]))
