"""`results/tables` and the README's tables hold what the committed results give."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import pandas as pd
import pytest

from s2t_eval.report.blocks import Entry, arrange
from s2t_eval.report.compare import compare_pair
from s2t_eval.report.costs import cut_off
from s2t_eval.report.efficiency_table import efficiency_table
from s2t_eval.report.figures import csv_text
from s2t_eval.report.main_table import main_table
from s2t_eval.report.runs import read_runs
from s2t_eval.report.write import Options, make_tables
from tests.report_helpers import BASELINES, REPOSITORY

TABLES = REPOSITORY / "results" / "tables"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
WITH_PAGES = sorted(page.parent.name for page in TABLES.glob("*/report.md"))
"""Folders of results whose tables have a folder of their own; those of `embedded` are in `TABLES` itself."""

WHY = {
    "greedy": "Greedy",
    "maj8": "Maj@8",
    "s2t_tau1": "S2T (teacher), kl, tau 1 %, K 8",
    "s2t_tau5": "S2T (teacher), kl, tau 5 %, K 8",
    "teacher": "Teacher alone",
}
DEMO = {
    "greedy": "Greedy",
    "maj8": "Maj@8",
    "s2t_kl_tau5": "S2T (teacher), kl, tau 5 %, K 8",
    "takeover_kl_tau5": "Takeover, kl, tau 5 %, K 8",
    "pps_local": "PPS-Local, margin, tau 20 %, K 8",
    "teacher": "Teacher alone",
}
"""The rows of the README's two tables: name of the committed run -> the method's name in the tables."""
DEMO_NAMES = [
    "greedy",
    "maj8",
    "s2t, kl, tau 5 %",
    "takeover, kl, tau 5 %",
    "pps_local, its default",
    "teacher alone",
]


def entries_of(results: str, names: Iterable[str] = ("",)) -> list[Entry]:
    """Committed runs of a folder, by default all of them."""
    return arrange(read_runs([BASELINES / results / (name and f"{name}.json") for name in names]))


@functools.cache
def figures(results: str) -> pd.DataFrame:
    """The figures of the README's methods, a row each: accuracy, costs, and the gain over greedy."""
    methods = {"embedded": DEMO, "gsm8k-qwen-h100": WHY}[results]
    tables = {table.name: table for table in make_tables(entries_of(results, methods), Options(times=False))}
    frame = tables["main"].data.dropna(subset="value").set_index("method")
    for name in ("efficiency", "ablation"):
        other = tables[name].data.set_index("method")
        other = other.rename(columns={"low": "delta_low", "high": "delta_high"})
        frame = frame.join(other[other.columns.difference(frame.columns)])
    return frame.loc[list(methods.values())]


def interval(row: pd.Series) -> str:
    return f"{row['low']:.1f}–{row['high']:.1f}"


def test_every_folder_of_tables_is_compared() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r"^(?:ONE_COMMIT|MIXED) := (.*)$", makefile, re.MULTILINE)
    assert sorted(" ".join(listed).split()) == WITH_PAGES


@pytest.mark.parametrize("results", WITH_PAGES)
def test_committed_tables_hold_the_committed_results(results: str) -> None:
    """`make report-check` compares every byte of all; this is its quick part."""
    text = (TABLES / results / "report.md").read_text(encoding="utf-8")
    for table in make_tables(entries_of(results), Options(times=False)):
        assert table.markdown().strip() in text


def test_committed_tables_of_the_embedded_pair_hold_its_results() -> None:
    """Without the gains, whose intervals take long for so many rows."""
    entries = entries_of("embedded")
    for table in (main_table(entries), efficiency_table(entries, times=False)):
        text = (TABLES / f"{table.name}.csv").read_text(encoding="utf-8")
        assert csv_text(table.data) == text


def test_the_readme_s_figures_of_the_real_pair_are_the_committed_ones() -> None:
    [block] = re.findall(r"^\| method \| teacher chooses at .*\n\|.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    shown = [[cell.strip() for cell in line.strip("|").split("|")[1:]] for line in block.splitlines()]
    rows = [row for _, row in figures("gsm8k-qwen-h100").iterrows()]
    share = ["–" if pd.isna(row["fired"]) else f"{row['fired']:.1f} % of the steps" for row in rows]
    expected = [
        [said, f"{row['value']:.1f} %", interval(row), f"{row['billions_of_work']:,.0f}"]
        for said, row in zip(share, rows, strict=True)
    ]
    assert shown == expected
    assert {f"correct (n = {row['n']})" for row in rows} == set(re.findall(r"correct \(n = \d+\)", README))


def test_the_readme_s_figures_of_the_embedded_pair_are_the_committed_ones() -> None:
    [block] = re.findall(r"^ method +correct .*\n((?: .*\n)+)```", README, re.MULTILINE)
    expected = []
    for name, (_, row) in zip(DEMO_NAMES, figures("embedded").iterrows(), strict=True):
        pairs = "–" if pd.isna(row["won"]) else f"{row['won']:.0f} / {row['lost']:.0f}"
        shares = [f"{0 if pd.isna(row[share]) else row[share]:.1f} %" for share in ("fired", "flips")]
        expected.append([name, f"{row['value']:.1f} %", interval(row), pairs, *shares])
    assert [re.split(r" {2,}", line.strip()) for line in block.splitlines()] == expected


def test_the_readme_s_gain_of_the_teacher_s_picks_is_the_committed_one() -> None:
    row = figures("gsm8k-qwen-h100").loc[WHY["s2t_tau5"]]
    bounds = f"{row['delta_low']:+.1f} to {row['delta_high']:+.1f}"
    gain = f"gains {row['delta']:.1f} points over greedy (95 % {bounds}), {row['share_of_gap']:.0f} % of what"
    assert gain in " ".join(README.split())
    share = f"({row['share_low']:.0f} to {row['share_high']:.0f}). The teacher alone is better"
    assert share in " ".join(README.split())


def test_the_readme_s_loss_to_the_teacher_alone_is_the_committed_one() -> None:
    """Of the same documents, paired; the work is that of the tables."""
    names = ("s2t_tau5", "teacher")
    s2t, teacher = (figures("gsm8k-qwen-h100").loc[WHY[name]] for name in names)
    one, other = (entry.run for entry in entries_of("gsm8k-qwen-h100", names))
    assert (one.method.key, other.name) == ("s2t", "teacher")
    pair = compare_pair(one, other)
    low, high = (100 * bound for bound in pair.interval)
    points = f"is better, by {100 * pair.delta:.1f} points ({low:.1f} to {high:.1f})"
    work = f", at {teacher['billions_of_work'] / s2t['billions_of_work']:.2f} of the work."
    assert points + work in " ".join(README.split())


def test_the_readme_has_the_shares_of_cut_off_texts() -> None:
    """It said 3.5 to 7 % at 512 new tokens, of the rows of that day; later ones had 2.5 and 7.5 %."""
    runs = [run for folder in sorted(BASELINES.glob("gsm8k-qwen*")) for run in read_runs([folder])]
    shares: dict[int, list[float]] = {320: [], 512: []}
    of_tot = []
    for run in runs:
        share = 100 * cut_off([run])
        if run.method.key == "tot":
            of_tot.append(share)
        elif run.length_limit == 320 or run.n >= 200:
            shares[int(run.length_limit or 0)].append(share)
    low, high = (choose(shares[512]) for choose in (min, max))
    [tot] = of_tot
    text = " ".join(README.split())
    assert f"At 512 new tokens {low:.1f} to {high:.1f} % of the texts are cut off" in text
    assert f"(n = 200 and 600; of Tree of Thoughts {tot:.1f} %)" in text
    assert f"at 320 {min(shares[320]):.0f} to {max(shares[320]):.0f} %" in text
