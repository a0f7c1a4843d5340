"""How well a local trigger finds the steps at which a teacher diverges, at an equal rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

TAUS = (0.01, 0.05, 0.1, 0.2)

Values = npt.NDArray[np.floating[Any]]


def trigger_report(
    divergences: Mapping[str, Values], kl: Values, taus: Sequence[float] = TAUS
) -> dict[str, dict[str, float]]:
    """Of each trigger and tau: recall, share of KL mass and AUROC against the top tau of steps by KL.

    Args:
        divergences: trigger -> its divergence at every step, [steps].
        kl: the teacher's divergence, nats, [steps].
        taus: rates; trigger and KL both fire at exactly this share of the steps.

    Returns:
        "name@tau" -> recall, kl_share, auroc. AUROC flatters (its negatives are mostly quiet steps):
        judge by recall at equal rate.
    """
    report = {}
    for tau in taus:
        count = max(1, round(tau * len(kl)))
        top = np.zeros(len(kl), dtype=bool)
        top[np.argsort(-kl, kind="stable")[:count]] = True
        for name, values in divergences.items():
            fired = np.argsort(-values, kind="stable")[:count]
            report[f"{name}@{tau}"] = {
                "recall": float(top[fired].mean()),
                "kl_share": float(kl[fired].sum() / kl.sum()) if kl.sum() else 0.0,
                "auroc": auroc(values, top),
            }
    return report


def auroc(values: Values, is_positive: npt.NDArray[np.bool_]) -> float:
    """Probability that a positive has the larger value, ties counting half; NaN without both kinds."""
    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
