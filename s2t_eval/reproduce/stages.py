"""What a stage is: a command of the package, with what it reads and what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2t_eval.method_table import BY_MODEL, STOCK
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.reproduce.read import references
from s2t_eval.reproduce.schema import MethodPart, Recipe
from s2t_eval.reproduce.work import NO_WORK, Work

EVALUATE, SCAN = "evaluate", "scan"
RANDOM_MODELS = tuple(model for model, method in BY_MODEL.items() if method.is_random)
TRACE = ".trace.jsonl"
"""End of the name of a trace, which lies beside the results and is none of them; see `trace_of`."""


@dataclass(frozen=True)
class Stage:
    """One step of a reproduction.

    Args:
        name: unique; its log and its record are named after it.
        kind: which command it is.
        command: after `python -m`.
        output: the file or folder that it makes.
        part: its settings in the recipe; a change makes it run again.
        needs: outputs of other stages that it reads, by their stages' names.
        models: role -> (name, revision) of the models that it loads.
        tasks: whose benchmark data it reads.
        files: further files and folders that it reads.
        names: what the recipe calls those that need not be on this machine, such as an adapter of the hub.
        compared: what of the command is compared to find out whether it has to run again; None: all of it.
            Addresses of servers, and how long they are waited for, are left out.
        copy_of: its output begins as a copy of this one, which the command then changes.
        scratch: what it leaves beside its output: removed when it is done, but for a trace.
        work: how much it has to do, for estimates.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    output: Path
    part: Any = None
    needs: Mapping[str, Path] = field(default_factory=dict)
    models: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    compared: tuple[str, ...] | None = None
    copy_of: Path | None = None
    scratch: tuple[Path, ...] = ()
    work: Work = NO_WORK


def trace_of(results: Path) -> Path:
    """Where an evaluation writes its trace, if it does: beside its results."""
    return results.with_name(results.name + TRACE)


def record_name(stage: str) -> str:
    """The name of a stage's record and log, without their suffixes."""
    return stage.replace("/", "--")


@dataclass(frozen=True)
class Evaluation:
    """A method on a task with a seed: a run of lm_eval.

    Args:
        name: of the run, unique within its task.
        method: of the recipe.
        task, seed: of the run.
        model: lm_eval's `--model`.
        arguments: of the model; references to artifacts are still in them.
    """

    name: str
    method: str
    task: str
    seed: int
    model: str
    arguments: dict[str, Any]


def evaluations(recipe: Recipe) -> list[Evaluation]:
    """Every row and column of the table, in the recipe's order."""
    runs = []
    for task in recipe.tasks:
        for name in task.methods or tuple(recipe.methods):
            method = recipe.methods[name]
            if BY_MODEL[method.model].refuses_code and benchmark_of(task.task).is_code:
                continue  # the table shows "–"
            for i, seed in enumerate(recipe.seeds if is_seeded(recipe, method) else recipe.seeds[:1]):
                seed_argument = {"seed": seed} if seed and method.model != STOCK else {}
                arguments = {"pretrained": "${student}", **method.arguments, **seed_argument}
                label = f"{name}-seed{seed}" if i else name
                runs.append(Evaluation(label, name, task.task, seed, method.model, arguments))
    return runs


def is_seeded(recipe: Recipe, method: MethodPart) -> bool:
    """Whether another seed gives other texts: it samples, or reads something that is trained."""
    is_trained = any(name in recipe.artifacts for name in references(method.arguments))
    is_random = method.model in RANDOM_MODELS or method.arguments.get("trigger") == "random"
    return is_trained or is_random


def merged_fields(*fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a stage, those that name several things joined."""
    merged: dict[str, Any] = {}
    for part in fields:
        for name, value in part.items():
            earlier = merged.get(name)
            if isinstance(value, dict) and earlier:
                merged[name] = {**earlier, **value}
            else:
                merged[name] = (*earlier, *value) if isinstance(value, tuple) and earlier else value
    return merged
