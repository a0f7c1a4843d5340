"""Costs that `s2t-eval compare` compares, on real results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2t_eval.report.compare import Rules, compare, failures
from s2t_eval.report.compare_text import markdown
from s2t_eval.report.runs import read_runs
from tests.commands import exit_code
from tests.report_helpers import EMBEDDED, edited

GREEDY = EMBEDDED / "greedy.json"


def test_costs_are_compared_too(tmp_path: Path) -> None:
    def grow(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["telemetry"]["forwards_per_token"] = 1.2

    dearer = edited(GREEDY, tmp_path / "greedy.json", grow)
    assert exit_code("compare", GREEDY, dearer) == 0
    assert exit_code("compare", GREEDY, dearer, "--fail_on", "cost") == 1
    assert exit_code("compare", GREEDY, dearer, "--fail_on", "cost", "--cost_threshold", 25) == 0
    rows = compare(read_runs([GREEDY]), read_runs([dearer]))
    assert failures(rows, ["change"]) == [
        "s2t_arith, greedy: Greedy: changed: 0 of 300 texts, forwards_per_token"
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("greedy", "prefill_tokens"),
        ("specreason", "teacher_generated"),
        ("specreason", "teacher_prefilled"),
        ("specreason", "discarded_tokens"),
        ("specreason", "rejected_steps"),
        ("specreason", "evaluation_tokens"),
    ],
)
@pytest.mark.parametrize("change", [-1, 1])
def test_every_count_of_a_deterministic_run_is_compared(
    file: str, name: str, change: int, tmp_path: Path
) -> None:
    """The counts of `tot` were mended, and the committed ones stayed wrong: the regression compared six of
    the counts, none of those that only some methods have."""
    committed = EMBEDDED / f"{file}.json"

    def miscount(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["telemetry"][name] += change

    changed = edited(committed, tmp_path / "changed.json", miscount)
    reasons = failures(compare(read_runs([committed]), read_runs([changed])), ["change"])
    assert len(reasons) == 1 and reasons[0].endswith(f"changed: 0 of 300 texts, {name}")


@pytest.mark.parametrize(
    ("verify", "model", "trigger", "is_compared"),
    [
        (None, "s2t", "kl", False),
        ("auto", "takeover", "kl", False),
        (1, "s2t", "kl", True),
        (8, "takeover", "kl", True),
        (None, "s2t", "entropy", True),
        (None, "pps_local", "kl", True),  # without an argument `verify`
    ],
)
def test_counts_that_depend_on_the_machine_s_speed_are_no_reason_to_fail(
    verify: object, model: str, trigger: str, is_compared: bool, tmp_path: Path
) -> None:
    """Under verify=auto two runs of one command had 569 and 736 calls of the teacher, and CI failed."""

    def run_with(calls: int) -> Any:
        def change(content: dict[str, Any]) -> None:
            config = content["config"]
            config["model"] = model
            config["model_args"]["verify"] = verify
            if verify is None:
                del config["model_args"]["verify"]
            config["s2t_eval"]["policy"]["trigger"] = {"name": trigger, "needs_teacher": trigger == "kl"}
            config["s2t_eval"]["telemetry"] |= {"teacher_calls": calls, "teacher_tokens": 2 * calls}

        return change

    base, new = (
        edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / f"{calls}" / "s2t.json", run_with(calls))
        for calls in (569, 736)
    )
    rows = compare(read_runs([base]), read_runs([new]))
    reasons = failures(rows, ["cost", "change"])
    assert rows[0].costs["teacher_calls"] == (569, 736)
    assert len(reasons) == (2 if is_compared else 0)
    assert ("verify=NUMBER" in markdown(rows, [], Rules())) is not is_compared
    rows[0].costs["tokens"] = (100, 200)
    assert failures(rows, ["change"])[0].endswith("tokens")  # the other counts are compared as before
