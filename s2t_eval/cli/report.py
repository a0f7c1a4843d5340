"""`s2t-eval report`: the paper's tables and figures from harness results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.flags import Commands, metric_choices, require_flags, require_used
from s2t_eval.ranges import AT_LEAST_0


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report", help="tables (md, latex, csv), figures and a page with a trajectory viewer"
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="output folders of lm_eval, or files of results/baselines")
    add("--format", default="md,latex,csv,html", help="comma-separated (default: all four)")
    add("--out", type=Path, required=True, help="folder to write; made if need be")
    add("--title", default="s2t-eval report")
    add("--intervals", action="store_true", help="n and 95 %% intervals in the main table")
    add("--no-published", action="store_true", help="leave the paper's numbers out")
    add("--no-times", action="store_true", help="leave seconds and memory out")
    add("--mixed", action="store_true", help="accept runs of different commits, dtypes or limits")
    add("--metric", nargs="+", default=[], help="TASK=METRIC,FILTER where a task has several")
    add("--student", nargs="+", default=[], help="MODEL=STUDENT: put a checkpoint into a student's block")
    add("--trace", type=Path, nargs="+", default=[], help="trace files for the viewer")
    add("--tokenizer", help="of the traces (default: the pretrained model of the run that wrote them)")
    add("--texts", type=int, default=20, help="texts to show of each trace (default 20)")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the report, and say which files it has."""
    from s2t_eval.report.runs import read_runs
    from s2t_eval.report.write import FORMATS, Options, report

    formats = [name.strip() for name in parsed.format.split(",")]
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"--format: expected some of {', '.join(FORMATS)}, got {unknown[0]!r}")
    if any("=" not in pair for pair in parsed.student):
        raise ValueError(f"--student: expected MODEL=STUDENT, got {' '.join(parsed.student)!r}")
    require_flags(parsed, texts=AT_LEAST_0)
    require_reusable_folder("--out", parsed.out, "one of `s2t-eval report`", ["accuracy.svg"])
    metrics, names = metric_choices(parsed.metric), dict(pair.rsplit("=", 1) for pair in parsed.student)
    runs = read_runs(parsed.results, metrics)
    require_used(metrics, [run.task for run in runs])
    models = sorted({run.model for run in runs})
    foreign = [model for model in names if model not in models]
    if foreign:
        raise ValueError(f"--student: no run is of model {foreign[0]!r}; there are {', '.join(models)}")
    options = Options(
        title=parsed.title,
        formats=formats,
        intervals=parsed.intervals,
        with_published=not parsed.no_published,
        times=not parsed.no_times,
        mixed=parsed.mixed,
        names=names,
    )
    texts = _texts(parsed, runs)
    for path in report(runs, parsed.out, options, texts):
        print(path)


def _texts(parsed: argparse.Namespace, runs: list[Any]) -> list[dict[str, Any]]:
    from s2t_eval.report.traces import load_decode, read_trace, run_of_trace
    from s2t_eval.report.write import viewer_texts

    texts = []
    for path in parsed.trace:
        trace = read_trace(path)
        wrote = run_of_trace(trace, runs)
        name = parsed.tokenizer or (wrote.model if wrote else None)
        if name is None:
            raise ValueError(
                f"{path}: none of the given runs wrote this trace, so its tokenizer is unknown; give "
                "--tokenizer MODEL"
            )
        texts += viewer_texts([trace], runs, load_decode(name), parsed.texts)
    return texts
