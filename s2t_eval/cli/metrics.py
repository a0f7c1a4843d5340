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


def require_used(named: Iterable[str], tasks: Iterable[str], flag: str = "--metric") -> None:
    """Raise `ValueError` for an option of a task that none of the results has.

    Args:
        named: tasks that the option names.
        tasks: of the results.
        flag: the option.
    """
    known = sorted(set(tasks))
    for task in named:
        if task not in known:
            raise ValueError(f"{flag}: none of the runs is of task {task!r}; there are {', '.join(known)}")
