"""Writes the files of `s2t-eval analyze` from labels, results and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s2t_eval.analysis.bottleneck import trigger_or_selection
from s2t_eval.analysis.rescore import Rescorer
from s2t_eval.analysis.rescue import flips_text, picks, rescue_map
from s2t_eval.analysis.scans import k_scan, takeover_against_selection, tau_scan
from s2t_eval.analysis.selection import error_split
from s2t_eval.analysis.share_rule import measured_shares, share_rule
from s2t_eval.analysis.steps import groups, positions, top, with_selector
from s2t_eval.analysis.sufficiency import hit_rates, smallest_k
from s2t_eval.analysis.triggers import gain_kept, trigger_roc
from s2t_eval.method_table import TEACHER_SCORES
from s2t_eval.report.blocks import Entry, arrange, has_adapter
from s2t_eval.report.efficiency_table import efficiency_table
from s2t_eval.report.figures import Plot, pareto_plot
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.origin import origin_note
from s2t_eval.report.page import page
from s2t_eval.report.run import Run
from s2t_eval.report.table import Block, Cell, Table
from s2t_eval.report.traces import (
    Trace,
    by_task,
    greedy_control,
    load_decode,
    run_of_trace,
    scores_by_position,
)
from s2t_eval.report.write import write_files

DEFAULT_KS = (1, 2, 4, 8, 16)
MAX_ROWS = 40
"""A longer table is summarised on the page and in Markdown; its CSV has all rows."""


def of_labels(
    label_sets: Mapping[str, Any],
    tau: float,
    ks: Sequence[int] | None,
    learned: Mapping[str, Any],
    ends_line: npt.NDArray[np.bool_] | None = None,
    top_k: int = 8,
) -> list[Plot]:
    """Local sufficiency, the error split of student and teacher, the triggers' ROC, trigger or selection.

    Args:
        label_sets: benchmark -> trajectories.
        tau: share of the steps, by KL, that are analysed.
        ks: numbers of candidates for the error split; None takes the powers of two up to those of the labels.
        learned: problem -> scores of a trained selector (`trajectory_scores`); where it is not empty,
            error split and ROC are restricted to these problems.
        ends_line: whether a token ends a line, [text_vocab], for the entropy at the first token of a line.
        top_k: number of candidates among which the trained selector picks in decoding.

    Raises:
        ValueError: labels without a top step, or without one in the problems of `learned`; labels whose
            candidates do not cover the top `tau`, or more candidates than they have.
    """
    steps = pd.concat(
        [positions(set_, name, ends_line) for name, set_ in label_sets.items()], ignore_index=True
    )
    steps = steps.dropna(axis="columns")  # a signal that not every set has: labels of servers lack entropy
    candidates = pd.concat([groups(set_, name) for name, set_ in label_sets.items()], ignore_index=True)
    chosen = top(candidates, steps, tau)
    width = min(len(scores) for scores in candidates["student"])
    if ks is not None and max(ks) > width:
        raise ValueError(f"k: expected at most the {width} candidates a step of the labels, got {max(ks)}")
    selectors = {"greedy's own order": "student", "the teacher": "teacher"}
    split, crossed = chosen, None
    if learned:
        selectors["the trained selector"] = "selector"
        steps, candidates = with_selector(steps, candidates, learned)
        split = candidates.merge(chosen[["benchmark", "problem_id", "t"]])
        if split.empty:
            raise ValueError(
                f"--selector: no text that it was not trained on has one of the {len(chosen)} top steps by "
                f"KL (tau {tau}); label more problems, or take a larger --tau"
            )
        crossed = trigger_or_selection(steps, candidates, top_k)
    plots = [
        hit_rates(chosen),
        smallest_k(chosen),
        error_split(split, selectors, ks or DEFAULT_KS),
        trigger_roc(steps, tau),
    ]
    return plots if crossed is None else [*plots, crossed]


def of_results(entries: Sequence[Entry], agreement: Sequence[pd.DataFrame]) -> list[Plot]:
    """Scans, gain kept by triggers, takeover against selection, cost, the rule: each whose runs are there.

    Args:
        entries: the runs.
        agreement: of `share_rule.read_agreement`, for the rule of agreement and share.
    """
    plots = (
        share_rule(measured_shares(entries, agreement)),
        tau_scan(entries),
        k_scan(entries),
        gain_kept(entries),
        takeover_against_selection(entries),
        pareto_plot(entries),
    )
    return [plot for plot in plots if plot is not None]


def of_traces(
    traces: Sequence[Trace], runs: Sequence[Run], device: str | None, most: int | None
) -> tuple[list[Plot], str]:
    """The rescue map over all traces of a teacher's picks, and the list of flips; empty without such traces.

    Args:
        traces: of any methods.
        runs: the runs that wrote them, and greedy of the same students.
        device: on which the student scores the texts; None takes a GPU where there is one.
        most: the first so many texts of each task of a trace; None: all.

    Raises:
        ResultsError: a trace whose run is not among the results.
    """
    frames = []
    models: dict[str, Rescorer] = {}
    for trace in (part for whole in traces for part in by_task(whole)):
        if trace.method not in TEACHER_SCORES:
            continue
        run = run_of_trace(trace, runs)
        if run is None:
            raise ResultsError(
                f"{trace.path}: its run is not among the results, so its answers and its student "
                "are unknown; give its output folder with --results"
            )
        if has_adapter(run):
            raise ResultsError(
                f"{trace.path}: its student has an adapter (peft=), which is not loaded here; merge it into "
                "a folder, evaluate that and give its trace"
            )
        control_scores = scores_by_position(greedy_control(run, runs))
        if run.model not in models:
            models[run.model] = Rescorer(run.model, device)
        if run.documents is None:
            raise ResultsError(f"{run.source}: no samples of task {run.task}; run lm_eval with --log_samples")
        scores, decode = scores_by_position(run), load_decode(run.model)
        first = replace(trace, records=trace.records[:most])
        frame = picks(first, scores, control_scores, models[run.model], decode)
        frames.append(frame.assign(method=run.label))
    if not frames:
        return [], ""
    data = pd.concat(frames, ignore_index=True)
    return [rescue_map(data)], flips_text(data)


def analyze(
    label_sets: Mapping[str, Any],
    runs: Sequence[Run],
    traces: Sequence[Trace],
    folder: Path,
    *,
    learned: Mapping[str, Any] | None = None,
    tau: float = 0.1,
    ks: Sequence[int] | None = None,
    device: str | None = None,
    texts: int | None = None,
    ends_line: npt.NDArray[np.bool_] | None = None,
    top_k: int = 8,
    agreement: Sequence[pd.DataFrame] = (),
) -> list[Path]:
    """Write NAME.svg and NAME.csv of each analysis, `analysis.md`, `analysis.html` and `flips.md`.

    Args:
        label_sets, learned, tau, ks, ends_line, top_k: see `of_labels`.
        runs, agreement: see `of_results`.
        traces, device, texts: see `of_traces`, whose `most` is `texts`.
        folder: to write into.

    Raises:
        ValueError: nothing to analyse.
    """
    entries = arrange(runs) if runs else []
    plots = of_labels(label_sets, tau, ks, learned or {}, ends_line, top_k) if label_sets else []
    plots += of_results(entries, agreement)
    more, flips = of_traces(traces, runs, device, texts)
    plots += more
    costs = efficiency_table(entries) if entries else None
    if costs is not None:
        costs = replace(costs, notes=[*costs.notes, origin_note(entries)])
    if not plots and costs is None:
        raise ValueError(
            "nothing to analyse: expected --labels of `s2t-eval collect`, --results with "
            "telemetry, or --trace with --results"
        )
    tables = [_table(plot) for plot in plots] + ([costs] if costs else [])
    subtitle = ", ".join([*label_sets, *dict.fromkeys(entry.benchmark.title for entry in entries)])
    pages = {
        "analysis.md": "\n".join(["# Analysis\n", *(table.markdown() for table in tables)]),
        "analysis.html": page("Analysis", f"{subtitle}.", tables, plots),
        **({"flips.md": flips} if flips else {}),
    }
    return write_files(folder, pages, plots)


def _table(plot: Plot) -> Table:
    """The numbers of a figure; long tables (a row for each step) are summarised."""
    data = plot.data
    if len(data) > MAX_ROWS:
        data = data.describe(include="number").T.reset_index(names="column")
    rows = [[Cell(_text(value)) for value in row] for row in data.itertuples(index=False)]
    return Table(f"table-{plot.name}", plot.title, list(map(str, data.columns)), [Block("", rows)], [], data)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)
