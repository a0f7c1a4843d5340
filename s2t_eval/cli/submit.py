"""`s2t-eval submit`: files that leaderboards take, validated, never as the plain model's score."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.flags import Commands, metric_choices, require_used

SIGNS = ("*/.eval_results/*.yaml", "*-*/README.md", "data/*/*/*/*.json")
"""What each of the forms puts into its folder."""
FORMS = ("eval-results", "model-index", "every-eval-ever")


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser("submit", help="files that leaderboards take")
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="output folders of lm_eval, or files of results/baselines")
    add("--to", choices=FORMS, required=True)
    add("--out", type=Path, required=True, help="folder to write; made if need be")
    add("--model-id", help="ORG/NAME of the student on the Hub (default: the run's own name)")
    add("--dataset", nargs="+", default=[], help="TASK=ORG/DATASET:TASK where the dataset is not known")
    add("--source-url", help="where the evaluation can be read about")
    add("--organization", help="who ran it")
    add("--allow-partial", action="store_true", help="runs with --limit too; the notes say so")
    add("--validator", help="command of every-eval-ever (default: every_eval_ever)")
    add("--metric", nargs="+", default=[], help="TASK=METRIC,FILTER where a task has several")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the files, and say which."""
    from s2t_eval.report.every_eval_ever import write_every_eval_ever
    from s2t_eval.report.leaderboard import write_eval_results, write_model_index
    from s2t_eval.report.runs import read_runs
    from s2t_eval.report.submission import Claim

    require_reusable_folder("--out", parsed.out, "one of `s2t-eval submit`", SIGNS)
    metrics = metric_choices(parsed.metric)
    runs = read_runs(parsed.results, metrics)
    require_used(metrics, [run.task for run in runs])
    claim = Claim(
        model_id=parsed.model_id,
        datasets=dict(map(_dataset, parsed.dataset)),
        source_url=parsed.source_url,
        organization=parsed.organization,
        allow_partial=parsed.allow_partial,
    )
    if parsed.to == "eval-results":
        paths = write_eval_results(runs, parsed.out, claim)
    elif parsed.to == "model-index":
        paths = write_model_index(runs, parsed.out, claim)
    else:
        paths = write_every_eval_ever(runs, parsed.out, claim, parsed.validator)
    print(*paths, sep="\n")


def _dataset(text: str) -> tuple[str, tuple[str, str]]:
    task, _, rest = text.partition("=")
    dataset, _, part = rest.partition(":")
    if not task or dataset.count("/") != 1:
        raise ValueError(f"--dataset: expected TASK=ORG/DATASET:TASK, got {text!r}")
    return task, (dataset, part or "default")
