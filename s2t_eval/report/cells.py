"""How figures are written: one form for each kind, in every table, page and terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from s2t_eval.report.run import Run
from s2t_eval.statistics import UNDEFINED, Interval, Scores, stratified_bootstrap, wilson

if TYPE_CHECKING:
    from s2t_eval.report.compare import Comparison

MISSING = "–"
"""Stands for a figure that does not apply or is unknown."""
SAME_VALUE = 1e-6
"""Difference up to which the harness's figure is that of the documents, whose scores may be kept rounded."""


class Accuracy(NamedTuple):
    """The score of a run over its documents, as fractions.

    Args:
        value: the harness's figure.
        n: documents with a score.
        interval: 95 %; undefined (nan) where `method` is None.
        correct: documents answered correctly; None unless the value is their share of the documents.
        method: Wilson's interval of a share; a bootstrap of the mean of a group's tasks; None where the value
            is neither: scores other than 0 and 1, or another aggregate.
    """

    value: float
    n: int
    interval: Interval = UNDEFINED
    correct: int | None = None
    method: Literal["wilson", "bootstrap"] | None = None

    @property
    def count_text(self) -> str:
        """Correct documents and their share, "133 (44.3 %)"; the value alone where there is no such count."""
        value = f"{percent(self.value)} %"
        return value if self.correct is None else f"{self.correct} ({value})"

    @property
    def interval_text(self) -> str:
        """Both bounds in percent, "38.8–50.0"."""
        low, high = self.interval
        return MISSING if low != low else f"{percent(low)}–{percent(high)}"


def accuracy(run: Run) -> Accuracy:
    """The score of a run and its interval.

    Without documents, the score of a task is taken for a share of correct documents where it can be one.
    """
    if run.documents is None:
        hits = run.value * run.n
        is_share = (
            len(run.tasks) == 1 and 0 <= run.value <= 1 and abs(hits - round(hits)) < SAME_VALUE * run.n
        )
        return _share(run.value, round(hits), run.n) if is_share else Accuracy(run.value, run.n)
    scores = run.scored["score"].to_numpy(dtype=float)
    n = len(scores)
    if n and _is_value(run, scores.mean()):
        is_binary = bool(np.isin(scores, (0.0, 1.0)).all())
        return _share(run.value, int(scores.sum()), n) if is_binary else Accuracy(run.value, n)
    parts = run.scores_of_tasks
    if is_mean_of_tasks(run) and all(map(len, parts)) and _is_value(run, _mean_of_means(parts)):
        return Accuracy(run.value, n, stratified_bootstrap(parts), method="bootstrap")
    return Accuracy(run.value, n)


def _share(value: float, hits: int, n: int) -> Accuracy:
    return Accuracy(value, n, wilson(hits, n), hits, "wilson") if n else Accuracy(value, n)


def _is_value(run: Run, figure: float) -> bool:
    return abs(run.value - figure) <= SAME_VALUE


def _mean_of_means(parts: Sequence[Scores]) -> float:
    return float(np.mean([part.mean() for part in parts])) if parts else float("nan")


def is_mean_of_tasks(run: Run) -> bool:
    """Whether the value of a group is the mean of its tasks' scores, whatever their numbers of documents."""
    figures = run.figures_of_tasks
    return len(figures) > 1 and _is_value(run, sum(figures) / len(figures))


def group_note(run: Run) -> str | None:
    """What the value of a group is, and its interval, in a sentence; None for a single task."""
    if len(run.tasks) == 1:
        return None
    tasks = f"its {len(run.tasks)} tasks ({', '.join(run.tasks)})"
    if not is_mean_of_tasks(run):
        return f"{run.task} is lm_eval's aggregate over {tasks}."
    interval = {
        "bootstrap": "; its interval is from a bootstrap of the documents within each task",
        "wilson": "; the tasks have equal numbers of documents",
        None: "; it has no interval",
    }[accuracy(run).method]
    return f"{run.task} is the mean of {tasks}, each of equal weight{interval}."


def metric_note(runs: Iterable[tuple[str, Run]]) -> str:
    """Of which metric and filter of lm_eval the scores of each column are, in a sentence.

    Args:
        runs: with the name of the column or task of each; those of one name have one metric.
    """
    metrics = dict.fromkeys(f"{name} {run.metric},{run.filter}" for name, run in runs)
    return f"Scores by lm_eval's metric and filter: {'; '.join(metrics)}."


def percent(fraction: float, places: int = 1) -> str:
    """A fraction in percent without the sign, or MISSING for nan."""
    return MISSING if fraction != fraction else f"{100 * fraction:.{places}f}"


def percent_sign(fraction: float, places: int = 1) -> str:
    """A fraction in percent with the sign, or MISSING for nan."""
    return MISSING if fraction != fraction else f"{percent(fraction, places)} %"


def rounded(value: float) -> str:
    """A count without decimal places, or MISSING for nan and infinity."""
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def delta(value: float, interval: Interval) -> str:
    """A difference in points with its interval, "+12.5 (+5.2 to +19.8)"; both are fractions."""
    text = f"{100 * value:+.1f}"
    if interval.low != interval.low:
        return text
    return f"{text} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def share(fraction: float, interval: Interval) -> str:
    """A share in percent, which is never shown without its interval: "34 % (6 to 63)"."""
    if fraction != fraction:
        return MISSING
    bounds = (
        "interval undefined"
        if interval.low != interval.low
        else f"{_whole(interval.low)} to {_whole(interval.high)}"
    )
    return f"{_whole(fraction)} % ({bounds})"


def _whole(fraction: float) -> str:
    return f"{100 * fraction:.0f}"


def won_lost(pair: Comparison) -> str:
    """Documents that became correct and documents that became wrong, "13 / 1"."""
    return f"{len(pair.won)} / {len(pair.lost)}"


def p_value(p: float) -> str:
    """A p-value to two digits."""
    return f"{p:.2g}"
