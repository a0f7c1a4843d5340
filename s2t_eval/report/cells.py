"""How figures are written: one form for each kind, in every table, page and terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from s2t_eval.report.run import Run
from s2t_eval.statistics import Interval, wilson

if TYPE_CHECKING:
    from s2t_eval.report.compare import Comparison

MISSING = "–"
"""Stands for a figure that does not apply or is unknown."""
UNDEFINED = Interval(float("nan"), float("nan"))


class Accuracy(NamedTuple):
    """The score of a run over its documents, as fractions.

    Args:
        value: the mean score.
        n: documents with a score.
        interval: Wilson's, 95 %; undefined (nan) where documents have scores other than 0 and 1.
    """

    value: float
    n: int
    interval: Interval

    @property
    def correct(self) -> int:
        """Documents answered correctly, where scores are 0 and 1."""
        return round(self.value * self.n)

    @property
    def count_text(self) -> str:
        """Correct documents and their share, "133 (44.3 %)"."""
        return f"{self.correct} ({percent(self.value)} %)"

    @property
    def interval_text(self) -> str:
        """Both bounds in percent, "38.8–50.0"."""
        low, high = self.interval
        return MISSING if low != low else f"{percent(low)}–{percent(high)}"


def accuracy(run: Run) -> Accuracy:
    """The score of a run and its interval.

    Without documents, a score between 0 and 1 is taken for a share of correct documents.
    """
    if run.documents is None:
        n, is_share = run.n, 0 <= run.value <= 1
    else:
        n, is_share = len(run.scored), bool(run.scored["score"].isin([0, 1]).all())
    interval = wilson(round(run.value * n), n) if is_share and n else UNDEFINED
    return Accuracy(run.value, n, interval)


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
