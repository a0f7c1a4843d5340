"""The paper's main table: rows are methods and settings, columns benchmarks, blocks students."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from s2t_eval.method_table import BY_KEY, METHODS
from s2t_eval.report.benchmarks import BENCHMARKS, MATH_AVG, Benchmark
from s2t_eval.report.blocks import Entry, column_order, is_teacher_alone, short_name
from s2t_eval.report.cells import MISSING, Accuracy, accuracy, group_note, percent, percent_sign, rounded
from s2t_eval.report.costs import cut_off, tokens_per_correct
from s2t_eval.report.published import MATH_AVG_KEY, STUDENTS, published, published_size, sources
from s2t_eval.report.run import Run
from s2t_eval.report.runs import is_of_default_metric
from s2t_eval.report.table import Block, Cell, Table
from s2t_eval.statistics import Interval

COLUMNS = ["student", "method", "method_key", "benchmark", "n", "value", "low", "high", "published", "status"]
NOTHING_MEASURED = (0, np.nan, np.nan, np.nan)
COST_HEAD = ("cut off", "generated tokens / correct answer")


def main_table(entries: Sequence[Entry], *, intervals: bool = False, with_published: bool = True) -> Table:
    """Accuracy in percent.

    Args:
        entries: runs in their places.
        intervals: whether each cell contains n and the 95 % interval.
        with_published: whether published numbers are shown, except in columns of another metric than the
            task's own: they are accuracies of single answers.
    """
    data = pd.concat([_measured(entries), _math_averages(entries)], ignore_index=True)
    if with_published:
        data = _add_published(data, _columns_of_another_metric(entries))
    benchmarks = [b.title for b in _columns(entries, with_published)]
    math_at = [i for i, title in enumerate(benchmarks) if title in _MATH]
    if len(math_at) == len(_MATH):
        benchmarks.insert(math_at[-1] + 1, MATH_AVG)
    cost_cells = _cost_cells(entries)
    lower = {entry.benchmark.title for entry in entries if not entry.run.is_higher_better}
    blocks = [
        Block(str(student), _rows(rows, benchmarks, intervals, cost_cells, lower))
        for student, rows in data.groupby("student", sort=False)
    ]
    return Table(
        name="main",
        title="Accuracy in percent, methods by benchmarks",
        head=["method", *benchmarks, *COST_HEAD],
        blocks=blocks,
        notes=_notes(entries, intervals, with_published),
        data=data,
    )


_MATH = [benchmark.title for benchmark in BENCHMARKS if benchmark.is_math]


def _columns(entries: Sequence[Entry], with_published: bool) -> list[Benchmark]:
    in_paper = {b for b in BENCHMARKS if b.key in set(published()["benchmark"])} if with_published else set()
    return sorted({entry.benchmark for entry in entries} | in_paper, key=column_order)


def _measured(entries: Sequence[Entry]) -> pd.DataFrame:
    rows = []
    for entry in entries:
        score = accuracy(entry.run)
        numbers = (score.n, 100 * score.value, 100 * score.interval.low, 100 * score.interval.high)
        place = (entry.student, entry.label, entry.run.method.key, entry.benchmark.title)
        rows.append((*place, *numbers, None, None))
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


def _columns_of_another_metric(entries: Sequence[Entry]) -> list[str]:
    """The columns of a metric or filter that `--metric` chose, and the average that contains one of them."""
    others = {entry.benchmark.title: None for entry in entries if not is_of_default_metric(entry.run)}
    return [*others, *([MATH_AVG] if others.keys() & set(_MATH) else [])]


def _add_published(data: pd.DataFrame, without: Sequence[str]) -> pd.DataFrame:
    """Published numbers in the block of the student they were published for, else in a block of their own.

    A number belongs to a method, not to a setting: it is shown in the method's first row. The columns
    `without` have none.
    """
    titles = {benchmark.key: benchmark.title for benchmark in BENCHMARKS} | {MATH_AVG_KEY: MATH_AVG}
    added = []
    data = data.copy()
    students = {published_size(str(student)): str(student) for student in data["student"].unique()}
    for row in published().itertuples(index=False):
        student = students.get(row.size, f"{STUDENTS[row.size]}, published numbers only")
        in_block = (data["student"] == student) & (data["method_key"] == row.method)
        in_block &= ~_is_teacher(data)
        if BY_KEY[row.method].votes:  # the published vote is one of eight samples
            in_block &= data["method"] == BY_KEY[row.method].title
        title = titles[row.benchmark]
        if title in without:
            continue
        if in_block.any():
            label = data.loc[in_block, "method"].iloc[0]
            at = data.index[in_block & (data["method"] == label) & (data["benchmark"] == title)]
        else:
            label, at = BY_KEY[row.method].title, data.index[:0]
        if len(at):
            data.loc[at[0], ["published", "status"]] = [row.value, row.status]
        else:
            added.append((student, label, row.method, title, *NOTHING_MEASURED, row.value, row.status))
    return _sorted_rows(pd.concat([data, pd.DataFrame(added, columns=COLUMNS)], ignore_index=True))


def _is_teacher(data: pd.DataFrame) -> pd.Series[bool]:
    return data["method"].map(is_teacher_alone).astype(bool)


def _sorted_rows(data: pd.DataFrame) -> pd.DataFrame:
    """Students in their order, methods in the order of the method table, the teacher alone last."""
    order = {method.key: i for i, method in enumerate(METHODS)}
    rank = {student: i for i, student in enumerate(dict.fromkeys(data["student"]))}
    data = data.assign(order=data["method_key"].map(order), rank=data["student"].map(rank))
    data.loc[_is_teacher(data), "order"] = len(METHODS)
    return data.sort_values(["rank", "order"], kind="stable").drop(columns=["rank", "order"])


def _cost_cells(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Cell]]:
    """(student, label) -> the share of texts that were cut off and the tokens for each correct answer."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for entry in entries:
        runs.setdefault((entry.student, entry.label), []).append(entry.run)
    return {
        place: [Cell(percent_sign(cut_off(part))), Cell(rounded(tokens_per_correct(part)))]
        for place, part in runs.items()
    }


def _rows(
    data: pd.DataFrame,
    benchmarks: Sequence[str],
    intervals: bool,
    cost_cells: Mapping[tuple[str, str], Sequence[Cell]],
    lower: Collection[str],
) -> list[list[Cell]]:
    """The rows of a student; `lower` are the benchmarks of a metric of which less is better."""
    measured = data[~_is_teacher(data) & data["value"].notna()]
    has_choice = measured["method"].nunique() > 1  # a single method is not marked as the best
    best: dict[str, float] = {}
    for title, values in measured.groupby("benchmark")["value"] if has_choice else []:
        best[str(title)] = values.min() if title in lower else values.max()
    rows = []
    for (student, label), part in data.groupby(["student", "method"], sort=False):
        by_benchmark = {row.benchmark: row for row in part.itertuples(index=False)}
        refuses_code = BY_KEY[part["method_key"].iloc[0]].refuses_code
        cells = [Cell(str(label))]
        for title in benchmarks:
            row = by_benchmark.get(title)
            if row is None or (pd.isna(row.value) and pd.isna(row.published)):
                is_undefined = refuses_code and title in _CODE
                not_found = "?" if row is not None and row.status == "not found" else None
                cells.append(Cell(MISSING if is_undefined else "", published=not_found))
                continue
            is_best = not is_teacher_alone(str(label)) and row.value == best.get(title)
            published_number = None if pd.isna(row.published) else f"{row.published:.1f}"
            cells.append(Cell(_number(row, intervals), published_number, bool(is_best)))
        rows.append([*cells, *cost_cells.get((student, label), [Cell(), Cell()])])
    return rows


_CODE = [benchmark.title for benchmark in BENCHMARKS if benchmark.is_code]


def _number(row: object, intervals: bool) -> str:
    value, low, high, n = (getattr(row, name) for name in ("value", "low", "high", "n"))
    if pd.isna(value):
        return ""
    score = Accuracy(value / 100, n, Interval(low / 100, high / 100))
    bounds = "" if pd.isna(low) else f" [{score.interval_text}]"
    return f"{percent(score.value)}{bounds} n={n}" if intervals else percent(score.value)


def _notes(entries: Sequence[Entry], intervals: bool, with_published: bool) -> list[str]:
    notes = ["Bold marks the best measured method of a student; the teacher alone is not a method."]
    if intervals:
        notes.append("Brackets contain Wilson's 95 % interval; n is the number of documents with a score.")
    notes += dict.fromkeys(note for entry in entries if (note := group_note(entry.run)) is not None)
    sizes = {
        b.title: sorted({e.run.n for e in entries if e.benchmark == b}) for b in _columns(entries, False)
    }
    notes.append("Documents (n): " + ", ".join(f"{title} {ns[0]}" for title, ns in sizes.items()) + ".")
    teachers = sorted(
        {
            (e.student, e.run.backend_info["teacher_name"])
            for e in entries
            if e.run.backend_info.get("teacher") and e.run.backend_info.get("teacher_name")
        }
    )
    if teachers:
        pairs = (f"{short_name(teacher)} for {short_name(student)}" for student, teacher in teachers)
        notes.append("Teachers: " + ", ".join(pairs) + ".")
    notes.append(
        "Cut off is the share of texts that ended at the limit of new tokens. Tokens are generated tokens, "
        "those of all samples of a vote, discarded drafts and abandoned branches included."
    )
    if with_published:
        notes.append(
            "Parentheses contain published numbers (arXiv 2604.26940; PPS-Local as its authors report it; "
            f"S2T and Takeover read off a figure, ±0.7), with {sources()['s2t-table']['setting']}; ? marks a "
            "number that was not found. They are shown beside measured numbers only where the student is the "
            "published one; teacher, prompts and penalties may differ there too."
        )
        without = [title for title in _columns_of_another_metric(entries) if title != MATH_AVG]
        if without:
            notes.append(
                f"Published numbers of {', '.join(without)} are left out: the scores are of another metric."
            )
    return notes
