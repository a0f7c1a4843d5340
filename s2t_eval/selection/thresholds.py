"""The divergence above which a trigger fires at a given rate: one table for calibrations and selectors.

    trigger key -> rate, as text -> threshold

A threshold is a quantile of the divergences of greedy texts on training problems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s2t_eval.selection.divergence_router import DivergenceTrigger
from s2t_eval.selection.triggers import KlTrigger, Trigger

Rates = dict[str, dict[str, float]]
"""A table as it is saved: trigger key -> rate -> threshold."""


class ThresholdError(ValueError):
    """A trigger or rate without a threshold, or divergences that have no quantiles."""


@dataclass(frozen=True)
class ThresholdTable:
    """Thresholds by trigger and rate.

    Args:
        source: the file or folder with the thresholds, for messages.
        rates: trigger key (see `trigger_key`) -> rate as text -> threshold; see `require_rates`.
    """

    source: str
    rates: Rates

    def at(self, trigger: Trigger, tau: float) -> float:
        """The threshold at which a trigger fires at the rate tau.

        Raises:
            ThresholdError: there is none; the message lists the known ones.
        """
        name = trigger_key(trigger)
        for rate, threshold in self.rates.get(name, {}).items():
            if math.isclose(float(rate), tau):
                return threshold
        known = "; ".join(f"{key}: {', '.join(rates)}" for key, rates in self.rates.items()) or "none"
        raise ThresholdError(
            f"{self.source}: it has no threshold for trigger {name} at tau={tau} (it has {known}); name one "
            f"of these, give threshold=NUMBER, or measure it with `s2t-eval calibrate --tau {tau}`"
        )


def require_rates(rates: Rates) -> None:
    """Raise `ThresholdError` unless all rates of a table are numbers from 0 to 1."""
    for name, thresholds in rates.items():
        for rate in thresholds:
            if not _is_rate(rate):
                raise ThresholdError(f"thresholds.{name}: expected rates from 0 to 1 as names, got {rate!r}")


def _is_rate(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def trigger_key(trigger: Trigger) -> str:
    """A trigger's name in a table; each direction of KL and each R2R router has thresholds of its own."""
    if isinstance(trigger, DivergenceTrigger):
        return f"{trigger.name}:{trigger.source}"
    return f"kl:{trigger.direction}" if isinstance(trigger, KlTrigger) else trigger.name


def measure_thresholds(divergences: Mapping[str, Sequence[float]], taus: Sequence[float]) -> Rates:
    """The table of some triggers: trigger key -> its divergence at every step.

    Raises:
        ThresholdError: a divergence that is not a finite number.
    """
    return {name: quantile_thresholds(values, taus) for name, values in divergences.items()}


def quantile_thresholds(divergences: Sequence[float], taus: Sequence[float]) -> dict[str, float]:
    """For each rate tau the (1 - tau) quantile: a share tau of the divergences lies above it."""
    values = np.asarray(divergences, dtype=np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ThresholdError(
            f"calibration: {count} of {len(values)} divergences are not finite numbers; a model's weights "
            "are damaged, or its dtype is too narrow (try float32)"
        )
    return {str(tau): float(np.quantile(values, 1 - tau)) for tau in taus}
