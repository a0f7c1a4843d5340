"""Whether two runs are comparable: same task version, documents, prompts, right answers and limits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from s2t_eval.method_table import LENGTH_NAMES
from s2t_eval.report.json_files import part_of
from s2t_eval.report.run import Run


class NotComparableError(ValueError):
    """Runs that differ in more than the method."""


class NoSharedScoreError(NotComparableError):
    """Two comparable runs of which no document has a score in both."""


def differences(
    one: Run, other: Run, *, need_documents: bool = False, other_limits: bool = False
) -> list[str]:
    """The differences, besides method and model, between two runs of one benchmark; empty if there are none.

    Args:
        one, other: the runs.
        need_documents: whether documents are needed, to pair them; otherwise the harness's hash over all of
            them is enough.
        other_limits: whether the limits of new tokens may differ.
    """
    differing = []
    for name, left, right in (
        ("task", one.task, other.task),
        ("task version", one.version, other.version),
        ("metric", f"{one.metric},{one.filter}", f"{other.metric},{other.filter}"),
        ("n", one.n, other.n),
        ("repeats", one.repeats, other.repeats),
    ):
        if left != right:
            differing.append(f"{name} {_shown(left)} against {_shown(right)}")
    left_limits, right_limits = (_limits(run, other_limits) for run in (one, other))
    if left_limits != right_limits:
        differing.append(f"decoding limits {left_limits} against {right_limits}")
    if not differing:
        differing += _document_differences(one, other, need_documents)
    return differing


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _limits(run: Run, without_length: bool) -> str:
    """The generation arguments as text: of a task, or of each task of a group."""
    left_out = LENGTH_NAMES if without_length else ()
    configs = run.results["configs"]
    limits = [part_of(part_of(configs, task), "generation_kwargs") for task in run.tasks]
    kept = [{k: v for k, v in of_task.items() if k not in left_out} for of_task in limits]
    content = kept[0] if len(kept) == 1 else dict(zip(run.tasks, kept, strict=True))
    return json.dumps(content, sort_keys=True)


def _document_differences(one: Run, other: Run, need_documents: bool) -> list[str]:
    if one.documents is None or other.documents is None:
        if not need_documents and one.task_hash and other.task_hash:
            same = one.task_hash == other.task_hash
            return [] if same else [f"task hash {one.task_hash[:12]} against {other.task_hash[:12]}"]
        without = [str(run.source) for run in (one, other) if run.documents is None]
        return [f"samples are missing beside {' and '.join(without)}: run lm_eval with --log_samples"]
    targets = [_targets(run.documents) for run in (one, other)]
    left, right = map(set, targets)
    if left == right:
        regraded = sorted({key[0] for key in left if targets[0][key] != targets[1][key]})
        listed = f"{len(regraded)} documents have another right answer ({', '.join(regraded[:3])} …)"
        return [f"target hashes: {listed}"] if regraded else []
    only = sorted({key[0] for key in left} ^ {key[0] for key in right})
    if only:
        return [f"document hashes: {len(only)} in one run alone ({', '.join(only[:3])} …)"]
    changed = sorted({key[0] for key in left ^ right})
    return [f"prompt hashes: {len(changed)} documents have another prompt ({', '.join(changed[:3])} …)"]


def _targets(documents: pd.DataFrame) -> dict[tuple[str, str, int], str]:
    """Key of a document -> the hash of what it was graded against."""
    return dict(zip(pairing_keys(documents), documents["target_hash"], strict=True))


def pairing_keys(documents: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Document hash, prompt hash, and a count that distinguishes equal documents."""
    repeats = documents.groupby(["doc_hash", "prompt_hash"]).cumcount()
    return list(zip(documents["doc_hash"], documents["prompt_hash"], repeats, strict=True))


def require_comparable(runs: Sequence[Run], where: str, *, other_limits: bool = False) -> None:
    """Raise `NotComparableError`, naming runs and differences, where runs may not share a column."""
    for run in runs[1:]:
        differing = differences(runs[0], run, other_limits=other_limits)
        if differing:
            raise NotComparableError(
                f"{where}: {runs[0].source} ({runs[0].label}) and {run.source} ({run.label}) may not share "
                f"a column: {'; '.join(differing)}"
            )
