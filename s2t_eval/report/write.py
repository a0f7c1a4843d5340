"""Writes the files of `s2t-eval report` from runs and traces."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.files import write_text
from s2t_eval.report.ablation_table import ablation_table
from s2t_eval.report.blocks import Entry, arrange, column_order
from s2t_eval.report.cells import metric_note
from s2t_eval.report.efficiency_table import efficiency_table
from s2t_eval.report.figures import Plot, accuracy_plot, csv_text, pareto_plot
from s2t_eval.report.main_table import main_table
from s2t_eval.report.origin import origin_note, require_one_origin
from s2t_eval.report.page import page
from s2t_eval.report.run import Run
from s2t_eval.report.seeds_table import seeds_table
from s2t_eval.report.table import Table, md
from s2t_eval.report.traces import (
    Decode,
    Trace,
    by_task,
    choose_records,
    greedy_control,
    run_of_trace,
    scores_by_position,
    trajectory,
)

FORMATS = ("md", "latex", "csv", "html")
SUFFIXES = (".md", ".tex", ".csv", ".html", ".svg")
"""Of the files of reports and analyses."""
MAX_NAMED = 5
"""Files of an earlier call that a note names."""
LATEX_FRAME = """\\documentclass{{article}}
\\usepackage[utf8]{{inputenc}}
\\usepackage[margin=2cm,landscape]{{geometry}}
\\usepackage{{booktabs,graphicx,xcolor}}
\\begin{{document}}
{tables}\\end{{document}}
"""


@dataclass(frozen=True)
class Options:
    """The contents of a report.

    Args:
        title: of the page.
        formats: of FORMATS.
        intervals: n and 95 % intervals in the main table.
        with_published: published numbers after measured ones.
        times: seconds and memory.
        mixed: whether runs of different commits, dtypes or limits are accepted; the captions name them.
        names: model -> the student in whose block it belongs.
    """

    title: str = "s2t-eval report"
    formats: Sequence[str] = FORMATS
    intervals: bool = False
    with_published: bool = True
    times: bool = True
    mixed: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


def report(
    runs: Sequence[Run], folder: Path, options: Options, trajectories: Sequence[dict[str, Any]] = ()
) -> list[Path]:
    """Write tables, figures and page into a folder, which is made once they exist; returns the files, sorted.

    Raises:
        NotComparableError: runs that may not share a column or, without `mixed`, a table.
    """
    entries = arrange(runs, options.names, other_limits=True)
    if not options.mixed:
        require_one_origin(entries)
    tables = make_tables(entries, options)
    accuracies = accuracy_plot(entries, with_published=options.with_published)
    plots = [plot for plot in (accuracies, pareto_plot(entries)) if plot is not None]
    texts: dict[str, str] = {}
    if "md" in options.formats:
        texts["report.md"] = f"# {md(options.title)}\n\n" + "\n".join(table.markdown() for table in tables)
    if "latex" in options.formats:
        texts |= {f"{table.name}.tex": table.latex() for table in tables}
        texts["report.tex"] = LATEX_FRAME.format(
            tables="".join(f"\\input{{{table.name}.tex}}\n" for table in tables)
        )
    if "csv" in options.formats:
        texts |= {f"{table.name}.csv": csv_text(table.data) for table in tables}
    if "html" in options.formats:
        texts["report.html"] = page(options.title, _subtitle(entries), tables, plots, trajectories)
    return write_files(folder, texts, plots)


def write_files(folder: Path, texts: Mapping[str, str], plots: Sequence[Plot]) -> list[Path]:
    """Write texts and figures into a folder, which is made if it is missing.

    A note names what an earlier call has left there: a page that this one replaces without writing its other
    figures, or a page of another format, which still has the old numbers.

    Args:
        folder: where to write.
        texts: name of a file -> its content.
        plots: the figures; each writes files of its own name.

    Returns:
        The files, sorted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    for plot in plots:
        plot.write(folder)
    files = sorted([*(folder / name for name in texts), *(f for plot in plots for f in plot.files(folder))])
    written = {path.name for path in files}
    kinds = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    left = sorted(path.name for path in kinds if path.name not in written)
    if left:
        shown = ", ".join(left[:MAX_NAMED]) + (f" and {len(left) - MAX_NAMED} more" * (len(left) > MAX_NAMED))
        print(
            f"note: {folder} also holds {shown}, which this call did not write and its page does not name; "
            "remove them, or name another --out for each call",
            file=sys.stderr,
        )
    return files


def make_tables(entries: Sequence[Entry], options: Options) -> list[Table]:
    """The tables of a report; the last notes of each name metrics, and commit, dtype, device and limits."""
    tables = (
        main_table(entries, intervals=options.intervals, with_published=options.with_published),
        seeds_table(entries),
        ablation_table(entries, other_limits=options.mixed, with_published=options.with_published),
        efficiency_table(entries, times=options.times, with_published=options.with_published),
    )
    columns = sorted(((entry.benchmark, entry.run) for entry in entries), key=lambda of: column_order(of[0]))
    captions = [metric_note((benchmark.title, run) for benchmark, run in columns), origin_note(entries)]
    return [replace(table, notes=[*table.notes, *captions]) for table in tables if table is not None]


def _subtitle(entries: Sequence[Entry]) -> str:
    students = ", ".join(dict.fromkeys(entry.student for entry in entries))
    versions = sorted({str(entry.run.results.get("lm_eval_version")) for entry in entries} - {"None"})
    harness = f"; lm_eval {', '.join(versions)}" if versions else ""
    return f"{len(entries)} runs of {students}{harness}."


def viewer_texts(
    traces: Sequence[Trace], runs: Sequence[Run], decode: Decode, max_texts: int
) -> list[dict[str, Any]]:
    """Texts of traces for the page, scored where the runs that wrote them are among `runs`."""
    texts = []
    for trace in (part for whole in traces for part in by_task(whole)):
        run = run_of_trace(trace, runs)
        scores = scores_by_position(run)
        control = greedy_control(run, runs) if run is not None else None
        control_scores = scores_by_position(control) if control is not run else {}
        for index in choose_records(trace, max_texts, scores, control_scores):
            record = trace.records[index]
            text = trajectory(record, decode, scores.get(record["doc_id"]))
            texts.append({**text, "was": control_scores.get(record["doc_id"])})
    return texts
