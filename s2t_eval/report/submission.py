"""The entries of every leaderboard file: model, method, settings, documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from s2t_eval.method_table import LENGTH_NAMES
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.blocks import short_name
from s2t_eval.report.computed import model_arguments
from s2t_eval.report.documents import short_hash
from s2t_eval.report.json_files import ResultsError, part_of
from s2t_eval.report.run import Run

PLAIN = ("hf", "greedy")
OTHER_SETTINGS = (
    *("dtype", "sampling", "search", "tah_hash", "max_depth", "oracle", "step_score", "accept"),
    *("accept_rate", "delimiter", "max_step", "max_length"),
)
"""Entries of `config.s2t_eval` in which runs of one method may differ, besides those of `Settings`."""
CHANGED_WEIGHTS = (
    *("delta", "load_in_4bit", "load_in_8bit", "quantization_config", "autogptq", "gptqmodel"),
)
"""Arguments of a model with which its weights are not those of its repository."""
LOADING = ("revision", "subfolder", "gguf_file", "peft", *CHANGED_WEIGHTS)
"""Arguments of a model that choose its weights."""
NOT_GIVEN = (None, False, "", "None", "False")
"""Values of an argument that are as if it were left out; lm_eval may record them as text."""


@dataclass(frozen=True)
class Claim:
    """What a submission adds to the results.

    Args:
        model_id: of the student on the Hub, `organisation/name`; None takes the run's own name.
        datasets: task -> (dataset on the Hub, task in it).
        source_url: a page that describes the evaluation.
        organization: the one that ran it.
        allow_partial: whether runs with `--limit` may be submitted; their notes contain n.
    """

    model_id: str | None = None
    datasets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    source_url: str | None = None
    organization: str | None = None
    allow_partial: bool = False

    def model(self, run: Run) -> str:
        """The student's name on the Hub; raises `ResultsError` where it has none."""
        name = self.model_id or short_name(run.model)
        is_folder = self.model_id is None and Path(name).is_dir()
        if is_folder or not _is_repository(name):
            what = "a Hub name, got a folder" if is_folder else "a Hub name"
            raise ResultsError(f"{run.source}: model {name!r}: expected {what}; give --model_id ORG/NAME")
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


def _is_repository(name: str) -> bool:
    """Whether a repository on the Hub may have this name, `organisation/name`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def require_whole(runs: Sequence[Run], claim: Claim) -> None:
    """Raise `ResultsError` for several models under one name, and for runs that a leaderboard cannot take.

    Those are runs without all documents and scores, and of a metric that is no share: scores are written in
    percent.
    """
    models = sorted({run.model for run in runs})
    if claim.model_id is not None and len(models) > 1:
        raise ResultsError(
            f"--model_id {claim.model_id}: expected runs of one student, got those of {', '.join(models)}; "
            "submit each model's (the teacher's, for instance) separately"
        )
    for run in runs:
        if not 0 <= run.value <= 1:
            raise ResultsError(
                f"{run.source}: {run.task} has the {run.metric} {run.value:g}; expected a share from 0 to 1, "
                f"which is written in percent; choose one with --metric {run.task}=METRIC,FILTER"
            )
        total = documents_of_task(run)
        unscored = run.n - len(run.scored) if run.documents is not None else 0
        if (run.n < total or unscored) and not claim.allow_partial:
            raise ResultsError(
                f"{run.source}: {run.task} was run on {run.n} of {total} documents ({unscored} without a "
                "score); a leaderboard needs all of them; run without --limit, or give --allow_partial, "
                "which the notes will mention"
            )


def documents_of_task(run: Run) -> int:
    """The number of documents of the task, or of all tasks of a group, without regard to `--limit`."""
    counts = (part_of(run.results["n-samples"], task) for task in run.tasks)
    return sum(int(count.get("original", count.get("effective", 0))) for count in counts)


def prompt_hash(run: Run) -> str:
    """One hash over the prompts of all documents; raises `ResultsError` without samples."""
    return short_hash("".join(sorted(run.scored["prompt_hash"])))


def details(run: Run) -> dict[str, str]:
    """Every setting in which another run of the same model could differ, as text."""
    info, settings = run.backend_info, run.settings
    config = run.results["config"]
    generation = {k: v for k, v in run.limits.items() if k not in LENGTH_NAMES and v}
    values = {
        "method": run.method.title,
        "method_about": run.method.about,
        "K": settings.top_k,
        "tau": settings.tau,
        "trigger": settings.trigger,
        "warmup": settings.warmup or None,
        "threshold": info.get("threshold") if settings.threshold is None else settings.threshold,
        "selector": settings.selector,
        "selector_checkpoint": settings.checkpoint,
        "proposal_weight": settings.proposal_weight,
        "adapter_scale": settings.adapter_scale,
        "proposer": settings.proposer,
        "samples": settings.samples,
        "seed": settings.seed,
        "teacher": short_name(str(info["teacher_name"])) if info.get("teacher_name") else None,
        "student_fingerprint": info.get("student"),
        "teacher_fingerprint": info.get("teacher"),
        "calibration": info.get("calibration"),
        "dtype": config.get("model_dtype"),
        **{name: _text(info[name]) for name in OTHER_SETTINGS if info.get(name) is not None},
        **_arguments(run, LOADING),
        "generation": _text(generation) if generation else None,
        "prompt_hash": prompt_hash(run),
        "task": run.task,
        "task_version": run.version,
        "metric": run.metric,
        "filter": run.filter,
        "n": f"{run.n} of {documents_of_task(run)}",
        "few_shot": part_of(run.results, "n-shot").get(run.task),
        "max_new_tokens": run.length_limit,
        "lm_eval": run.results.get("lm_eval_version"),
        "s2t_eval": info.get("version"),
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def is_plain(run: Run) -> bool:
    """Whether a score is that of the model itself: its own weights, decoded by nothing but its own argmax."""
    return run.method.key in PLAIN and not _arguments(run, CHANGED_WEIGHTS)


def label(run: Run) -> str:
    """Method, settings, and the arguments with which the weights are not those of the model's repository."""
    changed = _arguments(run, CHANGED_WEIGHTS)
    return ", ".join([run.label, *(f"{name} {value}" for name, value in changed.items())])


def _arguments(run: Run, names: Sequence[str]) -> dict[str, str]:
    """Those of the model's arguments that are given, as text; of a path the last part."""
    arguments = model_arguments(run.results["config"])
    given = {name: arguments[name] for name in names if arguments.get(name) not in (*NOT_GIVEN, "main")}
    return {name: short_name(_text(value)) for name, value in given.items()}


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def require_names(names: Sequence[tuple[str, Run]]) -> None:
    """Raise `ResultsError` where two runs would be written to one place; `names` are the places."""
    first: dict[str, Run] = {}
    for name, run in names:
        other = first.setdefault(name, run)
        if other is not run:
            raise ResultsError(
                f"{other.source} and {run.source}: both are {run.label} on {run.task} and would be written "
                f"to {name}; submit one of them alone"
            )


def notes(run: Run) -> str:
    """The details in one line; a warning comes first where the score is not the model's own."""
    about = "; ".join(f"{k} {v}" for k, v in details(run).items() if k != "method_about")
    if is_plain(run):
        return f"{run.method.about}; {about}"
    changed = "".join(f", {name} {value}" for name, value in _arguments(run, CHANGED_WEIGHTS).items())
    return (
        f"NOT the plain model's score: decoded with {run.method.title} ({run.method.about}){changed}; {about}"
    )


def score(run: Run) -> float:
    """In percent, to two places."""
    return round(100 * run.value, 2)


def date(run: Run) -> str:
    """Of the run, ISO 8601."""
    return datetime.fromtimestamp(run.date, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def folder_name(run: Run) -> str:
    """Model, method and settings, so that two methods or two models never share a file."""
    return slug(f"{short_name(run.model)} {label(run)}")


def slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
