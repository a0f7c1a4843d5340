"""`s2t-eval compare`: new results against a baseline, with paired statistics and an exit code."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from s2t_eval.artifacts.output_paths import require_writable_file
from s2t_eval.cli.metrics import metric_choices, require_used
from s2t_eval.ranges import NOT_NEGATIVE, Range

if TYPE_CHECKING:
    from s2t_eval.report.compare import Rules

POINTS = Range("points from 0 to 100", 0, 100)
SIGNIFICANCE = Range("a probability between 0 and 1", 0, 1, without=(0, 1))
FailOn = Literal["regression", "cost", "change", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare new results with a baseline: paired statistics and an exit code.

    Exit codes: 0 within noise, 1 an event of --fail_on has happened, 2 not comparable.

    Args:
        baseline: output folder of lm_eval, or a file or folder of results/baselines.
        new: the results to compare with the baseline.
        fail_on: events that end in exit code 1: a `regression` of the score (or a document without one that
            had one), a growth of a `cost`, any `change` of a text, a score or a cost, or `nothing`.
        threshold: points (hundredths of the score) that a task may lose without being a regression.
        alpha: largest p-value, after Holm's correction, at which a loss is a regression.
        cost_threshold: percent by which a cost may grow.
        metric: TASK=METRIC,FILTER where a task has several metrics.
        json: file to write the comparison to as JSON.
        markdown: file to write the table to; it is printed too, and added to $GITHUB_STEP_SUMMARY.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval compare results/baselines/embedded/greedy.json runs/greedy"

    baseline: Path = field(kw_only=False)
    new: tuple[Path, ...] = field(kw_only=False)
    fail_on: tuple[FailOn, ...] = ("regression",)
    threshold: float = 0.0
    alpha: float = 0.05
    cost_threshold: float = 5.0
    metric: tuple[str, ...] = ()
    json: Path | None = None
    markdown: Path | None = None

    def run(self) -> None:
        """Print the comparison; exit with 1 where it fails."""
        from s2t_eval.artifacts.files import write_text
        from s2t_eval.report.compare import compare, failures
        from s2t_eval.report.compare_text import markdown
        from s2t_eval.report.runs import read_runs

        rules = self._rules()
        metrics = metric_choices(self.metric)
        base, new = read_runs([self.baseline], metrics), read_runs(list(self.new), metrics)
        require_used(metrics, [run.task for run in [*base, *new]])
        rows = compare(base, new, rules)
        problems = failures(rows, list(self.fail_on))
        text = markdown(rows, problems, rules)
        print(text)
        if self.markdown:
            write_text(self.markdown, text)
        if self.json:
            content = {"failures": problems, "rows": [row.report() for row in rows]}
            write_text(self.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(text)
        if problems:
            raise SystemExit(1)

    def _rules(self) -> Rules:
        """When a difference counts; raises `ValueError` for options that are out of range."""
        from s2t_eval.report.compare import Rules

        # Not a number fails no gate: each limit is checked, so that none passes whatever the results are.
        POINTS.require("--threshold", self.threshold)
        SIGNIFICANCE.require("--alpha", self.alpha)
        NOT_NEGATIVE.require("--cost_threshold", self.cost_threshold)
        if "nothing" in self.fail_on and len(set(self.fail_on)) > 1:
            raise ValueError(
                f"--fail_on: expected `nothing` alone or without it, got {' '.join(self.fail_on)}"
            )
        for flag, path in (("--json", self.json), ("--markdown", self.markdown)):
            if path:
                require_writable_file(flag, path)
        if self.json and self.markdown and self.json.resolve() == self.markdown.resolve():
            raise ValueError(f"--json, --markdown: expected two files, got {self.json} for both")
        return Rules(self.threshold / 100, self.alpha, self.cost_threshold / 100)
