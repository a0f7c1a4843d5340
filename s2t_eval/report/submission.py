"""What every leaderboard file says of a run: who, what, how, on how many documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import s2t_eval
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.blocks import short_name
from s2t_eval.report.runs import ResultsError, Run, short_hash

PLAIN = ("hf", "greedy")


@dataclass(frozen=True)
class Claim:
    """What is claimed with a score, beyond what the results say.

    Args:
        model_id: of the student on the Hub, `organisation/name`; None takes the run's own name.
        datasets: task -> (dataset on the Hub, task in it).
        source_url: where the evaluation can be read about.
        organization: who ran it.
        allow_partial: whether runs with `--limit` may be submitted; their notes say so.
    """

    model_id: str | None = None
    datasets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    source_url: str | None = None
    organization: str | None = None
    allow_partial: bool = False

    def model(self, run: Run) -> str:
        """The student's name on the Hub; raises `ResultsError` where it has none."""
        name = self.model_id or short_name(run.model)
        if name.count("/") != 1:
            raise ResultsError(f"{run.source}: model {name!r}: expected a Hub name; give --model-id ORG/NAME")
        return name

    def dataset(self, run: Run) -> tuple[str, str]:
        """Dataset and task in it; raises `ResultsError` for a task of unknown ones."""
        benchmark = benchmark_of(run.task)
        if run.task in self.datasets:
            return self.datasets[run.task]
        if benchmark.dataset is None:
            raise ResultsError(
                f"{run.source}: task {run.task} has no known dataset on the Hub; give "
                f"--dataset {run.task}=ORG/DATASET:TASK"
            )
        return benchmark.dataset, benchmark.key


def require_whole(runs: Sequence[Run], claim: Claim) -> None:
    """Raise `ResultsError` for a run that left documents out, or left some without a score."""
    for run in runs:
        total = documents_of_task(run)
        unscored = run.n - len(run.scored) if run.documents is not None else 0
        if (run.n < total or unscored) and not claim.allow_partial:
            raise ResultsError(
                f"{run.source}: {run.task} was run on {run.n} of {total} documents ({unscored} without a "
                "score); a leaderboard wants all; run without --limit, or give --allow-partial and the notes "
                "say so"
            )


def documents_of_task(run: Run) -> int:
    """Documents that the task has, whatever `--limit` left."""
    known = run.results["n-samples"].get(run.task)
    return int(known["original"]) if known else run.n


def prompt_hash(run: Run) -> str:
    """One hash over the prompts of all documents; raises `ResultsError` without samples."""
    return short_hash("".join(sorted(run.scored["prompt_hash"])))


def details(run: Run) -> dict[str, str]:
    """How the score came about, in words: every setting that another run could have otherwise."""
    ours, settings = run.ours, run.settings
    found = {
        "method": run.method.title,
        "method_about": run.method.about,
        "K": settings.top_k,
        "tau": settings.tau,
        "trigger": settings.trigger,
        "threshold": settings.threshold,
        "selector": settings.selector,
        "selector_checkpoint": settings.checkpoint,
        "proposal_weight": settings.proposal_weight,
        "adapter_scale": settings.adapter_scale,
        "proposer": settings.proposer,
        "samples": settings.samples,
        "seed": settings.seed,
        "teacher": short_name(str(ours["teacher_name"])) if ours.get("teacher_name") else None,
        "student_fingerprint": ours.get("student"),
        "teacher_fingerprint": ours.get("teacher"),
        "calibration": ours.get("calibration"),
        "prompt_hash": prompt_hash(run),
        "task": run.task,
        "task_version": run.version,
        "filter": run.filter,
        "n": f"{run.n} of {documents_of_task(run)}",
        "few_shot": run.results.get("n-shot", {}).get(run.task),
        "max_new_tokens": run.limits.get("max_gen_toks"),
        "lm_eval": run.results.get("lm_eval_version"),
        "s2t_eval": ours.get("version", s2t_eval.__version__),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def notes(run: Run) -> str:
    """The details in one line, with what the score is not."""
    about = "; ".join(f"{k} {v}" for k, v in details(run).items() if k != "method_about")
    if run.method.key in PLAIN:
        return f"{run.method.about}; {about}"
    return f"NOT the plain model's score: decoded with {run.method.title} ({run.method.about}); {about}"


def score(run: Run) -> float:
    """In percent, to two places."""
    return round(100 * run.value, 2)


def date(run: Run) -> str:
    """Of the run, ISO 8601."""
    return datetime.fromtimestamp(run.date, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def folder_name(run: Run) -> str:
    """Model, method and settings: the files of two methods, or of two models, never meet."""
    return slug(f"{short_name(run.model)} {run.label}")


def slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
