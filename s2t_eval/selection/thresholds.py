"""The divergence above which a trigger fires at a given rate: one table for calibrations and selectors.

    trigger key -> rate, as text -> threshold

A threshold is a quantile of the divergences of greedy texts on training problems.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from s2t_eval.selection.divergence_router import DivergenceTrigger
from s2t_eval.selection.triggers import KlTrigger, Trigger

logger = logging.getLogger(__name__)

Rates = dict[str, dict[str, float]]
"""A table as it is saved: trigger key -> rate -> threshold."""


ROUTER = "router"
OF_R2R = "r2r:"
"""How the keys of R2R's routers begin; the trigger is called `router` as that of a selector's router is."""


class ThresholdError(ValueError):
    """A trigger or rate without a threshold, or divergences that have no quantiles."""


@dataclass(frozen=True)
class ThresholdLookup:
    """What a run looks up before its first text, as far as its arguments show it.

    Args:
        calibration: file of `s2t-eval calibrate`; None: the thresholds of `folder` are read.
        folder: name of a router or selector.
        warmup_tokens: those of the run, which the calibration must have too; None: they do not matter.
        argument: which one names the rate, `tau` or `accept_rate`.
        rate: the rate; None: no threshold is looked up.
        key: of the rate's thresholds, see `trigger_key`; `router` also stands for R2R's routers, whose keys
            are known only when they are loaded. None: the key of the selector's own default trigger.
    """

    calibration: str | None
    folder: str | None
    warmup_tokens: int | None
    argument: str
    rate: float | None
    key: str | None

    def is_in(self, rates: Rates) -> bool:
        """Whether a table has the threshold, or nothing is looked up."""
        return self.rate is None or has_rate(self.candidates(rates), self.rate)

    def candidates(self, rates: Rates) -> list[str]:
        """The rates that a table has for this key, as texts."""
        return list(chain.from_iterable(rates[key] for key in rates if self._may_be(key)))

    def _may_be(self, key: str) -> bool:
        return self.key in (None, key) or (self.key == ROUTER and key.startswith(OF_R2R))


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
        threshold = threshold_at(self.rates.get(name, {}), tau)
        if threshold is not None:
            return threshold
        raise self.missing_error(f"trigger {name}", tau)

    def missing_error(self, trigger: str, tau: float) -> ThresholdError:
        """The error where the table has no threshold.

        A calibration is one file: measured again at the new rate alone, it would lose those that it has.

        Args:
            trigger: what has none, in words.
            tau: the rate.
        """
        known = "; ".join(f"{key}: {', '.join(rates)}" for key, rates in self.rates.items()) or "none"
        rates = dict.fromkeys([*chain.from_iterable(self.rates.values()), str(tau)])
        measured = " ".join(sorted(rates, key=float))
        return ThresholdError(
            f"{self.source}: it has no threshold for {trigger} at tau={tau} (it has {known}); name one "
            f"of these, give threshold=NUMBER, or measure it with `s2t-eval calibrate --tau {measured}`"
        )


def threshold_at(thresholds: Mapping[str, float], rate: float) -> float | None:
    """The threshold of a rate among those of a table, which are texts; None where there is none."""
    return next((value for text, value in thresholds.items() if has_rate([text], rate)), None)


def has_rate(rates: Iterable[str], rate: float) -> bool:
    """Whether a rate is among those of a table, which are texts."""
    return any(math.isclose(float(text), rate) for text in rates)


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

    A warning names rates at which a trigger does not fire at all, because more steps than that share the
    largest divergence: a step's position in its text has few values.

    Raises:
        ThresholdError: a divergence that is not a finite number.
    """
    rates = {name: quantile_thresholds(values, taus) for name, values in divergences.items()}
    for name, values in divergences.items():
        largest = max(values)
        silent = [tau for tau, threshold in rates[name].items() if float(tau) and threshold >= largest]
        if silent:
            share = sum(value == largest for value in values) / len(values)
            logger.warning(
                "trigger %s: it never fires at tau=%s, because %.2g %% of the steps have its largest value; "
                "name a larger rate",
                name,
                " and ".join(silent),
                100 * share,
            )
    return rates


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
