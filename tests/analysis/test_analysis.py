"""Analyses against hand-made steps, the committed results, and the embedded pair itself."""

from __future__ import annotations

import functools
import json
import shutil
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from sqlitedict import SqliteDict

from s2t_eval.analysis import grid as analysis_grid
from s2t_eval.analysis.bottleneck import trigger_or_selection
from s2t_eval.analysis.grid import Point, is_done, points, run_grid
from s2t_eval.analysis.rescore import Rescorer
from s2t_eval.analysis.rescue import flips_text, outcome, picks, rescue_map
from s2t_eval.analysis.scans import k_scan, scan_data, takeover_against_selection, tau_scan
from s2t_eval.analysis.selection import error_split
from s2t_eval.analysis.steps import MISSED, groups, positions, top
from s2t_eval.analysis.sufficiency import hit_rates, smallest_k
from s2t_eval.analysis.triggers import gain_kept, trigger_roc
from s2t_eval.analysis.write import of_labels
from s2t_eval.cli.analyze import named_folders
from s2t_eval.report.blocks import Entry, arrange
from s2t_eval.report.runs import read_runs
from s2t_eval.report.traces import load_decode, read_trace
from s2t_eval.statistics import clustered_wilson, holm, share_of_gain, wilson
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.held_out import split_held_out
from tests import learning
from tests.commands import exit_code
from tests.harness_helpers import STUDENT, TEACHER, counts, evaluate, logits_after, model
from tests.report_helpers import EMBEDDED, edited, scored

TRACE = EMBEDDED / "traces" / "s2t_kl_tau5.jsonl"
NAMES = "greedy teacher s2t_kl_tau1 s2t_kl_tau5 s2t_random_tau5 takeover_kl_tau5".split()
FEW = [EMBEDDED / f"{name}.json" for name in NAMES]
"""Runs that have every figure of results."""


@dataclass
class Labelled:
    """The columns of a label set that analysis reads."""

    problem_id: str
    output_ids: Any
    kl_student_teacher: Any
    kl_teacher_student: Any
    entropy: Any
    margin: Any
    teacher_argmax: Any
    kept: Any
    candidates: Any
    student_log_probs: Any
    teacher_log_probs: Any
    entropy64: Any = ()
    has_exact_entropy: bool = True


@pytest.fixture
def labelled() -> list[Labelled]:
    """Ten steps, candidates at the four highest in KL; the teacher's token is 1st, 2nd, 3rd, missing."""
    kl = np.array([0.1, 9, 0.2, 8, 0.3, 7, 0.4, 6, 0.5, 0.6])
    kept = np.array([1, 3, 5, 7])
    argmax = np.zeros(10, dtype=int)
    argmax[kept] = [10, 11, 12, 99]
    student = np.log([[0.5, 0.3, 0.1]] * 4)
    teacher = np.log([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.2, 0.3, 0.4], [0.3, 0.2, 0.1]])
    candidates = np.array([[10, 11, 12]] * 4)
    entropy = np.array([0, 9, 0, 8, 0, 1, 5, 0.5, 0, 0.1])
    return [Labelled("p", kl, kl, kl * 2, entropy, -kl, argmax, kept, candidates, student, teacher)]


def test_steps_and_hit_rates(labelled: list[Labelled]) -> None:
    steps = groups(labelled, "B")
    assert steps["rank"].tolist() == [1, 2, 3, MISSED]
    assert steps["t"].tolist() == [1, 3, 5, 7]
    data = hit_rates(steps).data
    assert data["k"].tolist() == [1, 2, 3]  # no more than there are candidates
    assert data["hit_rate"].tolist() == [25, 50, 75] and (data["n"] == 4).all()
    assert data["low"].isna().all()  # one text has no interval
    assert smallest_k(steps).data["kl"].tolist() == [9, 8, 7, 6]


def test_intervals_of_steps_are_over_texts(labelled: list[Labelled]) -> None:
    """Wilson's interval took the steps of a text as independent: ten copies of each step made it narrower."""
    [one] = labelled
    other = replace(
        one, problem_id="q", teacher_argmax=np.where(one.teacher_argmax == 99, 10, one.teacher_argmax)
    )
    texts = pd.concat([groups([one], "B"), groups([other], "B")], ignore_index=True)
    plain, copied = hit_rates(texts).data, hit_rates(pd.concat([texts] * 10, ignore_index=True)).data
    assert (plain["texts"] == 2).all() and (copied["n"] == 80).all()
    bounds = ["low", "high"]
    three, three_copied = (data.set_index("k").loc[3, bounds].tolist() for data in (plain, copied))
    assert three_copied == pytest.approx(three)  # 3 of 4 and 4 of 4, however often they are copied
    assert three_copied[0] < 100 * wilson(70, 80).low - 10
    every = pd.concat([positions([one], "B"), positions([other], "B")], ignore_index=True)
    roc = trigger_roc(every, tau=0.4).data.set_index("signal")
    assert roc.loc["entropy", "texts"] == 2 and roc.loc["entropy", "recall"] == 75
    low, high = clustered_wilson([3, 3], [4, 4])
    assert roc.loc["entropy", ["low", "high"]].tolist() == pytest.approx([100 * low, 100 * high])


def test_top_steps_by_benchmark(labelled: list[Labelled]) -> None:
    every, steps = positions(labelled, "B"), groups(labelled, "B")
    assert top(steps, every, 0.2)["t"].tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"5 steps of B lie above KL .* candidates at 4 of them; take a sm"):
        top(steps, every, 0.5)


def test_steps_at_the_quantile_itself_are_no_top_steps(labelled: list[Labelled]) -> None:
    """Of ten steps one is above the quantile of 80 %, which three share: as in `is_top`, none of those is."""
    [one] = labelled
    kl = np.array([0.1, 9, 0.2, 8, 0.3, 8, 0.4, 8, 0.5, 0.6])
    tied = [replace(one, kl_student_teacher=kl)]
    assert top(groups(tied, "B"), positions(tied, "B"), 0.2)["t"].tolist() == [1]


def test_labels_without_a_top_step_are_refused_in_one_line(labelled: list[Labelled]) -> None:
    """The smallest of no widths: `min() arg is an empty sequence`."""
    [one] = labelled
    equal = replace(one, kl_student_teacher=np.ones(10))
    bare = {name: getattr(one, name)[:0] for name in ("kept", "candidates")}
    message = r"no step of B lies above KL 1 \(n = 10\); label more problems, or take a larger --tau"
    for texts in ([equal], [replace(equal, **bare)]):
        with pytest.raises(ValueError, match=message):
            of_labels({"B": texts}, 0.1, None, {})
    with pytest.raises(ValueError, match="no step of the texts lies above KL 1 "):
        trigger_roc(positions([equal], "B"))


def test_a_selector_whose_texts_have_no_top_step_is_refused_in_one_line(labelled: list[Labelled]) -> None:
    [one] = labelled
    low = replace(one, problem_id="low", kl_student_teacher=one.kl_student_teacher / 1000)
    learned = {"low": SimpleNamespace(router=None, scores=dict.fromkeys(map(int, one.kept), np.zeros(3)))}
    with pytest.raises(ValueError, match=r"^--selector: no text .* one of the 2 top steps by KL \(tau 0.1\)"):
        of_labels({"B": [one, low]}, 0.1, None, learned)


def test_error_split_by_hand(labelled: list[Labelled]) -> None:
    data = error_split(groups(labelled, "B"), {"greedy": "student", "oracle": "teacher"}, (1, 2, 3, 16)).data
    greedy, oracle = (data[data["selector"] == name].set_index("k") for name in ("greedy", "oracle"))
    assert list(greedy.index) == [1, 2, 3]
    assert greedy["delta_hit"].tolist() == [75, 50, 25]
    assert greedy["delta_sel"].tolist() == [0, 25, 50]  # greedy takes the first, the teacher 2nd and 3rd
    assert oracle["delta_sel"].tolist() == [0, 0, 0]
    # The last step's token is no candidate, but the teacher likes the first candidate best.
    assert greedy.loc[3, "agree_at_1"] == 50 and oracle.loc[3, "agree_at_1"] == 100
    assert oracle.loc[3, "spearman"] == pytest.approx(1)
    assert greedy.loc[2, "spearman"] == pytest.approx((1 - 1 - 1 + 1) / 4)


def test_trigger_roc_by_hand(labelled: list[Labelled]) -> None:
    data = trigger_roc(positions(labelled, "B"), tau=0.4).data.set_index("signal")
    assert list(data.index) == ["entropy", "margin", "position"]  # neither a router nor a tokenizer here
    assert data.loc["entropy", "positives"] == 4
    assert data.loc["entropy", "recall"] == 75  # 9, 8, 5, 1 fire; 5 is no top step
    # 24 pairs of a top and another step; only (1, 5) and (0.5, 5) are in the wrong order.
    assert data.loc["entropy", "auroc"] == pytest.approx(22 / 24)
    assert data.loc["margin", "auroc"] == 0


def test_the_training_free_triggers_are_lines_of_the_study(labelled: list[Labelled]) -> None:
    """`entropy64` where the labels have it, `line_entropy` where the tokens that end a line are known."""
    [one] = labelled
    ends_line = np.arange(10) == 9  # token 9 alone ends a line
    one.output_ids = np.array([0, 9, 0, 8, 0, 7, 0, 6, 0, 0])
    with_both = replace(one, entropy64=one.entropy / 2)
    data = trigger_roc(positions([with_both], "B", ends_line), tau=0.4).data.set_index("signal")
    assert list(data.index) == ["entropy", "entropy64", "margin", "line_entropy", "position"]
    assert data.loc["entropy64", "auroc"] == data.loc["entropy", "auroc"]
    # A line begins at steps 0 and 2, whose entropy is 0, so nothing fires before another.
    assert data.loc["line_entropy", "auroc"] == 0.5
    # Of steps 0 to 3, those of the earliest positions, 1 and 3 are top steps.
    assert data.loc["position", "recall"] == 50
    # Any four of the ten equal steps may fire; the first four of the file have two of the four top steps.
    assert data.loc["line_entropy", "recall"] == 40
    mixed = pd.concat([positions([with_both], "B"), positions([one], "C")])
    assert "entropy64" not in set(trigger_roc(mixed, tau=0.4).data["signal"])  # one set has none


def test_share_of_gain_on_a_lopsided_sample() -> None:
    base = np.zeros(50)
    full, half, none = base.copy(), base.copy(), base.copy()
    full[:8] = half[:4] = 1
    share, (low, high) = share_of_gain(half, full, base)
    assert share == 0.5 and 0.1 < low < 0.5 < high < 0.9
    assert share_of_gain(full, full, base) == (1.0, (1.0, 1.0))
    assert np.isnan(share_of_gain(full, none, base)[0])


def test_a_share_of_one_document_has_no_interval_and_one_of_none_is_undefined() -> None:
    """All resamples of one document are alike, so tables showed "100 % (100 to 100)"."""
    one, zero, nothing = np.ones(1), np.zeros(1), np.zeros(0)
    share, interval = share_of_gain(one, one, zero)
    assert share == 1 and np.isnan(interval).all()
    assert np.isnan(
        [share_of_gain(nothing, nothing, nothing)[0], *share_of_gain(nothing, nothing, nothing)[1]]
    ).all()
    with pytest.raises(ValueError, match="got 1 and 0"):
        share_of_gain(one, one, nothing)


# ---------------------------------------------------------------- results


@functools.cache
def committed() -> list[Entry]:
    """All committed runs of the embedded pair."""
    return arrange(read_runs([EMBEDDED]))


def test_gain_kept_from_the_committed_results() -> None:
    plot = gain_kept(committed())
    assert plot is not None
    data = plot.data.set_index("trigger")
    right = {
        p: read_runs([EMBEDDED / f"{p}.json"])[0].scored["score"].sum() for p in ("greedy", "s2t_kl_tau5")
    }
    random = read_runs([EMBEDDED / "s2t_random_tau5.json"])[0].scored["score"].sum()
    expected = 100 * (random - right["greedy"]) / (right["s2t_kl_tau5"] - right["greedy"])
    assert data.loc["random", "share"] == pytest.approx(expected)
    assert data.loc["random", "low"] < expected < data.loc["random", "high"] < data.loc["entropy", "low"]
    assert gain_kept(arrange(read_runs([EMBEDDED / "greedy.json"]))) is None


def test_lines_of_a_figure_name_the_student_and_the_k_where_it_has_several(tmp_path: Path) -> None:
    """Two students, or two numbers of candidates, had lines of one label."""

    def other_student(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {"pretrained": "me/other", "student": "0" * 16}

    def other_k(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"]["top_k"] = 4

    names = ("greedy", "s2t_kl_tau5", "s2t_entropy_tau5", "takeover_kl_tau5")
    own = [EMBEDDED / f"{name}.json" for name in names]
    for change, paths in ((other_student, own), (other_k, own[1:3])):
        others = [edited(path, tmp_path / change.__name__ / path.name, change) for path in paths]
        entries = arrange(read_runs([*own, *others]))
        for plot in (gain_kept(entries), takeover_against_selection(entries)):
            assert plot is not None and len(plot.data) == 2
            labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
            assert len(set(labels)) == 2
    alone = gain_kept(arrange(read_runs(own)))
    assert alone is not None
    [label] = alone.figure.axes[0].get_yticklabels()
    assert label.get_text() == "entropy, tau 5 %\nArith (embedded)"


@pytest.mark.parametrize(
    ("entries", "policy"),
    [
        ({"teacher": "b" * 16}, {}),
        ({"teacher_dtype": "torch.bfloat16"}, {}),
        ({"dtype": "torch.bfloat16"}, {}),
        ({}, {"trigger": {"name": "kl", "direction": "teacher_student"}}),
        ({}, {"warmup": 7}),
    ],
    ids=["teacher", "dtype of the teacher", "dtype", "direction", "warm-up"],
)
def test_the_gain_is_of_the_kl_trigger_with_the_run_s_own_models(
    entries: dict[str, Any], policy: dict[str, Any], tmp_path: Path
) -> None:
    """The first KL run was the reference: with two teachers 260 % of another teacher's gain was kept."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {"tau": 0.05, **entries}
        content["config"]["s2t_eval"]["policy"] |= {"threshold": 0.5, **policy}

    def share_of_entropy(*paths: Path) -> list[float]:
        plot = gain_kept(arrange(read_runs([*paths, *names])))
        return [] if plot is None else plot.data.query("trigger == 'entropy'")["share"].tolist()

    names = [EMBEDDED / f"{name}.json" for name in ("greedy", "s2t_entropy_tau5")]
    other = edited(EMBEDDED / "s2t_kl_tau1.json", tmp_path / "other.json", change)
    own = EMBEDDED / "s2t_kl_tau5.json"
    first = next(e for e in arrange(read_runs([own, other])) if e.run.settings.tau == 0.05)
    assert policy or first.run.name == "other"  # the one that was taken
    [alone] = share_of_entropy(own)
    assert share_of_entropy(other, own) == [alone]
    assert share_of_entropy(other) == []


def test_takeover_against_selection_pairs_equal_triggers() -> None:
    plot = takeover_against_selection(committed())
    assert plot is not None
    rows = plot.data.to_dict("records")
    assert [(row["trigger"], row["tau"], row["n"]) for row in rows] == [
        ("kl", 0.05, 300),
        ("router", 0.05, 300),
    ]
    row = rows[0]
    assert row["takeover"] - row["selection"] == pytest.approx(row["delta"])
    assert row["won"] - row["lost"] == pytest.approx(3 * row["delta"])


def test_runs_without_a_common_scored_document_are_no_pair(tmp_path: Path) -> None:
    """An empty mean and a refused comparison ended the analysis of all other runs."""
    files = scored(tmp_path, greedy=[0], s2t_kl_tau5=[1], s2t_entropy_tau5=[0], takeover_kl_tau5=[0])
    entries = arrange(read_runs(files))
    assert gain_kept(entries) is None and takeover_against_selection(entries) is None


def with_k(tmp_path: Path, k: int) -> Path:
    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"]["top_k"] = k

    return edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / f"k{k}.json", change)


def test_scans_need_two_points_of_one_line(tmp_path: Path) -> None:
    entries = arrange(read_runs([EMBEDDED, with_k(tmp_path, 4)]))
    tau, k = tau_scan(entries), k_scan(entries)
    assert tau is not None and k is not None
    # a line of s2t and one of pps_local
    assert tau.data["tau"].tolist() == [0.01, 0.05] * 2 and (tau.data["k"] == 8).all()
    assert k.data["k"].tolist() == [4, 8] and (k.data["tau"] == 0.05).all()
    assert k_scan(committed()) is None
    [row] = scan_data(entries).query("method_key == 'takeover' and trigger == 'kl'").to_dict("records")
    run = read_runs([EMBEDDED / "takeover_kl_tau5.json"])[0]
    assert row["realised_rate"] == pytest.approx(100 * run.cost["triggers"] / run.cost["tokens"])
    assert row["tokens"] == run.cost["tokens"] / 300


def changed(
    tmp_path: Path, name: str, out: str, *, tau: float = 0.05, top_k: int = 8, **entries: Any
) -> Path:
    """A copy of a run of EMBEDDED with another rate, K or other entries of its backend."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"].update(tau=tau, **entries)
        content["config"]["s2t_eval"]["policy"]["top_k"] = top_k

    return edited(EMBEDDED / f"{name}.json", tmp_path / f"{out}.json", change)


@pytest.mark.parametrize(
    ("name", "column", "entries"),
    [
        ("pps_local", "selector_hash", {"selector": "another"}),
        ("pps_local", "adapter_scale", {"adapter_scale": 0.5}),
        ("s2t_router_tau5", "router_hash", {"router": "another"}),
        ("s2t_kl_tau5", "seed", {"seed": 1}),
        ("s2t_kl_tau5", "student_hash", {"student": "another"}),
        ("s2t_kl_tau5", "teacher_hash", {"teacher": "another"}),
    ],
)
def test_a_line_holds_runs_that_differ_in_the_scanned_setting_alone(
    name: str, column: str, entries: dict[str, Any], tmp_path: Path
) -> None:
    """Two selectors, or two students under one name, were one line that went back and forth between them."""

    def entries_of(*paths: Path) -> list[Entry]:
        return arrange(read_runs(paths), {"embedded/student": "student"})  # --student: one block for both

    first = [changed(tmp_path, name, f"a{i}", tau=tau) for i, tau in enumerate((0.05, 0.1))]
    second = [changed(tmp_path, name, f"b{i}", tau=tau, **entries) for i, tau in enumerate((0.05, 0.1))]
    plot = tau_scan(entries_of(*first, *second))
    assert plot is not None
    lines = plot.data.groupby(column, sort=False, dropna=False)["tau"].apply(list)
    assert lines.tolist() == [[0.05, 0.1], [0.05, 0.1]]
    legend = plot.figure.axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    [value] = entries.values()
    assert len(set(texts)) == 2 and any(text.endswith(f" {value}") for text in texts)
    alone = tau_scan(entries_of(*first))
    assert alone is not None and column not in alone.data  # it says nothing there
    assert tau_scan(entries_of(first[0], second[1])) is None
    scanned = [changed(tmp_path, name, "k4", top_k=4), changed(tmp_path, name, "k8", **entries)]
    assert k_scan(entries_of(*scanned)) is None


@pytest.mark.parametrize(
    ("policy", "ends"),
    [
        (
            {"trigger": {"name": "kl", "direction": "teacher_student"}},
            ["kl, K 8", "kl:teacher_student, K 8"],
        ),
        ({"warmup": 7}, ["kl, K 8, warmup 0", "kl, K 8, warmup 7"]),
    ],
    ids=["direction", "warm-up"],
)
def test_directions_and_warm_ups_have_lines_of_their_own(
    policy: dict[str, Any], ends: list[str], tmp_path: Path
) -> None:
    """Both directions of KL were one line, and so were runs that may fire from the start and later ones."""

    def with_policy(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"] |= policy

    first = [changed(tmp_path, "s2t_kl_tau5", f"a{i}", tau=tau) for i, tau in enumerate((0.05, 0.1))]
    second = [edited(path, tmp_path / f"b_{path.name}", with_policy) for path in first]
    plot = tau_scan(arrange(read_runs([*first, *second])))
    assert plot is not None
    legend = plot.figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"S2T (teacher), {end}" for end in ends]
    assert tau_scan(arrange(read_runs([first[0], second[1]]))) is None
    takeover = EMBEDDED / "takeover_kl_tau5.json"
    assert takeover_against_selection(arrange(read_runs([takeover, first[0]]))) is not None
    assert takeover_against_selection(arrange(read_runs([takeover, second[0]]))) is None


def test_takeover_is_compared_once_with_the_selection_of_each_k(tmp_path: Path) -> None:
    """It has no candidates, but its runs of two K counted twice in Holm's correction, and no K was shown."""
    runs = [changed(tmp_path, name, f"{name}_{k}", top_k=k) for name in NAMES[3::2] for k in (2, 8)]
    assert NAMES[3::2] == ["s2t_kl_tau5", "takeover_kl_tau5"]
    plot = takeover_against_selection(arrange(read_runs(runs)))
    assert plot is not None
    assert plot.data["k"].tolist() == [2, 8]
    assert plot.data["p_holm"].tolist() == holm(plot.data["p"].tolist())
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert labels == [f"Arith (embedded)\nkl, tau 5 %, K {k}" for k in (2, 8)]


def test_takeover_of_a_threshold_without_a_rate_is_drawn(tmp_path: Path) -> None:
    """Its rate is null, which ended the analysis of all runs."""
    runs = [
        edited(
            EMBEDDED / f"{name}.json",
            tmp_path / f"{name}.json",
            lambda content: content["config"]["s2t_eval"].update(tau=None),
        )
        for name in ("s2t_kl_tau5", "takeover_kl_tau5")
    ]
    plot = takeover_against_selection(arrange(read_runs(runs)))
    assert plot is not None
    [label] = plot.figure.axes[0].get_yticklabels()
    assert label.get_text() == "Arith (embedded)\nkl, threshold 2.37, K 8"


def test_every_step_ends_each_trigger_s_line(tmp_path: Path) -> None:
    """At tau 1 no trigger matters: the run stands in all lines of its method, and in none as a trigger."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"].update(tau=None)
        content["config"]["s2t_eval"]["policy"]["trigger"]["name"] = "always"

    every = edited(EMBEDDED / "s2t_entropy_tau5.json", tmp_path / "always.json", change)
    plot = tau_scan(arrange(read_runs([EMBEDDED, every])))
    assert plot is not None
    data = plot.data[plot.data["method_key"] == "s2t"]
    ends = data[data["tau"] == 1]
    local = ["entropy", "entropy64", "line_entropy", "position"]
    assert sorted(ends["trigger"]) == sorted([*local, "kl", "r2r", "random", "router"])
    assert data.groupby("trigger")["tau"].apply(list)["kl"] == [0.01, 0.05, 1]


def test_scans_show_how_often_the_teacher_s_token_is_a_candidate(tmp_path: Path) -> None:
    """From what the runs counted; runs of before, and runs without a teacher, have no rate."""

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["policy"]["top_k"] = 4
        content["config"]["s2t_eval"]["telemetry"].update(hits=30, misses=10)

    entries = arrange(
        read_runs(
            [EMBEDDED / "greedy.json", edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "a.json", change)]
        )
    )
    [row] = scan_data(entries).to_dict("records")
    assert (row["teacher_picks"], row["hit_rate"]) == (40, 75)
    assert row["hit_low"] == pytest.approx(100 * 0.5981, abs=0.01) and row["hit_high"] < 90
    [local] = scan_data(arrange(read_runs([EMBEDDED / "pps_local_tau5.json"]))).to_dict("records")
    assert local["teacher_picks"] == 0 and np.isnan(local["hit_rate"])


# ---------------------------------------------------------------- traces


def test_rescored_probabilities_are_a_fresh_forward_each() -> None:
    record = next(r for r in read_trace(TRACE).records if len(r["steps"]) > 1)
    wanted = [(step["t"], step["picked"]) for step in record["steps"]]
    probabilities = Rescorer(STUDENT)(record["prompt_ids"], record["output_ids"], wanted)
    for (t, token), p in zip(wanted, probabilities, strict=True):
        logits = logits_after(model(STUDENT), [*record["prompt_ids"], *record["output_ids"][:t]])
        assert p == pytest.approx(float(logits.softmax(-1)[token]), abs=1e-5)


def test_the_trace_holds_the_teachers_probabilities() -> None:
    """What the rescue map's other axis relies on."""
    record = next(r for r in read_trace(TRACE).records if r["steps"])
    step = record["steps"][0]
    logits = logits_after(model(TEACHER), [*record["prompt_ids"], *record["output_ids"][: step["t"]]])
    probabilities = logits.softmax(-1)[step["candidates"]]
    assert step["scores"] == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_picks_tell_what_became_of_the_answer() -> None:
    trace = read_trace(TRACE)
    scores = {r["doc_id"]: 1.0 for r in trace.records}
    control = {**scores, 2: 0.0}
    data = picks(trace, scores, control, lambda *_: [0.25] * len(_[2]), load_decode(STUDENT))
    assert len(data) == sum(len(r["steps"]) for r in trace.records)
    assert set(data.loc[data["doc_id"] == 2, "outcome"]) == {"became right"}
    assert set(data.loc[data["doc_id"] != 2, "outcome"]) == {"stayed right"}
    row = data[data["doc_id"] == 2].iloc[0]
    step = next(r for r in trace.records if r["doc_id"] == 2)["steps"][0]
    assert row["p_teacher"] == max(step["scores"]) and row["p_student"] == 0.25
    text = flips_text(data)
    assert "2 flips in 1 documents" in text and "`s2t_arith 2: became right`" not in text
    assert "## s2t_arith 2: became right" in text and "` 7` → ` 8`" in text
    assert len(rescue_map(data).data) == len(data)


def test_flips_of_several_methods_and_tasks_are_listed_apart() -> None:
    """Of traces of s2t and takeover, the flips of a document stood in one list that named no method, and
    documents of two tasks with one number were counted once."""
    one = picks(read_trace(TRACE), {2: 1.0}, {2: 0.0}, lambda *given: [0.25] * len(given[2]), str)
    flips = int(one.loc[one["doc_id"] == 2, "is_flip"].sum())
    every = pd.concat(
        [
            one.assign(method="S2T"),
            one.assign(method="Takeover"),
            one.assign(method="S2T", task="s2t_other"),
        ],
        ignore_index=True,
    )
    text = flips_text(every)
    assert f"{3 * flips} flips in 2 documents whose answer changed." in text
    for heading in ("s2t_arith 2, S2T", "s2t_arith 2, Takeover", "s2t_other 2, S2T"):
        [part] = [part for part in text.split("## ") if part.startswith(f"{heading}: became right")]
        assert part.count("- token ") == flips


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (0.0, 1.0, "became right"),
        (1.0, 0.0, "became wrong"),
        (0.0, 0.0, "stayed wrong"),
        (None, 1.0, "unknown"),
        (1.0, float("nan"), "unknown"),
    ],
)
def test_outcomes(before: float | None, now: float | None, expected: str) -> None:
    assert outcome(before, now) == expected


def test_a_readouts_trace_has_no_teacher_in_it(tmp_path: Path) -> None:
    records = [{**json.loads(line), "method": "s2t_local"} for line in TRACE.read_text().splitlines()]
    path = tmp_path / "local.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(ValueError, match="a trace of s2t_local has the selector's scores"):
        picks(read_trace(path), {}, {}, lambda *_: [], str)


def test_a_trace_without_fired_steps_has_an_empty_map(tmp_path: Path) -> None:
    """A trigger that never fired ended the analysis in `KeyError: 'is_flip'`."""
    records = [json.loads(line) for line in TRACE.read_text().splitlines()]
    quiet = tmp_path / "quiet.jsonl"
    quiet.write_text("".join(json.dumps({**record, "steps": []}) + "\n" for record in records))
    data = picks(read_trace(quiet), {}, {}, lambda *_: [], str)
    assert data.empty and {"is_flip", "outcome", "p_teacher"} <= set(data.columns)
    assert rescue_map(data).data.empty
    assert "0 flips in 0 documents" in flips_text(data)


# ---------------------------------------------------------------- the commands


def test_analyze_end_to_end(tmp_path: Path) -> None:
    labels, out = tmp_path / "labels", tmp_path / "out"
    pair = ("--pretrained", STUDENT, "--teacher", TEACHER, "--task", "s2t_arith", "--device", "cpu")
    assert exit_code("collect", *pair, "--limit", 12, "--out", labels) == 0
    arguments = ("--labels", f"Arith={labels}", "--results", *FEW, "--trace", TRACE)
    assert exit_code("analyze", *arguments, "--out", out) == 0
    names = {path.name for path in out.iterdir()}
    for (
        name
    ) in "hit_rates smallest_k error_split trigger_roc tau_scan gain_kept takeover pareto rescue_map".split():
        assert {f"{name}.svg", f"{name}.csv"} <= names, name
    assert {"analysis.md", "analysis.html", "flips.md"} <= names
    manifest = json.loads((labels / "manifest.json").read_text())
    hits = pd.read_csv(out / "hit_rates.csv").set_index("k")["hit_rate"]
    assert hits[8] == pytest.approx(100 * manifest["hit_rate"]["8"], abs=0.01)


def test_a_trained_selector_is_judged_on_what_it_has_not_seen(tmp_path: Path) -> None:
    labels, folder = learning.labels(), learning.selector("direct")
    arguments = ("--labels", f"Arith={labels}", "--selector", folder, "--pretrained", STUDENT)
    assert exit_code("analyze", *arguments, "--out", tmp_path / "out", "--k", 8) == 0
    info = json.loads((folder / "selector.json").read_text())["training"]
    split = pd.read_csv(tmp_path / "out" / "error_split.csv").set_index("selector")
    roc = pd.read_csv(tmp_path / "out" / "trigger_roc.csv").set_index("signal")
    crossed = pd.read_csv(tmp_path / "out" / "bottleneck.csv")
    triggers = {"kl", "router", "entropy", "entropy64", "margin"}
    assert set(crossed["trigger"]) == triggers and (crossed["texts"] == 3).all()
    reported = split_held_out(LabelSet.load(labels).split(0.25)[1]).reported
    assert set(roc["n"]) == {sum(len(row.output_ids) for row in reported)}
    assert set(roc.index) == {"entropy", "entropy64", "margin", "router", "line_entropy", "position"}
    # The set's own top tenth, so the groups of selector.json but for those at the threshold itself.
    assert split.loc["the trained selector", "n"] == info["held_out"]["groups"]
    for name, key in (("the trained selector", "agree@1"), ("greedy's own order", "greedy_agree@1")):
        assert split.loc[name, "agree_at_1"] == pytest.approx(100 * info["held_out"][key], abs=1e-3)


def test_trigger_and_selection_are_crossed() -> None:
    """Its twin: text by text, step by step, by hand."""
    numbers = np.random.default_rng(3)
    rows, kept = [], []
    for problem in ("b", "a", "c"):
        for t in range(40):
            kl, odds = numbers.random(2)
            rows.append(("x", problem, t, kl, odds))
            values = [numbers.normal(size=10), -numbers.exponential(2, 10), numbers.normal(size=10)]
            kept.append(("x", problem, t, *values))
    every = pd.DataFrame(rows, columns=["benchmark", "problem_id", "t", "kl", "router"])
    groups_ = pd.DataFrame(kept, columns=["benchmark", "problem_id", "t", "student", "teacher", "selector"])
    plot = trigger_or_selection(every, groups_.sample(frac=1, random_state=0), top_k=8, rates=(0.25, 1.0))
    assert plot is not None
    rows = plot.data.set_index(["trigger", "tau", "picks"])
    for trigger, tau, picker in (
        ("kl", 0.25, "teacher"),
        ("router", 0.25, "selector"),
        ("router", 1.0, "teacher"),
    ):
        threshold = np.quantile(every[trigger], 1 - tau)
        total = 0.0
        for step, candidates in zip(every.itertuples(), groups_.itertuples(), strict=True):
            if getattr(step, trigger) >= threshold:
                pick = max(range(8), key=lambda k: getattr(candidates, picker)[k])
                total += candidates.teacher[pick] - candidates.teacher[0]
        row = rows.loc[trigger, tau, f"the {picker}"]
        assert row["gain"] == pytest.approx(total / 3)
        assert row["low"] <= row["gain"] <= row["high"] and row["texts"] == 3 and row["steps"] == 120
    full = rows.xs("the teacher", level="picks").xs("kl")
    assert (full[["share", "share_low", "share_high"]] == 100).all(axis=None)
    assert (rows["share_low"] <= rows["share"]).all() and (rows["share"] <= rows["share_high"]).all()
    assert trigger_or_selection(every, groups_.iloc[1:]) is None  # labels of the top steps alone


@pytest.mark.parametrize("num_texts", [1, 3])
def test_texts_of_one_gain_are_drawn(num_texts: int) -> None:
    """Of one text gain and share have no interval; the share's was "100 to 100"."""
    problems = [f"p{i}" for i in range(num_texts)]
    every = pd.DataFrame({"benchmark": "x", "problem_id": problems, "t": 0, "kl": 1.0})
    scores = {"teacher": [[-1.1, -1.0]] * num_texts, "selector": [[0.0, 1.0]] * num_texts}
    plot = trigger_or_selection(every, every.assign(**scores), rates=(1.0,))
    assert plot is not None and plot.data["gain"].tolist() == pytest.approx([0.1, 0.1])
    assert plot.data["share_low"].isna().all() == (num_texts == 1)


def test_the_students_tokenizer_draws_the_lines_of_training_free_triggers(tmp_path: Path) -> None:
    """`line_entropy` was drawn beside a trained selector alone, and `--pretrained` without one refused."""
    arguments = ("--labels", learning.labels(), "--pretrained", STUDENT)
    assert exit_code("analyze", *arguments, "--out", tmp_path / "out") == 0
    roc = pd.read_csv(tmp_path / "out" / "trigger_roc.csv")
    assert list(roc["signal"]) == ["entropy", "entropy64", "margin", "line_entropy", "position"]
    assert set(roc["n"]) == {sum(len(row.output_ids) for row in LabelSet.load(learning.labels()))}


def test_a_selector_needs_its_student_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, line in (
        (("--selector", "embedded/selector"), "--selector: expected it together with --pretrained"),
        (("--pretrained", STUDENT), "--pretrained: it is the student of --labels; give both, or neither"),
        # Any word was accepted here, and had no effect.
        (("--results", EMBEDDED, "--dtype", "x"), "--dtype: it is of the student beside --selector"),
        (("--results", EMBEDDED, "--device", "x"), "--device: it is of the student that rescores"),
    ):
        assert exit_code("analyze", *given, "--out", tmp_path / "out") == 2
        assert line in capsys.readouterr().err


def test_labels_of_another_tokenizer_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels"
    shutil.copytree(learning.labels(), labels)
    manifest = json.loads((labels / "manifest.json").read_text())
    (labels / "manifest.json").write_text(json.dumps({**manifest, "vocabulary": "0" * 16}))
    arguments = ("--labels", labels, "--pretrained", STUDENT, "--out", tmp_path / "out")
    assert exit_code("analyze", *arguments) == 2
    assert "--labels: it was made for another tokenizer (expected 0000000000000000" in capsys.readouterr().err


def test_analyze_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    for arguments, message in (
        ((), "nothing to analyse: expected --labels"),
        (("--labels", tmp_path), "expected a folder of `s2t-eval collect`"),
        (("--trace", TRACE), "its run is not among the results"),
        (("--tau", 2), "--tau: expected a rate between 0 and 1"),
        (("--k", 0), "--k: expected at least 1"),
    ):
        assert exit_code("analyze", *arguments, *out) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_of_labels_may_have_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--labels runs/lr=1e-4` was read as NAME runs/lr and FOLDER 1e-4, and no name helped."""
    monkeypatch.chdir(tmp_path)
    Path("runs/lr=1e-4").mkdir(parents=True)
    folders = named_folders(["runs/lr=1e-4", "x=runs/lr=1e-4", "y=labels", "plain", "=gone"])
    assert folders == {
        "lr=1e-4": Path("runs/lr=1e-4"),
        "x": Path("runs/lr=1e-4"),
        "y": Path("labels"),
        "plain": Path("plain"),
        "gone": Path("gone"),
    }
    with pytest.raises(ValueError, match=r"^--labels: two sets are named 'labels'; give each one a name"):
        named_folders(["a/labels", "b/labels"])


def test_a_grid_names_its_points() -> None:
    grid = list(points(["s2t", "takeover"], [4, 8], [0.05], "pretrained=a,teacher=b", "pretrained=a"))
    assert grid[0] == Point("s2t", "pretrained=a,teacher=b,top_k=4,tau=0.05", "s2t_k4_tau5")
    assert [p.name for p in grid[1:-1]] == ["s2t_k8_tau5", "takeover_k4_tau5", "takeover_k8_tau5"]
    # Behind the methods: an argument that only a loaded model refuses does not cost a run of greedy.
    assert grid[-1] == Point("greedy", "pretrained=a", "greedy")


def test_what_was_cut_off_is_no_part_of_a_point_that_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scan that was killed while it wrote samples could never be resumed: their last line stayed half."""
    place = tmp_path / "greedy" / "pair"
    place.mkdir(parents=True)
    (place / "results_2026.json").write_text('{"results": {}}')
    (place / "samples_s2t_arith_2026.jsonl").write_text('{"doc_id": 0}\n{"doc_')
    with pytest.raises(RuntimeError, match=r"^greedy failed \(exit 2\)"):
        list(run_grid([Point("greedy", "", "greedy")], tmp_path, ["--bogus"]))
    assert not (tmp_path / "greedy").exists()
    # A scan was silent for as long as a point took, while it loaded models and when it hung.
    shown = capsys.readouterr().err
    assert shown.startswith("greedy: running\n") and "--bogus" in shown


def num_cached(cache: Path) -> int:
    """Number of texts in the response cache of a point."""
    file = cache.with_name(f"{cache.name}_rank0.db")
    if not file.exists():
        return 0
    try:
        with SqliteDict(str(file), flag="r") as stored:
            return len(stored) - 1  # without the run that it belongs to
    except (sqlite3.Error, RuntimeError):  # it is being made
        return 0


def point_results(place: Path) -> dict[str, Any]:
    """The results of a point."""
    [file] = place.rglob("results_*.json")
    results: dict[str, Any] = json.loads(file.read_text())
    return results


def test_an_interrupted_point_goes_on_with_its_texts(tmp_path: Path) -> None:
    """Each point began anew: hours of texts were lost where a row of a recipe resumes."""
    grid = [Point("greedy", f"pretrained={STUDENT},device=cpu", "greedy")]
    words = ["--tasks", "s2t_arith", "--limit", "12", "--batch_size", "1"]
    cache = tmp_path / "greedy.cache"

    def interrupt(shown: str) -> None:
        if num_cached(cache) >= 2:
            raise KeyboardInterrupt

    with patch.object(analysis_grid, "_show", interrupt), pytest.raises(KeyboardInterrupt):
        list(run_grid(grid, tmp_path, words))
    assert 2 <= num_cached(cache) < 12 and not is_done(tmp_path / "greedy")
    finished = num_cached(cache)
    assert list(run_grid(grid, tmp_path, words)) == [(grid[0], True)]
    results, whole = point_results(tmp_path / "greedy"), evaluate("greedy", limit=12)
    assert counts(results)["cached_texts"] == finished and counts(results)["texts"] == 12
    scores = [one["results"]["s2t_arith"]["exact_match,answer"] for one in (results, whole)]
    assert scores[0] == scores[1]
    assert [path.name for path in tmp_path.iterdir()] == ["greedy"]
    file = tmp_path / "greedy.cache_rank0.db"
    file.touch()  # the scan was killed before it removed the cache
    assert list(run_grid(grid, tmp_path, words)) == [(grid[0], False)]
    assert not file.exists()


@pytest.mark.slow
def test_texts_of_other_arguments_do_not_stop_a_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model refuses the cache of an interrupted point whose scan was then given other arguments."""
    evaluate("greedy", {"max_length": 200}, limit=1, use_cache=str(tmp_path / "greedy.cache"))
    grid = [Point("greedy", f"pretrained={STUDENT},device=cpu", "greedy")]
    assert list(run_grid(grid, tmp_path, ["--tasks", "s2t_arith", "--limit", "1"])) == [(grid[0], True)]
    assert "the texts of the interrupted run cannot be used; running it anew" in capsys.readouterr().err
    assert counts(point_results(tmp_path / "greedy"))["cached_texts"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["greedy"]


@pytest.mark.slow
def test_the_users_own_cache_of_a_scan_stands(tmp_path: Path) -> None:
    grid = [Point("greedy", f"pretrained={STUDENT},device=cpu", "greedy")]
    words = ["--tasks", "s2t_arith", "--limit", "1", "--use_cache", str(tmp_path / "own")]
    assert list(run_grid(grid, tmp_path, words)) == [(grid[0], True)]
    assert num_cached(tmp_path / "own") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["greedy", "own_rank0.db"]


@pytest.mark.slow
def test_a_grid_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--model_args",
        f"pretrained={STUDENT},teacher={TEACHER},calibration={EMBEDDED / 'calibration.json'}",
    )
    scan = ("scan", *arguments, "--tasks", "s2t_arith", "--tau", "0.05", "--out", tmp_path, "--")
    assert exit_code(*scan, "--limit", "2", "--bogus") == 2
    assert "s2t_k8_tau5 failed (exit 2)" in capsys.readouterr().err
    assert exit_code(*scan, "--limit", "2") == 0
    assert capsys.readouterr().out.splitlines() == ["s2t_k8_tau5: done", "greedy: done"]
    [results] = (tmp_path / "s2t_k8_tau5").rglob("results_*.json")
    results.write_text(results.read_text()[:100])  # as if it had been broken off
    assert not is_done(tmp_path / "s2t_k8_tau5")
    assert exit_code(*scan, "--limit", "2") == 0
    assert capsys.readouterr().out.splitlines() == ["s2t_k8_tau5: done", "greedy: existed"]
    assert all(not is_new for _, is_new in run_grid([Point("greedy", "", "greedy")], tmp_path, []))


def test_a_grid_sets_k_and_tau_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("scan", "--model_args", "tau=1", "--tasks", "t", "--tau", 0.1, "--out", tmp_path) == 2
    assert "without top_k, tau, threshold; got ['tau=1']" in capsys.readouterr().err
