"""`--metric TASK=METRIC,FILTER`, which several commands take where a task has more than one figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def metric_choices(pairs: Sequence[str]) -> dict[str, str]:
    """Task -> "metric,filter" from `--metric TASK=METRIC,FILTER ...`; raises `ValueError` otherwise."""
    for text in pairs:
        task, _, figure = text.partition("=")
        if not task or "," not in figure:
            raise ValueError(
                f"--metric: expected TASK=METRIC,FILTER such as gsm8k=exact_match,strict-match, got {text!r}"
            )
    return dict(text.split("=", 1) for text in pairs)


def require_used(metrics: Iterable[str], tasks: Iterable[str]) -> None:
    """Raise `ValueError` for a `--metric` of a task that none of the results has."""
    known = sorted(set(tasks))
    for task in metrics:
        if task not in known:
            raise ValueError(f"--metric: none of the runs is of task {task!r}; there are {', '.join(known)}")
