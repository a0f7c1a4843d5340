"""Reads what lm_eval wrote: one `Run` for each task of each results file.

Two forms are read: lm_eval's output folders (`results_*.json` beside `samples_*.jsonl`), and single
files as `results/baselines/` keeps them, in which a table of documents stands for the samples.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from s2t_eval.artifacts import json_lines
from s2t_eval.artifacts.saved import parse_json
from s2t_eval.method_table import Method, method_of
from s2t_eval.report.shape import require_results

HASHES = ("doc_hash", "prompt_hash", "target_hash", "output_hash")
ALTERNATIVE = "|"
"""Between the hashes of one document's texts in a committed baseline: where two tokens are so near that a
processor's rounding decides, each text that was seen is as right as the other."""
ABOUT_ANSWERS = ("extracted", "ungraded", "truncated")
"""Figures of our tasks that stand beside a score and are none; HumanEval's come before its pass@1."""

HASH_LENGTH = 16
"""Hexadecimal digits that are kept of a sha256: enough to tell documents apart."""


class ResultsError(ValueError):
    """Results that cannot be read, or that do not say what is needed."""


@dataclass(frozen=True)
class Settings:
    """What tells two runs of one method apart. None: the method has no such thing."""

    trigger: str | None = None
    tau: float | None = None
    threshold: float | None = None
    top_k: int | None = None
    selector: str | None = None
    checkpoint: str | None = None  # hash of the folder that a learned selector or router came from
    proposer: str | None = None
    proposal_weight: float | None = None
    adapter_scale: float | None = None
    samples: int | None = None
    seed: int = 0
    weight: str | None = None  # of the votes

    def parts(self) -> dict[str, str]:
        """Each setting as people read it, those that do not apply left out."""
        rate = f"tau {100 * self.tau:g} %" if self.tau is not None else None
        if rate is None and self.threshold is not None and self.trigger not in ("always", "never"):
            rate = f"threshold {self.threshold:.3g}"
        named = {
            "trigger": self.trigger,
            "rate": rate,
            "k": f"K {self.top_k}" if self.top_k is not None else None,
            "samples": f"{self.samples} samples" if self.samples is not None else None,
            "weight": f"weight {self.weight}" if self.weight is not None else None,
            "seed": f"seed {self.seed}" if self.seed else None,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Run:
    """One task of one evaluation.

    Args:
        name: of its folder or file.
        source: the results file.
        task: lm_eval's name, a group's where a group was run.
        method: by `config.model`.
        model: the student, as named in the model's arguments.
        settings: of the method.
        metric, filter: which of the task's figures `value` is; larger is better unless said otherwise.
        value: the harness's figure, as a fraction.
        stderr: its standard error where the harness gives one.
        n: documents evaluated.
        version: of the task.
        task_hash: the harness's hash over all documents, prompts and targets; None without samples.
        limits: generation arguments (stops, lengths).
        documents: a row a document (columns doc_id, HASHES, score); None where no samples were kept.
        date: of the run, seconds since 1970.
        cost: the run's telemetry, summed over all of its tasks; empty where it is unknown: for backends
            not ours, and where it is a part's (a resumed run of an earlier version).
        results: the whole results file.
    """

    name: str
    source: Path
    task: str
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
    def ours(self) -> dict[str, Any]:
        """What our backends wrote about themselves; empty for others."""
        entry: dict[str, Any] = self.results["config"].get("s2t_eval", {})
        return entry

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two runs of the same thing."""
        student, teacher = self.ours.get("student", self.model), self.ours.get("teacher")
        return (self.task, self.method.key, student, teacher, self.settings)

    @property
    def label(self) -> str:
        """Method and settings in words."""
        title, parts = self.method.title, self.settings.parts()
        if self.method.votes:
            parts.pop("samples", None)
            title = f"Maj@{self.settings.samples or 8}"
        return ", ".join([title, *parts.values()])

    @property
    def scored(self) -> pd.DataFrame:
        """The documents that have a score; raises `ResultsError` where no samples were kept."""
        if self.documents is None:
            raise ResultsError(
                f"{self.source}: no samples of task {self.task}; run lm_eval with --log_samples and keep "
                "samples_*.jsonl beside the results"
            )
        return self.documents[self.documents["score"].notna()]


def read_runs(paths: Sequence[Path], metrics: dict[str, str] | None = None) -> list[Run]:
    """All runs below the given folders and files; of runs of the same thing the newest.

    Args:
        paths: output folders, or single results files.
        metrics: task -> "metric,filter" where a task has several scores; by default the first.

    Raises:
        ResultsError: nothing there, a file that is not whole, a method unknown to the table.
    """
    runs = [run for path in paths for run in _read_path(path, metrics or {})]
    newest: dict[tuple[object, ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.date):
        older = newest.pop(run.identity, None)
        if older is not None:
            print(
                f"note: two runs of {run.label} on {run.task}: taking the newer {run.source}, leaving out "
                f"{older.source}",
                file=sys.stderr,
            )
        newest[run.identity] = run
    return [run for run in runs if newest[run.identity] is run]


def _read_path(path: Path, metrics: dict[str, str]) -> Iterator[Run]:
    if not path.exists():
        raise ResultsError(f"{path}: there is no such file or folder; expected lm_eval results")
    files = [path] if path.is_file() else sorted(_results_files(path))
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
        yield from _runs_of(file, _name(file, path), results, metrics)


def _results_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.json"):
        if file.name.startswith("results_") or '"configs"' in file.read_text(errors="replace"):
            yield file


def _name(file: Path, given: Path) -> str:
    """A baseline's file name, or the folder below the given one that the results lie in."""
    if not file.name.startswith("results_"):
        return file.stem
    inside = file.relative_to(given).parts if given.is_dir() else (file.name,)
    # FOLDER/MODEL/results_*.json is what one run makes; with more above it, the first tells runs apart.
    return inside[0] if len(inside) > 2 else given.name if given.is_dir() else file.parent.name


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `ResultsError` that names file and place for one that is not whole."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{path}: not complete JSON (line {error.lineno}, column {error.colno}: {error.msg}); the run "
            "that wrote it may have been interrupted; run it again or remove the file"
        ) from error
    except ValueError as error:
        raise ResultsError(f"{path}: it cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; raises `ResultsError` that names the line of a broken one."""
    advice = "the file may have been cut off; run again or remove the file"
    return [line.record for line in json_lines.read_json_lines(path, ResultsError, advice=advice)]


def _runs_of(file: Path, name: str, results: dict[str, Any], metrics: dict[str, str]) -> Iterator[Run]:
    config = results["config"]
    method = _method(file, config)
    arguments = _model_args(config)
    groups = _groups(results)
    leaves = {leaf for members in groups.values() for leaf in members}
    cost = _cost(file, results)
    for task, figures in results["results"].items():
        members = groups.get(task, [task])
        if task in leaves or members[0] not in results["configs"]:
            continue
        metric, filter_name = _metric(file, task, figures, metrics.get(task))
        counted = [member for member in members if "effective" not in results["n-samples"].get(member, {})]
        if counted:
            raise ResultsError(
                f"{file}: not as lm_eval writes results: n-samples says no effective number of {counted[0]}"
            )
        yield Run(
            name=name,
            source=file,
            task=task,
            method=method,
            model=str(config.get("s2t_eval", {}).get("pretrained") or arguments.get("pretrained", "?")),
            settings=_settings(config),
            metric=metric,
            filter=filter_name,
            is_higher_better=bool(results.get("higher_is_better", {}).get(task, {}).get(metric, True)),
            value=float(figures[f"{metric},{filter_name}"]),
            stderr=_number(figures.get(f"{metric}_stderr,{filter_name}")),
            n=sum(int(results["n-samples"][member]["effective"]) for member in members),
            version=str(results.get("versions", {}).get(task)),
            task_hash=_hashes(results, members),
            limits=dict(results["configs"][members[0]].get("generation_kwargs") or {}),
            documents=_documents(file, results, task, members, metric, filter_name),
            date=float(results.get("date") or 0.0),
            cost=cost,
            results=results,
        )


def _cost(file: Path, results: dict[str, Any]) -> dict[str, Any]:
    """The run's telemetry, unless it counts fewer texts than were evaluated: then it is a fraction."""
    ours = results["config"].get("s2t_eval", {})
    cost: dict[str, Any] = ours.get("telemetry", {})
    samples = ours.get("sampling", {}).get("num_samples", 1)
    expected = sum(
        int(results["n-samples"].get(task, {}).get("effective", 0))
        * int(config.get("repeats") or 1)
        * samples
        for task, config in results["configs"].items()
        if config.get("output_type") == "generate_until"
    )
    texts = cost.get("texts", expected)
    if texts >= expected:
        return cost
    print(
        f"note: {file}: its costs are unknown: they count {texts} of {expected} texts, the others came from "
        "a cache; run it again with another cache",
        file=sys.stderr,
    )
    return {}


def _method(file: Path, config: dict[str, Any]) -> Method:
    try:
        return method_of(str(config.get("model")), bool(_model_args(config).get("peft")))
    except ValueError as error:
        raise ResultsError(f"{file}: {error}") from error


def _model_args(config: dict[str, Any]) -> dict[str, Any]:
    given = config.get("model_args") or {}
    if isinstance(given, str):
        return dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    return dict(given)


def _settings(config: dict[str, Any]) -> Settings:
    ours = config.get("s2t_eval", {})
    policy, sampling = ours.get("policy", {}), ours.get("sampling", {})
    trigger = policy.get("trigger", {}).get("name")
    fires = trigger not in (None, "never")
    threshold = policy.get("threshold")
    return Settings(
        trigger=trigger if fires else None,
        tau=ours.get("tau") if fires else None,
        threshold=float(threshold) if fires and threshold is not None else None,
        top_k=policy.get("top_k") if fires else None,
        selector=policy.get("selector"),
        checkpoint=ours.get("router") or ours.get("selector"),
        proposer=ours.get("proposer"),
        proposal_weight=policy.get("proposal_weight"),
        adapter_scale=ours.get("adapter_scale"),
        samples=sampling.get("num_samples"),
        weight=sampling.get("weight"),
        seed=int(ours.get("seed") or 0),
    )


def _groups(results: dict[str, Any]) -> dict[str, list[str]]:
    """Group -> its tasks, for the outermost groups that have figures of their own."""
    members = {k: v for k, v in results.get("group_subtasks", {}).items() if v and k in results["results"]}

    def tasks(name: str, above: tuple[str, ...] = ()) -> list[str]:
        inside = (*above, name)  # a group that is part of itself ends there
        parts = [part for part in members[name] if part not in inside]
        return [leaf for part in parts for leaf in (tasks(part, inside) if part in members else [part])]

    inner = {part for parts in members.values() for part in parts}
    scored = {k for k, figures in results["results"].items() if any("," in name for name in figures)}
    return {name: tasks(name) for name in members if name not in inner and name in scored}


def _metric(file: Path, task: str, figures: dict[str, Any], wanted: str | None) -> tuple[str, str]:
    known = [k for k, v in figures.items() if "," in k and "_stderr," not in k and _number(v) is not None]
    if wanted is not None and wanted not in known:
        raise ResultsError(f"{file}: task {task} has no figure {wanted!r}; it has {', '.join(known)}")
    if not known:
        raise ResultsError(f"{file}: task {task} has no score; expected a figure such as exact_match,none")
    scores = [name for name in known if name.split(",")[0] not in ABOUT_ANSWERS]
    metric, filter_name = (wanted or (scores or known)[0]).split(",", 1)
    return metric, filter_name


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _hashes(results: dict[str, Any], tasks: Iterable[str]) -> str | None:
    known = [results.get("task_hashes", {}).get(task) for task in tasks]
    if any(not one for one in known):
        return None
    return short_hash("".join(known)) if len(known) > 1 else known[0]


def short_hash(text: str) -> str:
    """The first hexadecimal digits of a sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def _documents(
    file: Path, results: dict[str, Any], name: str, tasks: Sequence[str], metric: str, filter_name: str
) -> pd.DataFrame | None:
    kept = results.get("documents", {})
    if name in kept:
        try:
            return parse_documents(kept[name])
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ResultsError(f"{file}: its documents of {name} cannot be read ({error})") from error
    tables = []
    for task in tasks:
        stamp = file.stem.removeprefix("results_")
        samples = file.with_name(f"samples_{task}_{stamp}.jsonl")
        if not samples.exists():
            return None
        tables.append(documents_of(read_json_lines(samples), metric, filter_name, str(samples)))
    return pd.concat(tables, ignore_index=True)


def documents_of(
    samples: Sequence[dict[str, Any]], metric: str, filter_name: str, source: str
) -> pd.DataFrame:
    """A row a document (columns doc_id, HASHES, score) from lm_eval's samples of one filter.

    Raises:
        ResultsError: a sample that lacks what lm_eval writes.
    """
    rows = []
    for number, sample in enumerate(samples, 1):
        if not isinstance(sample, dict):
            raise ResultsError(f"{source}:{number}: expected a JSON object, one of lm_eval's samples")
        if sample.get("filter", filter_name) != filter_name:
            continue
        try:
            hashes = [str(sample[name])[:HASH_LENGTH] for name in HASHES[:3]]
            output = short_hash(json.dumps(sample["resps"], sort_keys=True))
            rows.append((int(sample["doc_id"]), *hashes, output, _number(sample.get(metric))))
        except KeyError as error:
            raise ResultsError(f"{source}:{number}: a sample without {error}; expected lm_eval's") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ResultsError(f"{source}:{number}: not one of lm_eval's samples ({error})") from error
    frame = pd.DataFrame(rows, columns=["doc_id", *HASHES, "score"])
    frame["score"] = frame["score"].astype(float)
    return frame.sort_values("doc_id", ignore_index=True)


def format_documents(documents: pd.DataFrame) -> list[str]:
    """A line a document, the names of the columns first: what a baseline keeps of the samples."""
    lines = [" ".join(["doc_id", *HASHES, "score"])]
    for row in documents.itertuples(index=False):
        score = "-" if pd.isna(row.score) else f"{row.score:g}"
        lines.append(" ".join([str(row.doc_id), *(getattr(row, name) for name in HASHES), score]))
    return lines


def parse_documents(lines: Sequence[str]) -> pd.DataFrame:
    """What `format_documents` wrote."""
    names = lines[0].split(" ")
    frame = pd.DataFrame([line.split(" ") for line in lines[1:]], columns=names)
    frame["doc_id"] = frame["doc_id"].astype(int)
    frame["score"] = pd.to_numeric(frame["score"].where(frame["score"] != "-")).astype(float)
    return frame
