"""One task of one evaluation: its method, settings and score, and what makes it the same as another run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from s2t_eval.method_table import BY_KEY, GENERATED, LENGTH_NAMES, Method, method_of
from s2t_eval.report.computed import computed, model_arguments
from s2t_eval.report.json_files import ResultsError, part_of
from s2t_eval.statistics import Scores

KL_DIRECTION = "student_teacher"
"""The direction of the trigger `kl` that its name leaves out."""


@dataclass(frozen=True)
class Settings:
    """The settings that distinguish two runs of one method. None: the method has no such setting."""

    trigger: str | None = None  # `kl` of another direction than KL_DIRECTION has it behind a colon
    tau: float | None = None
    threshold: float | None = None
    top_k: int | None = None
    warmup: int = 0  # steps at the start of a text that never fire
    selector: str | None = None
    checkpoint: str | None = None  # hash of the folder that a learned selector or router came from
    proposer: str | None = None
    proposal_weight: float | None = None
    adapter_scale: float | None = None
    samples: int | None = None
    seed: int = 0
    weight: str | None = None  # of the votes
    variant: str | None = None  # of a method without trigger and samples

    @property
    def trigger_name(self) -> str | None:
        """The trigger without a direction."""
        return None if self.trigger is None else self.trigger.partition(":")[0]

    def parts(self) -> dict[str, str]:
        """Each setting as text, without those that do not apply."""
        rate = f"tau {100 * self.tau:g} %" if self.tau is not None else None
        if rate is None and self.threshold is not None and self.trigger not in ("always", "never"):
            rate = f"threshold {self.threshold:.3g}"
        texts = {
            "trigger": self.trigger,
            "rate": rate,
            "k": f"K {self.top_k}" if self.top_k is not None else None,
            "warmup": f"warm-up {self.warmup}" if self.warmup else None,
            "samples": f"{self.samples} samples" if self.samples is not None else None,
            "weight": f"weight {self.weight}" if self.weight is not None else None,
            "variant": self.variant,
            "seed": f"seed {self.seed}" if self.seed else None,
        }
        return {name: value for name, value in texts.items() if value is not None}


@dataclass(frozen=True)
class Run:
    """One task of one evaluation.

    Args:
        name: of its folder or file.
        source: the results file.
        task: lm_eval's name, a group's where a group was run.
        tasks: those that were evaluated: the task itself, or those of the group.
        method: by `config.model`.
        model: the student, as named in the model's arguments.
        settings: of the method.
        metric, filter: which of the task's figures `value` is; larger is better unless said otherwise.
        value: the harness's figure, as a fraction.
        stderr: its standard error where the harness gives one.
        n: documents evaluated, of all tasks of a group.
        version: of the task.
        task_hash: the harness's hash over all documents, prompts and targets; None without samples.
        limits: generation arguments (stops, lengths); of a group, those that its tasks share.
        documents: a row for each document (columns doc_id, hashes, score); None where no samples were kept.
        date: of the run, seconds since 1970.
        cost: the run's telemetry, summed over all of its tasks; empty where it is unknown (`run_cost`).
        results: the whole results file.
    """

    name: str
    source: Path
    task: str
    tasks: tuple[str, ...]
    method: Method
    model: str
    settings: Settings
    metric: str
    filter: str
    is_higher_better: bool
    value: float
    stderr: float | None
    n: int
    version: str
    task_hash: str | None
    limits: dict[str, Any]
    documents: pd.DataFrame | None
    date: float
    cost: dict[str, Any]
    results: dict[str, Any]

    @property
    def backend_info(self) -> dict[str, Any]:
        """The entries that a backend of s2t-eval adds to the results; empty for other backends."""
        return part_of(self.results["config"], "s2t_eval")

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for runs of one thing: task, documents, repeats, prompts, limits, method, models, settings.

        Commit, packages, device and batch size may differ: the newer of two such runs replaces the older one.
        """
        what = computed(self.results, self.tasks, self.documents)
        return (self.task, self.version, self.n, self.repeats, self.method.key, self.settings, what)

    @property
    def repeats(self) -> tuple[int, ...]:
        """Responses to each document, of each task: the harness's `repeats`."""
        return tuple(int(config.get("repeats") or 1) for config in self._task_configs)

    @property
    def _task_configs(self) -> list[dict[str, Any]]:
        """The harness's configuration of each task."""
        return [part_of(self.results["configs"], task) for task in self.tasks]

    @property
    def length_limit(self) -> int | None:
        """The limit of new tokens; None where the tasks leave it to the backend, or differ in it."""
        values = (self.limits.get(name) for name in LENGTH_NAMES)
        return next((_whole(value) for value in values if value is not None), None)

    @property
    def figures_of_tasks(self) -> list[float]:
        """The harness's figure of each task, as `value`; empty where the results lack one."""
        name = f"{self.metric},{self.filter}"
        figures = [part_of(self.results["results"], task).get(name) for task in self.tasks]
        known = [float(figure) for figure in figures if isinstance(figure, int | float)]
        return known if len(known) == len(self.tasks) else []

    @property
    def num_correct(self) -> float:
        """The number of correct answers, with shares of those that are partly correct; nan where unknown."""
        if len(self.tasks) == 1:
            return self.value * self.n
        counts = (int(self.results["n-samples"][task]["effective"]) for task in self.tasks)
        figures = self.figures_of_tasks
        return sum(f * n for f, n in zip(figures, counts, strict=True)) if figures else float("nan")

    @property
    def scores_of_tasks(self) -> list[Scores]:
        """The scores of the documents of each task, [n] each, without missing ones; empty without samples.

        The documents of a group are those of its tasks, one task after the other.
        """
        counts = [int(self.results["n-samples"][task]["effective"]) for task in self.tasks]
        if self.documents is None or sum(counts) != len(self.documents):
            return []
        ends = np.cumsum(counts)[:-1]
        parts = np.split(self.documents["score"].to_numpy(dtype=float), ends)
        return [part[~np.isnan(part)] for part in parts]

    @property
    def label(self) -> str:
        """Method and settings as text."""
        title, parts = self.method.title, self.settings.parts()
        if self.method.votes:
            parts.pop("samples", None)
            title = f"Maj@{self.settings.samples or 8}"
        is_adapted = self.settings.proposer == "tuned" or "adapted_likelihoods" in self.backend_info
        student = "adapted" if is_adapted else "plain"
        of_student = [f"log-likelihoods of the {student} student"] if self.is_of_student_alone else []
        return ", ".join([title, *parts.values(), *of_student])

    @property
    def is_of_student_alone(self) -> bool:
        """Whether a task has log-likelihoods, which are a student's, of a method for texts."""
        kinds = {config.get("output_type", GENERATED) for config in self._task_configs}
        return not self.method.is_plain and kinds != {GENERATED}

    @property
    def scored(self) -> pd.DataFrame:
        """The documents that have a score; raises `ResultsError` where no samples were kept."""
        if self.documents is None:
            raise ResultsError(
                f"{self.source}: no samples of task {self.task}; run lm_eval with --log_samples and keep "
                "samples_*.jsonl beside the results"
            )
        return self.documents[self.documents["score"].notna()]


def _whole(value: object) -> int | None:
    """A number, which a command line may have left as text, as an integer; None for anything else."""
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return None


def method_of_config(file: Path, config: dict[str, Any]) -> Method:
    """The method of a run; raises `ResultsError` for a backend that the method table lacks."""
    info = part_of(config, "s2t_eval")
    policy = part_of(info, "policy")
    has_adapter = bool(model_arguments(config).get("peft"))
    distilled_by = part_of(info, "distilled").get("method")
    description = (policy.get("method"), policy.get("score"), info.get("proposer"), distilled_by)
    try:
        return method_of(str(config.get("model")), has_adapter, *description)
    except ValueError as error:
        raise ResultsError(f"{file}: {error}") from error


def settings_of_config(config: dict[str, Any], method: Method) -> Settings:
    """The settings of a run of a backend of s2t-eval; all None for other backends."""
    backend_info = part_of(config, "s2t_eval")
    # A tree search at temperature 0 has the sampling null.
    policy, sampling = part_of(backend_info, "policy"), part_of(backend_info, "sampling")
    trigger = _trigger(policy)
    # Earlier results describe this greedy decoding with the trigger `always` and a selector.
    is_distilled = method is BY_KEY["topk_distilled"]
    fires = trigger not in (None, "never") and not is_distilled
    threshold = policy.get("threshold")
    return Settings(
        trigger=trigger if fires else None,
        tau=backend_info.get("tau") if fires else None,
        threshold=float(threshold) if fires and threshold is not None else None,
        top_k=policy.get("top_k") if fires else None,
        warmup=int(policy.get("warmup") or 0) if fires else 0,
        selector=None if is_distilled else policy.get("selector"),
        checkpoint=backend_info.get("router") or backend_info.get("selector"),
        proposer=backend_info.get("proposer"),
        proposal_weight=policy.get("proposal_weight"),
        adapter_scale=backend_info.get("adapter_scale"),
        samples=sampling.get("num_samples"),
        weight=sampling.get("weight"),
        variant=_variant(backend_info),
        seed=int(backend_info.get("seed") or 0),
    )


def _trigger(policy: dict[str, Any]) -> str | None:
    """The name of a policy's trigger, as in `Settings`."""
    described = part_of(policy, "trigger")
    name, direction = described.get("name"), described.get("direction") or KL_DIRECTION
    return name if name is None or direction == KL_DIRECTION else f"{name}:{direction}"


def _variant(backend_info: dict[str, Any]) -> str | None:
    """Search and value of a tree, score and acceptance of steps; None for other methods."""
    if search := part_of(backend_info, "search"):
        return (
            f"{search.get('search', 'bfs')}, {search.get('value')}"  # earlier results have one search alone
        )
    if (score := backend_info.get("step_score")) is None:
        return None
    if (rate := backend_info.get("accept_rate")) is not None:
        return f"accept rate {100 * rate:g} %, {score}"
    accept = backend_info.get("accept")
    return score if accept is None else f"accept {accept:g}, {score}"
