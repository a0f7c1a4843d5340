"""`s2t-eval submit`: files that leaderboards take, validated, never as the plain model's score."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.metrics import metric_choices, require_used

SIGNS = ("*/.eval_results/*.yaml", "*-*/README.md", "data/*/*/*/*.json")
"""Files by which a folder of each of the forms is recognised."""
Form = Literal["eval-results", "model-index", "every-eval-ever"]


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Write files that leaderboards take.

    Of a group such as `s2t_math`, which is no dataset, the score of each of its tasks is written.

    Args:
        results: output folders of lm_eval, or files of results/baselines.
        to: kind of file to write.
        out: folder to write; it is made where it does not exist.
        model_id: ORG/NAME of the student on the Hub. None: the run's own name.
        dataset: TASK=ORG/DATASET:TASK where the dataset of a task is not known.
        source_url: address at which the evaluation is described.
        organization: organization that ran the evaluation; in the Hub's forms it needs `--source_url`.
        allow_partial: write runs with `--limit` too; their notes name the limit.
        validator: command that validates files of every-eval-ever. None: every_eval_ever.
        metric: TASK=METRIC,FILTER where a task has several metrics.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval submit results/baselines/embedded/greedy.json --to eval-results --model_id org/student \\\n"
        "    --dataset s2t_arith=org/arith:default --out submission"
    )

    results: tuple[Path, ...] = field(kw_only=False)
    to: Form
    out: Path
    model_id: str | None = None
    dataset: tuple[str, ...] = ()
    source_url: str | None = None
    organization: str | None = None
    allow_partial: bool = False
    validator: str | None = None
    metric: tuple[str, ...] = ()

    def run(self) -> None:
        """Write the files and print their names."""
        from s2t_eval.report.benchmarks import benchmark_of
        from s2t_eval.report.every_eval_ever import write_every_eval_ever
        from s2t_eval.report.leaderboard import write_eval_results, write_model_index
        from s2t_eval.report.runs import read_runs
        from s2t_eval.report.submission import Claim

        self._require_consistent()
        require_reusable_folder(self.out, "one of `s2t-eval submit`", SIGNS)
        metrics = metric_choices(self.metric)
        datasets = dict(map(_dataset, self.dataset))
        runs = read_runs(
            list(self.results),
            metrics,
            lambda group: group in datasets or benchmark_of(group).dataset is not None,
        )
        require_used(metrics, [run.task for run in runs])
        require_used(datasets, [run.task for run in runs], "--dataset")
        claim = Claim(
            model_id=self.model_id,
            datasets=datasets,
            source_url=self.source_url,
            organization=self.organization,
            allow_partial=self.allow_partial,
        )
        if self.to == "eval-results":
            paths = write_eval_results(runs, self.out, claim)
        elif self.to == "model-index":
            paths = write_model_index(runs, self.out, claim)
        else:
            paths = write_every_eval_ever(runs, self.out, claim, self.validator)
        print(*paths, sep="\n")

    def _require_consistent(self) -> None:
        """Raise `ValueError` for options that the chosen form has no place for."""
        if self.to == "every-eval-ever":
            return
        if self.validator is not None:
            raise ValueError("--validator: it is of --to every-eval-ever alone; leave it out")
        if self.organization is not None and self.source_url is None:
            raise ValueError(
                "--organization: the Hub's forms name it with the address of the evaluation only; give "
                "--source_url too, or leave it out"
            )


def _dataset(text: str) -> tuple[str, tuple[str, str]]:
    task, _, rest = text.partition("=")
    dataset, _, part = rest.partition(":")
    if not task or dataset.count("/") != 1:
        raise ValueError(f"--dataset: expected TASK=ORG/DATASET:TASK, got {text!r}")
    return task, (dataset, part or "default")
