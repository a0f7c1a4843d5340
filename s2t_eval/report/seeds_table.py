"""The seeds table: how far the accuracy of a setting varies between the seeds of its training or sampling."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from s2t_eval.report.blocks import Entry, teacher_of
from s2t_eval.report.cells import percent
from s2t_eval.report.origin import dtype_of
from s2t_eval.report.run import Run
from s2t_eval.report.table import Block, Cell, Table

HEAD = ("method", "benchmark", "n", "seeds", "mean %", "standard deviation", "each seed %")
OF_DECODING = ("search", "sampling", "max_depth", "delimiter", "max_step", "max_length")
"""Entries of `config.s2t_eval`."""
COLUMNS = ["student", "method", "benchmark", "n", "seeds", "mean", "standard_deviation", "values"]


def seeds_table(entries: Sequence[Entry]) -> Table | None:
    """Mean and spread over seeds; None where no setting was run with two of them.

    The other tables have a row for each seed, with its interval over documents.

    Args:
        entries: runs in their places.
    """
    by_setting: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        place = (entry.student, _label(entry), entry.benchmark.title)
        by_setting.setdefault((*place, _decoding(entry.run)), []).append(entry)
    rows = []
    for (*names, _), part in by_setting.items():
        by_seed = {entry.run.settings.seed: 100 * entry.run.value for entry in part}
        if len(part) > 1 and len(by_seed) == len(part):  # else they differ in something that has no column
            values = [by_seed[seed] for seed in sorted(by_seed)]
            spread = (statistics.fmean(values), statistics.stdev(values))
            rows.append((*names, part[0].run.n, len(values), *spread, " ".join(f"{v:.1f}" for v in values)))
    if not rows:
        return None
    data = pd.DataFrame(rows, columns=COLUMNS)
    blocks = [
        Block(str(student), [_cells(row) for _, row in part.iterrows()])
        for student, part in data.groupby("student", sort=False)
    ]
    notes = [
        "A seed decides the order and initialization of training and every random draw in decoding. The "
        "standard deviation is that of the sample of seeds, in points; it does not contain the error of a "
        "finite number of documents, which the intervals of the other tables give."
    ]
    return Table("seeds", "Accuracy over seeds", HEAD, blocks, notes, data)


def _decoding(run: Run) -> str:
    """The settings of decoding that have no place in the label, as text.

    Thresholds and hashes of students and selectors are not among them: each seed trains models of its own,
    and calibrates them. No seed trains the teacher.
    """
    info = run.backend_info
    of_decoding = {name: info.get(name) for name in OF_DECODING}
    content = [of_decoding, teacher_of(run), dtype_of(run), run.limits]
    return json.dumps(content, sort_keys=True)


def _label(entry: Entry) -> str:
    """The row's label without its seed, and without a file's name that tells two seeds apart."""
    if entry.is_teacher:
        return entry.label
    run = entry.run
    return replace(run, settings=replace(run.settings, seed=0)).label


def _cells(row: pd.Series) -> list[Cell]:
    numbers = (percent(row["mean"] / 100), f"{row['standard_deviation']:.1f}", row["values"])
    return [Cell(row["method"]), Cell(row["benchmark"]), Cell(str(row["n"])), Cell(str(row["seeds"]))] + [
        Cell(number) for number in numbers
    ]
