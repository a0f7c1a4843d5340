"""The score from which a wanted share of drafts is accepted, measured on training problems.

Like the thresholds of triggers it is measured on the student's own greedy texts and stored in a calibration
file, under a key of its own for each score and form of step. In decoding the share differs, because drafts
then follow steps that the teacher has written; results contain the counts of drafted and rejected steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s2t_eval.method_table import Delimiter, StepScoreName
from s2t_eval.selection.calibration import OF_STEPS, Calibration, CalibrationError
from s2t_eval.selection.thresholds import ThresholdError, ThresholdLookup, threshold_at


@dataclass(frozen=True)
class StepForm:
    """What a threshold of acceptance holds for.

    Args:
        score: the teacher's score.
        delimiter: where a step ends.
        max_step: most tokens of a step.
    """

    score: StepScoreName
    delimiter: Delimiter
    max_step: int

    @property
    def key(self) -> str:
        """Its key among the thresholds of a calibration."""
        return f"{OF_STEPS}{self.score}:{self.delimiter}:{self.max_step}"

    def lookup(self, calibration: str | None, rate: float | None) -> ThresholdLookup:
        """What a run at a wanted rate of acceptance looks up; warm-up tokens have no effect on it."""
        return ThresholdLookup(calibration, None, None, "accept_rate", rate, self.key)


def acceptance_threshold(scores: Sequence[float], rate: float) -> float:
    """The largest score from which at least this share of drafts is accepted.

    It lies halfway to the next lower score, so that rounding does not decide. Scores of several drafts may be
    equal (marks are): the share is then larger than the wanted one.

    Args:
        scores: of drafts with content.
        rate: the wanted share, above 0 and below 1.

    Raises:
        ThresholdError: no score at all, or one that is not a finite number.
    """
    if not scores:
        raise ThresholdError(
            "calibration: no draft has content that the teacher could score; the student ends "
            "every text at once"
        )
    if not all(map(math.isfinite, scores)):
        raise ThresholdError(
            "calibration: the teacher's scores are not all finite numbers; its weights are damaged, or its "
            "dtype is too narrow (try float32)"
        )
    ranked = sorted(scores, reverse=True)
    lowest_accepted = ranked[max(1, math.ceil(rate * len(ranked) - 1e-9)) - 1]
    below = [score for score in ranked if score < lowest_accepted]
    return (lowest_accepted + below[0]) / 2 if below else 0.0


def accepted_share(scores: Sequence[float], threshold: float) -> float:
    """Share of the scores that a threshold accepts."""
    return sum(score >= threshold for score in scores) / len(scores)


@dataclass(frozen=True)
class MeasuredAcceptance:
    """Thresholds of one form of step.

    Args:
        thresholds: wanted rate as text -> score from which drafts are accepted.
        num_drafts: drafts that were scored.
        accepted: wanted rate as text -> share of these drafts that the threshold accepts.
    """

    thresholds: dict[str, float]
    num_drafts: int
    accepted: dict[str, float]

    def described(self) -> dict[str, Any]:
        """The entry in a calibration's `data`."""
        return {"drafts": self.num_drafts, "accepted": self.accepted}


def measure_acceptance(scores: Sequence[float], rates: Sequence[float]) -> MeasuredAcceptance:
    """Thresholds for these rates.

    Args:
        scores: of all drafts with content.
        rates: wanted shares of accepted drafts.
    """
    thresholds = {str(rate): acceptance_threshold(scores, rate) for rate in rates}
    accepted = {rate: accepted_share(scores, threshold) for rate, threshold in thresholds.items()}
    return MeasuredAcceptance(thresholds, len(scores), accepted)


def calibrated_accept(calibration: Calibration, form: StepForm, rate: float) -> float:
    """The score from which drafts are accepted at a wanted rate.

    Raises:
        CalibrationError: there is none for this form of step and rate; the message lists the known ones.
    """
    threshold = threshold_at(calibration.thresholds.get(form.key, {}), rate)
    if threshold is not None:
        return threshold
    known = "; ".join(
        f"{key.removeprefix(OF_STEPS)}: {', '.join(rates)}"
        for key, rates in calibration.thresholds.items()
        if key.startswith(OF_STEPS)
    )
    wanted = form.key.removeprefix(OF_STEPS)
    options = f"--delimiter {form.delimiter} --max_step {form.max_step} --accept_rate {rate}"
    raise CalibrationError(
        f"calibration: it has no threshold for accept_rate={rate} of {wanted} (it has {known or 'none'}); "
        "name one of these, give accept=NUMBER, or measure it with `s2t-eval calibrate --step_score "
        f"{form.score} {options}`"
    )
