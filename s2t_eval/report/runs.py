"""Reads results files: one `Run` for each task of each file.

Two forms are read: lm_eval's output (`results_DATE.json`, or `NAME_DATE.json` with `--output_path NAME.json`,
beside `samples_*.jsonl`), and single files as `results/baselines/` keeps them, in which a table of documents
takes the place of the samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from s2t_eval.report.computed import model_arguments
from s2t_eval.report.documents import as_number, read_documents, results_name, short_hash
from s2t_eval.report.json_files import ResultsError, part_of, read_json
from s2t_eval.report.run import Run, method_of_config, settings_of_config
from s2t_eval.report.shape import require_results
from s2t_eval.report.telemetry import run_cost

NOT_SCORES = ("extracted", "ungraded", "truncated")
"""Figures of this project's tasks that describe the answers; HumanEval lists them before its pass@1."""
UNSCORED = "bypass"
"""The harness's metric in place of all others under `--predict_only`: its figure, 999, is no score."""


def read_runs(
    paths: Sequence[Path],
    metrics: dict[str, str] | None = None,
    is_whole: Callable[[str], bool] = lambda _: True,
) -> list[Run]:
    """All runs below the given folders and files; of several runs of the same thing, the newest.

    Two runs are of the same thing where nothing differs but the time, the version of the software and the
    machine (`Run.identity`).

    Args:
        paths: output folders, or single results files.
        metrics: task -> "metric,filter" where a task has several scores; by default the first.
        is_whole: whether a group with a figure of its own is one run; of any other group each task is one.
            By default every such group is.

    Raises:
        ResultsError: no results, an incomplete file, a method that the method table lacks, a metric
            of which less is better in some tasks of a group alone.
    """
    runs = [(run.identity, run) for path in paths for run in _read_path(path, metrics or {}, is_whole)]
    newest: dict[tuple[object, ...], Run] = {}
    for identity, run in sorted(runs, key=lambda pair: pair[1].date):
        older = newest.get(identity)
        if older is not None:
            print(
                f"note: two runs of {run.label} on {run.task} with equal settings: taking the newer "
                f"{run.source}, leaving out {older.source}",
                file=sys.stderr,
            )
        newest[identity] = run
    kept = [run for identity, run in runs if newest[identity] is run]
    _note_unknown_directions(kept)
    return kept


def _read_path(path: Path, metrics: dict[str, str], is_whole: Callable[[str], bool]) -> Iterator[Run]:
    if not path.exists():
        raise ResultsError(f"{path}: there is no such file or folder; expected lm_eval results")
    files = [path] if path.is_file() else sorted(results_files(path))
    if not files:
        raise ResultsError(
            f"{path}: no results in it; expected results_*.json as lm_eval writes them with --output_path "
            "(and samples_*.jsonl with --log_samples), or files of results/baselines"
        )
    for file in files:
        results = read_json(file)
        if not {"results", "configs", "config"} <= results.keys():
            raise ResultsError(f"{file}: not a results file of lm_eval: it has no results, configs, config")
        try:
            require_results(results)
        except ValueError as error:
            raise ResultsError(f"{file}: not as lm_eval writes results: {error}") from error
        yield from _runs_of_file(file, _run_name(file, path), results, metrics, is_whole)


def results_files(folder: Path) -> Iterator[Path]:
    """The results files below a folder: lm_eval's own, and those of `results/baselines`.

    A JSON file that is empty or cut off is among them, so that reading it ends in an error: it may have been
    one, and a comparison without its rows would pass.
    """
    for file in folder.rglob("*.json"):
        if file.name.startswith("results_") or _may_be_results(file.read_text(errors="replace").strip()):
            yield file


def _may_be_results(text: str) -> bool:
    is_cut_off = text.startswith("{") and not text.endswith("}")
    return not text or is_cut_off or '"configs"' in text


def _run_name(file: Path, path: Path) -> str:
    """The name of a file without its date, or of the folder below `path` with `results_DATE.json`."""
    name, _ = results_name(file)
    if not file.name.startswith("results_") or name != "results":
        return name
    inside = file.relative_to(path).parts if path.is_dir() else (file.name,)
    # One run writes FOLDER/MODEL/results_*.json; where more folders lie above it, the first names the run.
    return inside[0] if len(inside) > 2 else path.name if path.is_dir() else file.parent.name


def _runs_of_file(
    file: Path,
    name: str,
    results: dict[str, Any],
    metrics: dict[str, str],
    is_whole: Callable[[str], bool],
) -> Iterator[Run]:
    config = results["config"]
    method = method_of_config(file, config)
    named = part_of(config, "s2t_eval").get("pretrained")
    student = named or model_arguments(config).get("pretrained", "?")
    groups = {group: members for group, members in _scored_groups(results).items() if is_whole(group)}
    grouped = {task for members in groups.values() for task in members}
    cost = run_cost(file, results)
    for task, figures in results["results"].items():
        members = groups.get(task, [task])
        if task in grouped or members[0] not in results["configs"]:
            continue
        metric, filter_name = metric_of(file, task, figures, metrics.get(task))
        if task in part_of(results, "documents") and (metric, filter_name) != metric_of(file, task, figures):
            raise ResultsError(
                f"{file}: the scores that it keeps of each document of {task} are those of "
                f"{','.join(metric_of(file, task, figures))}, not of {metric},{filter_name}; give lm_eval's "
                "own output with its samples, or leave --metric out"
            )
        yield Run(
            name=name,
            source=file,
            task=task,
            tasks=tuple(members),
            method=method,
            model=str(student),
            settings=settings_of_config(config, method),
            metric=metric,
            filter=filter_name,
            is_higher_better=_direction(file, results, task, members, metric) is not False,
            value=float(figures[f"{metric},{filter_name}"]),
            stderr=as_number(figures.get(f"{metric}_stderr,{filter_name}")),
            n=_num_documents(file, results, members),
            version=str(part_of(results, "versions").get(task)),
            task_hash=_joint_hash(results, members),
            limits=_shared_limits(results, members),
            documents=_documents(file, results, task, members, metric, filter_name),
            date=float(results.get("date") or 0.0),
            cost=cost,
            results=results,
        )


def _documents(
    file: Path, results: dict[str, Any], name: str, tasks: Sequence[str], metric: str, filter_name: str
) -> pd.DataFrame | None:
    """The documents of a task or group; those of a task of a group that was kept are cut from the group's."""
    documents = read_documents(file, results, name, tasks, metric, filter_name)
    if documents is not None:
        return documents
    for group, members in _scored_groups(results).items():
        figures = results["results"][group]
        is_kept = name in members and group in part_of(results, "documents")
        if not is_kept or metric_of(file, group, figures) != (metric, filter_name):
            continue
        whole = read_documents(file, results, group, members, metric, filter_name)
        counts = [_num_documents(file, results, [member]) for member in members]
        if whole is not None and sum(counts) == len(whole):
            first = sum(counts[: members.index(name)])
            part = whole.iloc[first : first + counts[members.index(name)]]
            return part.reset_index(drop=True)
    return None


def _direction(
    file: Path, results: dict[str, Any], task: str, members: Sequence[str], metric: str
) -> bool | None:
    """Whether larger values of a metric are better; None where the file does not say it.

    lm_eval writes null for a metric of a task's own without `higher_is_better`, and for a group whose tasks
    disagree. A metric that the file does not list at all is one of which larger values are better.

    Raises:
        ResultsError: the tasks of a group disagree, so that no value of the group is the better one.
    """
    directions = part_of(results, "higher_is_better")
    own = part_of(directions, task).get(metric, True)
    if own is not None:
        return bool(own)
    of_tasks = {part_of(directions, member).get(metric) for member in members} - {None}
    if len(of_tasks) > 1:
        raise ResultsError(
            f"{file}: group {task}: its tasks disagree on whether a larger {metric} is better, so its figure "
            f"has no better direction; choose another metric with --metric {task}=METRIC,FILTER"
        )
    return bool(of_tasks.pop()) if of_tasks else None


def _note_unknown_directions(runs: Sequence[Run]) -> None:
    """One line for each metric whose files do not say which direction is better."""
    unknown = {
        (run.task, run.metric): run.source
        for run in reversed(runs)
        if _direction(run.source, run.results, run.task, run.tasks, run.metric) is None
    }
    for (task, metric), file in sorted(unknown.items()):
        print(
            f"note: {file}: higher_is_better of {metric} is null on {task}; a larger one is taken as the "
            "better one; give the metric higher_is_better in the task's metric_list if it is not",
            file=sys.stderr,
        )


def _shared_limits(results: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The generation arguments that all tasks have: a group's tasks may end at limits of their own."""
    first, *others = (part_of(part_of(results["configs"], task), "generation_kwargs") for task in tasks)
    return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}


def _num_documents(file: Path, results: dict[str, Any], tasks: Sequence[str]) -> int:
    missing = [task for task in tasks if "effective" not in results["n-samples"].get(task, {})]
    if missing:
        raise ResultsError(
            f"{file}: not as lm_eval writes results: n-samples has no effective number of {missing[0]}"
        )
    number = sum(int(results["n-samples"][task]["effective"]) for task in tasks)
    if number < 1:
        raise ResultsError(f"{file}: {', '.join(tasks)}: evaluated on no document; leave the file out")
    return number


def _scored_groups(results: dict[str, Any]) -> dict[str, list[str]]:
    """Group -> its tasks, for the outermost groups that have figures of their own."""
    members = {k: v for k, v in part_of(results, "group_subtasks").items() if v and k in results["results"]}

    def tasks(name: str, above: tuple[str, ...] = ()) -> list[str]:
        inside = (*above, name)  # a group that is part of itself ends there
        parts = [part for part in members[name] if part not in inside]
        return [task for part in parts for task in (tasks(part, inside) if part in members else [part])]

    inner = {part for parts in members.values() for part in parts}
    scored = {k for k, figures in results["results"].items() if any("," in name for name in figures)}
    return {name: tasks(name) for name in members if name not in inner and name in scored}


def metric_of(file: Path, task: str, figures: dict[str, Any], wanted: str | None = None) -> tuple[str, str]:
    """Metric and filter of the figure that counts, of those that a results file has of a task."""
    numbers = [k for k, v in figures.items() if "," in k and "_stderr," not in k and as_number(v) is not None]
    numbers = [name for name in numbers if name.split(",")[0] != UNSCORED]
    if not numbers and bypass_filter(figures) is not None:
        raise ResultsError(
            f"{file}: task {task} has no score: it was evaluated with --predict_only; grade its texts with "
            "s2t-eval regrade, or leave the file out"
        )
    if wanted is not None and wanted not in numbers:
        raise ResultsError(f"{file}: task {task} has no figure {wanted!r}; it has {', '.join(numbers)}")
    if not numbers:
        raise ResultsError(f"{file}: task {task} has no score; expected a figure such as exact_match,none")
    scores = [name for name in numbers if name.split(",")[0] not in NOT_SCORES]
    metric, filter_name = (wanted or (scores or numbers)[0]).split(",", 1)
    return metric, filter_name


def is_of_default_metric(run: Run) -> bool:
    """Whether a run's score is the one that counts where none is chosen by `--metric`."""
    return (run.metric, run.filter) == metric_of(run.source, run.task, run.results["results"][run.task])


def bypass_filter(figures: dict[str, Any]) -> str | None:
    """The filter of a task's texts that were not scored (`--predict_only`); None of other figures."""
    names = (name.split(",", 1) for name in figures if "," in name)
    return next((filter_name for metric, filter_name in names if metric == UNSCORED), None)


def _joint_hash(results: dict[str, Any], tasks: Iterable[str]) -> str | None:
    known = part_of(results, "task_hashes")
    hashes = [str(known.get(task) or "") for task in tasks]
    if any(not task_hash for task_hash in hashes):
        return None
    return short_hash("".join(hashes)) if len(hashes) > 1 else hashes[0]
