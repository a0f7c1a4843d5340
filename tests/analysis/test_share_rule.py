"""The rule of agreement and share, by hand and against the committed results of the embedded pair."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from s2t_eval.analysis.share_rule import measured_shares, read_agreement, share_rule, summary
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.cli import main
from s2t_eval.report.blocks import arrange
from s2t_eval.report.runs import read_runs
from s2t_eval.statistics import share_of_gain
from tests import learning
from tests.report_helpers import EMBEDDED, edited, scored

NAMES = "greedy s2t_kl_tau5 s2t_router_tau5 takeover_router_tau5 pps_local_tau1 pps_local_tau5".split()
RUNS = [EMBEDDED / f"{name}.json" for name in NAMES]
"""Two runs of a local selector, the teacher's picks at the steps of one, and runs that differ from these."""


def agreement(**changed: Any) -> pd.DataFrame:
    """A selector's agreement at one trigger and rate, as a committed run names it."""
    [run] = read_runs([EMBEDDED / "pps_local_tau5.json"])
    row = {
        "selector": "embedded",
        "checkpoint": run.settings.checkpoint,
        "trigger": "router",
        "tau": 0.05,
        "proposer": "base",
        "proposal_weight": 0.0,
        "adapter_scale": 1.0,
        "agree": 0.9,
        "greedy_agree": 0.6,
        "steps": 100,
        "share": 0.75,
        "low": 0.6,
        "high": 0.9,
    }
    return pd.DataFrame([{**row, **changed}])


def test_runs_are_measured_against_the_teacher_s_picks_at_the_same_steps() -> None:
    """Of the points of the router with the teacher's picks, not of the KL trigger."""
    entries = arrange(read_runs(RUNS))
    data = measured_shares(entries, [agreement(tau=0.01), agreement()])
    [row] = data.to_dict("records")
    right = {
        name: read_runs([EMBEDDED / f"{name}.json"])[0].scored["score"].sum()
        for name in ("greedy", "s2t_router_tau5", "pps_local_tau5")
    }
    full = right["s2t_router_tau5"] - right["greedy"]
    assert row["measured"] == pytest.approx((right["pps_local_tau5"] - right["greedy"]) / full)
    assert row["measured_low"] < row["measured"] < row["measured_high"]
    assert (row["n"], row["tau"], row["share"]) == (300, 0.05, 0.75) and row["gain"] == pytest.approx(
        full / 3
    )
    others = (
        {"checkpoint": "0" * 16},
        {"trigger": "entropy"},
        {"proposer": "tuned"},
        {"proposal_weight": 1.0},
    )
    for other in (*others, {"adapter_scale": 0.5}):
        assert not len(measured_shares(entries, [agreement(**other)]))
    assert not len(measured_shares(entries, []))


def test_another_selector_s_router_is_no_reference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All routers are named alike: a selector was measured against steps at which another's router fires.

    Where there is no reference the run was left out without a word."""
    folder, other = agreement()["checkpoint"].item(), "0" * 16

    def of_other(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["router"] = other

    reference = edited(EMBEDDED / "s2t_router_tau5.json", tmp_path / "s2t.json", of_other)
    runs = [EMBEDDED / "greedy.json", EMBEDDED / "pps_local_tau5.json", reference]
    entries = arrange(read_runs(runs))
    assert not len(measured_shares(entries, [agreement()]))
    [line] = [record.getMessage() for record in caplog.records]
    assert "its share of the gain is not measured" in line and "with trigger=router, tau=0.05 and K 8" in line
    # A default that was chosen by runs of that folder changes the hash, but not the router.
    chosen = agreement(same_weights=f"{other} {folder}")
    shares = measured_shares(entries, [chosen])
    assert shares["tau"].tolist() == [0.05]
    # A table of before the choice does not hide that, and the new table keeps it.
    assert measured_shares(entries, [agreement(), chosen])["tau"].tolist() == [0.05]
    again = shares.drop(
        columns=["student", "benchmark", "n", "gain", "measured", "measured_low", "measured_high"]
    )
    assert measured_shares(entries, [again])["tau"].tolist() == [0.05]


@pytest.mark.parametrize("policy", [{"warmup": 7}, {"top_k": 4}])
def test_picks_with_another_warm_up_or_k_are_no_reference(policy: dict[str, int], tmp_path: Path) -> None:
    """They select at other steps of the same trigger, or among other candidates."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"] |= policy

    reference = edited(EMBEDDED / "s2t_router_tau5.json", tmp_path / "s2t.json", change)
    runs = [EMBEDDED / "greedy.json", EMBEDDED / "pps_local_tau5.json", reference]
    assert not len(measured_shares(arrange(read_runs(runs)), [agreement()]))


def test_the_gain_of_one_of_two_teachers_is_no_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A selector's run names no teacher: it was measured against the first, whichever that was."""

    def of_other(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["teacher"] = "b" * 16

    def later(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"]["warmup"] = 7

    reference = EMBEDDED / "s2t_router_tau5.json"
    runs = [EMBEDDED / "greedy.json", EMBEDDED / "pps_local_tau5.json"]
    other = edited(reference, tmp_path / "other.json", of_other)
    for one in (reference, other):
        assert len(measured_shares(arrange(read_runs([*runs, one])), [agreement()])) == 1
    assert not caplog.records
    assert not len(measured_shares(arrange(read_runs([*runs, reference, other])), [agreement()]))
    [line] = [record.getMessage() for record in caplog.records]
    assert "trigger=router, tau=0.05 and K 8, of one teacher and with the run's warm-up and dtype" in line
    late = edited(reference, tmp_path / "late.json", later)
    assert not len(measured_shares(arrange(read_runs([*runs, late])), [agreement()]))


def test_runs_without_a_common_scored_document_are_not_measured(tmp_path: Path) -> None:
    one = scored(tmp_path / "one", greedy=[0, 1], s2t_router_tau5=[0], pps_local_tau5=[0])
    none = scored(tmp_path / "none", greedy=[0, 1], s2t_router_tau5=[0], pps_local_tau5=[1])
    assert measured_shares(arrange(read_runs(one)), [agreement()])["n"].tolist() == [1]
    assert not len(measured_shares(arrange(read_runs(none)), [agreement()]))


def test_the_figure_says_how_well_the_rule_fits() -> None:
    rows = measured_shares(arrange(read_runs(RUNS)), [agreement()])
    far = rows.assign(measured=0.2, measured_low=0.1, measured_high=0.3)
    plot = share_rule(pd.concat([rows, far]))
    assert plot is not None and plot.data["is_within"].tolist() == [True, False]
    difference = 100 * (rows["measured"].iloc[0] - 0.75)
    expected = (difference + 100 * (0.2 - 0.75)) / 2
    assert (
        f"overlap at 1 of 2 points; the measured share differs from the expected one by {expected:+.0f} "
        in (summary(plot.data))
    )
    assert "by 55 at most." in summary(plot.data)
    assert share_rule(rows.iloc[:0]) is None and share_rule(rows.assign(share=float("nan"))) is None


def test_folders_and_tables_are_read_and_others_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = learning.selector("direct")
    table = read_agreement(folder)
    assert set(table["checkpoint"]) == {folder_hash(folder)} and set(table["selector"]) == {folder.name}
    assert {"kl", "entropy", "router"} <= set(table["trigger"])
    assert (table["agree"].between(0, 1) & (table["steps"] > 0)).all()
    table.to_csv(tmp_path / "agreement.csv", index=False)
    again = read_agreement(tmp_path / "agreement.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    (tmp_path / "other.csv").write_text("selector,tau\nmine,0.05\n")
    with pytest.raises(ValueError, match=r"other\.csv: it has no column checkpoint, trigger, proposer"):
        read_agreement(tmp_path / "other.csv")
    with pytest.raises(ValueError, match=r"expected a CSV file, or a selector folder"):
        read_agreement(tmp_path)
    # These were named in the words of pandas alone, and as tracebacks.
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty\.csv: it cannot be read as CSV \(No columns to parse"):
        read_agreement(tmp_path / "empty.csv")
    for content in ('{"training": []}', '{"training": {"agreement": []}}', '{"training": {"agreement": 3}}'):
        (tmp_path / "selector.json").write_text(content)
        with pytest.raises(ValueError, match=r"expected a CSV file, or a selector folder"):
            read_agreement(tmp_path)
    with pytest.raises(SystemExit):
        main(["analyze", "--agreement", str(folder), "--out", str(tmp_path / "out")])
    assert "nothing to analyse" in capsys.readouterr().err


def test_analyze_draws_the_rule(tmp_path: Path) -> None:
    agreement().to_csv(tmp_path / "agreement.csv", index=False)
    out = tmp_path / "analysis"
    main(
        [
            "analyze",
            "--results",
            *map(str, RUNS),
            "--agreement",
            str(tmp_path / "agreement.csv"),
            "--out",
            str(out),
        ]
    )
    assert "The intervals overlap at 1 of 1 points" in (out / "share_rule.svg").read_text()
    assert read_agreement(out / "share_rule.csv")["tau"].tolist() == [0.05]
    assert "Share of the gain kept, expected from Agree@1 and measured" in (out / "analysis.md").read_text()
    again = tmp_path / "again"
    main(["analyze", "--agreement", str(out / "share_rule.csv"), "--out", str(again)])
    assert (again / "share_rule.csv").read_text() == (out / "share_rule.csv").read_text()


def test_an_expected_share_without_an_interval_is_a_point() -> None:
    rows = measured_shares(
        arrange(read_runs(RUNS)), [agreement(share=0.9, low=float("nan"), high=float("nan"))]
    )
    outside = rows.assign(measured=0.78, measured_low=0.76, measured_high=0.8)
    plot = share_rule(pd.concat([rows, outside]))
    assert plot is not None and plot.data["is_within"].tolist() == [True, False]


def test_a_measured_share_of_one_document_is_a_point() -> None:
    rows = measured_shares(arrange(read_runs(RUNS)), [agreement(share=0.9, low=0.85, high=0.95)])
    one = rows.assign(measured_low=float("nan"), measured_high=float("nan"))
    plot = share_rule(pd.concat([one.assign(measured=share) for share in (0.9, 0.8, 1.0)]))
    assert plot is not None and plot.data["is_within"].tolist() == [True, False, False]


def test_a_bound_beside_its_share_by_rounding_is_drawn() -> None:
    """Five documents with the same gains: the bootstrap's bounds miss the share in the last digit."""
    share, interval = share_of_gain(np.full(5, 0.3666666666666667), np.full(5, 2 / 3), np.full(5, 1 / 3))
    assert interval.low > share or interval.high < share
    bounds = {"measured_low": interval.low, "measured_high": interval.high}
    rows = measured_shares(arrange(read_runs(RUNS)), [agreement()]).assign(measured=share, **bounds)
    assert share_rule(rows) is not None


def test_a_folder_whose_shares_are_all_undefined_is_read(tmp_path: Path) -> None:
    """Their JSON is null, and a column of nothing else holds objects, which cannot be drawn."""
    selector = tmp_path / "selector"
    shutil.copytree(learning.selector("direct"), selector)

    def undefine(content: dict[str, Any]) -> None:
        for row in content["training"]["agreement"]:
            row.update(low=None, high=None)

    edited(selector / "selector.json", selector / "selector.json", undefine)
    table = read_agreement(selector)
    assert table[["low", "high"]].isna().all(axis=None)
    assert set(map(str, table.dtypes[["share", "low", "high"]])) == {"float64"}
