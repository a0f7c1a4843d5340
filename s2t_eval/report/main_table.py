"""The paper's main table: methods by benchmarks, a block a student, published numbers beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from s2t_eval.method_table import BY_KEY, METHODS
from s2t_eval.report.benchmarks import BENCHMARKS, MATH_AVG, Benchmark
from s2t_eval.report.blocks import TEACHER_ALONE, Entry, column_order, short_name
from s2t_eval.report.published import MATH_AVG_KEY, published, size_of, sources
from s2t_eval.report.table import Block, Cell, Table
from s2t_eval.statistics import wilson

COLUMNS = ["student", "method", "method_key", "benchmark", "n", "value", "low", "high", "published", "status"]


def main_table(entries: Sequence[Entry], *, intervals: bool = False, beside: bool = True) -> Table:
    """Accuracy in percent.

    Args:
        entries: runs in their places.
        intervals: whether n and the 95 % interval stand in each cell.
        beside: whether published numbers are shown.
    """
    data = pd.concat([_measured(entries), _math_averages(entries)], ignore_index=True)
    if beside:
        data = _with_published(data)
    benchmarks = [b.title for b in _columns(entries, beside)]
    math_at = [i for i, title in enumerate(benchmarks) if title in _MATH]
    if len(math_at) == len(_MATH):
        benchmarks.insert(math_at[-1] + 1, MATH_AVG)
    blocks = [
        Block(str(student), _rows(rows, benchmarks, intervals))
        for student, rows in data.groupby("student", sort=False)
    ]
    return Table(
        name="main",
        title="Accuracy in percent, methods by benchmarks",
        head=["method", *benchmarks],
        blocks=blocks,
        notes=_notes(entries, intervals, beside),
        data=data,
    )


_MATH = [benchmark.title for benchmark in BENCHMARKS if benchmark.is_math]


def _columns(entries: Sequence[Entry], beside: bool) -> list[Benchmark]:
    of_paper = {b for b in BENCHMARKS if b.key in set(published()["benchmark"])} if beside else set()
    return sorted({entry.benchmark for entry in entries} | of_paper, key=column_order)


def _measured(entries: Sequence[Entry]) -> pd.DataFrame:
    rows = []
    for entry in entries:
        run, low, high = entry.run, np.nan, np.nan
        n = len(run.scored) if run.documents is not None else run.n
        if run.documents is None or run.scored["score"].isin([0, 1]).all():
            low, high = wilson(round(run.value * n), n)
        numbers = (n, 100 * run.value, 100 * low, 100 * high)
        rows.append((entry.student, entry.label, run.method.key, entry.benchmark.title, *numbers, None, None))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"published": float})


def _math_averages(entries: Sequence[Entry]) -> pd.DataFrame:
    """Only where all four of its benchmarks were run with one setting."""
    data = _measured(entries)
    data = data[data["benchmark"].isin(_MATH)]
    rows = []
    for (student, label, key), part in data.groupby(["student", "method", "method_key"], sort=False):
        if set(part["benchmark"]) == set(_MATH):
            numbers = (part["n"].sum(), part["value"].mean(), np.nan, np.nan)
            rows.append((student, label, key, MATH_AVG, *numbers, None, None))
    return pd.DataFrame(rows, columns=COLUMNS).astype(data.dtypes.to_dict())


def _with_published(data: pd.DataFrame) -> pd.DataFrame:
    """Published numbers in the block of the student of that size; sizes not measured get blocks of their own.

    A number is of the method, not of a setting: it stands in the method's first row.
    """
    titles = {benchmark.key: benchmark.title for benchmark in BENCHMARKS} | {MATH_AVG_KEY: MATH_AVG}
    added = []
    data = data.copy()
    students = {size_of(str(student)): str(student) for student in data["student"].unique()}
    for row in published().itertuples(index=False):
        student = students.get(row.size, f"{row.size}, published only")
        in_block = (data["student"] == student) & (data["method_key"] == row.method)
        in_block &= data["method"] != TEACHER_ALONE
        if BY_KEY[row.method].votes:  # the published vote is one of eight
            in_block &= data["method"] == BY_KEY[row.method].title
        title = titles[row.benchmark]
        if in_block.any():
            label = data.loc[in_block, "method"].iloc[0]
            at = data.index[in_block & (data["method"] == label) & (data["benchmark"] == title)]
        else:
            label, at = BY_KEY[row.method].title, data.index[:0]
        if len(at):
            data.loc[at[0], ["published", "status"]] = [row.value, row.status]
        else:
            numbers = (0, np.nan, np.nan, np.nan)
            added.append((student, label, row.method, title, *numbers, row.value, row.status))
    everything = pd.concat([data, pd.DataFrame(added, columns=COLUMNS)], ignore_index=True)
    order = {method.key: i for i, method in enumerate(METHODS)}
    everything["order"] = everything["method_key"].map(order)
    everything.loc[everything["method"] == TEACHER_ALONE, "order"] = len(METHODS)
    rank = {student: i for i, student in enumerate(dict.fromkeys(everything["student"]))}
    everything["rank"] = everything["student"].map(rank)
    return everything.sort_values(["rank", "order"], kind="stable").drop(columns=["rank", "order"])


def _rows(data: pd.DataFrame, benchmarks: Sequence[str], intervals: bool) -> list[list[Cell]]:
    measured = data[(data["method"] != TEACHER_ALONE) & data["value"].notna()]
    several = measured["method"].nunique() > 1  # the best of one is not worth bold
    best = measured.groupby("benchmark")["value"].max() if several else pd.Series(dtype=float)
    rows = []
    for label, part in data.groupby("method", sort=False):
        found = {row.benchmark: row for row in part.itertuples(index=False)}
        votes = BY_KEY[part["method_key"].iloc[0]].votes
        cells = [Cell(str(label))]
        for title in benchmarks:
            row = found.get(title)
            if row is None or (pd.isna(row.value) and pd.isna(row.published)):
                is_undefined = votes and title in _CODE
                unknown = "?" if row is not None and row.status == "not found" else None
                cells.append(Cell("–" if is_undefined else "", published=unknown))
                continue
            is_best = label != TEACHER_ALONE and row.value == best.get(title)
            beside = None if pd.isna(row.published) else f"{row.published:.1f}"
            cells.append(Cell(_number(row, intervals), beside, bool(is_best)))
        rows.append(cells)
    return rows


_CODE = [benchmark.title for benchmark in BENCHMARKS if benchmark.is_code]


def _number(row: object, intervals: bool) -> str:
    value, low, high, n = (getattr(row, name) for name in ("value", "low", "high", "n"))
    if pd.isna(value):
        return ""
    text = f"{value:.1f}"
    if intervals and not pd.isna(low):
        return f"{text} [{low:.1f}, {high:.1f}] n={n}"
    return f"{text} n={n}" if intervals else text


def _notes(entries: Sequence[Entry], intervals: bool, beside: bool) -> list[str]:
    notes = ["Bold: the best measured method of a student (the teacher alone aside)."]
    if intervals:
        notes.append("Brackets: Wilson's 95 % interval; n: documents with a score.")
    sizes = {
        b.title: sorted({e.run.n for e in entries if e.benchmark == b}) for b in _columns(entries, False)
    }
    notes.append("n: " + ", ".join(f"{title} {ns[0]}" for title, ns in sizes.items()) + ".")
    teachers = sorted({(e.student, e.run.ours["teacher_name"]) for e in entries if e.run.ours.get("teacher")})
    if teachers:
        pairs = (f"{short_name(teacher)} for {short_name(student)}" for student, teacher in teachers)
        notes.append("Teachers: " + ", ".join(pairs) + ".")
    if beside:
        setting = sources()["s2t-table"]["setting"]
        notes.append(
            f"Parentheses: published (arXiv 2604.26940; PPS-Local by its own authors; S2T and Takeover read "
            f"off a figure, ±0.7), with {setting}; ? was not found. Their models, prompts and penalties are "
            "not those measured here."
        )
    return notes
