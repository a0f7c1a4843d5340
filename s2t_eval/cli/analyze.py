"""`s2t-eval analyze`: where and why selection helps, from labels, results and traces."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.cli.flags import Commands, metric_choices, require_at_least


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "analyze", help="local sufficiency, error split, triggers, rescue map, scans, cost"
    )
    add = parser.add_argument
    add("--labels", nargs="+", default=[], help="label folders of `s2t-eval collect`, FOLDER or NAME=FOLDER")
    add("--results", type=Path, nargs="+", default=[], help="output folders of lm_eval, or baselines")
    add("--trace", type=Path, nargs="+", default=[], help="traces of s2t or takeover; need their --results")
    add("--tau", type=float, default=0.1, help="rate of the steps that count, by KL (default 0.1)")
    add("--k", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="for the error split")
    add("--device", default="cpu", help="where the student rescores traces (default cpu)")
    add("--metric", nargs="+", default=[], help="TASK=METRIC,FILTER where a task has several")
    add("--out", type=Path, required=True, help="folder to write; made if need be")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the analysis, and say which files it has."""
    from s2t_eval.analysis.write import analyze
    from s2t_eval.report.runs import read_runs
    from s2t_eval.report.traces import read_trace
    from s2t_eval.training.labels import LabelSet

    if not 0 < parsed.tau < 1:
        raise ValueError(f"--tau: expected a rate between 0 and 1, got {parsed.tau}")
    for k in parsed.k:
        require_at_least("--k", k, 1)
    labels = {}
    for text in parsed.labels:
        name, _, folder = text.rpartition("=")
        labels[name or Path(folder).name] = LabelSet.load(Path(folder))
    runs = read_runs(parsed.results, metric_choices(parsed.metric)) if parsed.results else []
    traces = [read_trace(path) for path in parsed.trace]
    paths = analyze(labels, runs, traces, parsed.out, tau=parsed.tau, ks=parsed.k, device=parsed.device)
    print(*paths, sep="\n")
