"""`s2t-eval compare`: new results against a baseline, with paired statistics and an exit code."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_writable_file
from s2t_eval.cli.flags import Commands, metric_choices, require_used
from s2t_eval.ranges import NOT_NEGATIVE, Range

POINTS = Range("points from 0 to 100", 0, 100)
SIGNIFICANCE = Range("a probability between 0 and 1", 0, 1, without=(0, 1))

EXITS = "exit codes: 0 within noise, 1 what --fail-on names has happened, 2 not comparable"


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare", help="new results against a baseline: paired statistics, exit code", epilog=EXITS
    )
    add = parser.add_argument
    add("baseline", type=Path, help="output folder of lm_eval, or a file or folder of results/baselines")
    add("new", type=Path, nargs="+", help="the results to compare with it")
    kinds = ("regression", "cost", "change", "nothing")
    add("--fail-on", nargs="+", choices=kinds, default=["regression"], help="default: regression")
    add("--threshold", type=float, default=0.0, help="points a task may lose (default 0)")
    add("--alpha", type=float, default=0.05, help="significance after Holm (default 0.05)")
    add("--cost-threshold", type=float, default=5.0, help="percent a cost may grow (default 5)")
    add("--metric", nargs="+", default=[], help="TASK=METRIC,FILTER where a task has several")
    add("--json", help="also write the comparison here")
    add("--markdown", help="also write the table here; it is printed, and added to $GITHUB_STEP_SUMMARY")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the comparison; exit with 1 where it fails."""
    from s2t_eval.artifacts.files import write_text
    from s2t_eval.report.compare import Rules, compare, failures
    from s2t_eval.report.compare_text import markdown
    from s2t_eval.report.runs import read_runs

    # Not a number fails no gate: each limit is checked, so that none passes whatever the results are.
    POINTS.require("--threshold", parsed.threshold)
    SIGNIFICANCE.require("--alpha", parsed.alpha)
    NOT_NEGATIVE.require("--cost-threshold", parsed.cost_threshold)
    if "nothing" in parsed.fail_on and len(set(parsed.fail_on)) > 1:
        raise ValueError(f"--fail-on: expected `nothing` alone or without it, got {' '.join(parsed.fail_on)}")
    metrics = metric_choices(parsed.metric)
    for flag, name in (("--json", parsed.json), ("--markdown", parsed.markdown)):
        if name:
            require_writable_file(flag, Path(name))
    if parsed.json and parsed.markdown and Path(parsed.json).resolve() == Path(parsed.markdown).resolve():
        raise ValueError(f"--json, --markdown: expected two files, got {parsed.json} for both")
    rules = Rules(parsed.threshold / 100, parsed.alpha, parsed.cost_threshold / 100)
    base, new = read_runs([parsed.baseline], metrics), read_runs(parsed.new, metrics)
    require_used(metrics, [run.task for run in [*base, *new]])
    rows = compare(base, new, rules)
    problems = failures(rows, parsed.fail_on)
    text = markdown(rows, problems, rules)
    print(text)
    if parsed.markdown:
        write_text(Path(parsed.markdown), text)
    if parsed.json:
        content = {"failures": problems, "rows": [row.report() for row in rows]}
        write_text(Path(parsed.json), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if problems:
        raise SystemExit(1)
