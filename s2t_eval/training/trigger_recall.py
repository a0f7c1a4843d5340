"""Recall of local triggers: how many steps of large teacher KL they fire at, at equal rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

TAUS = (0.01, 0.05, 0.1, 0.2)
"""Rates; trigger and KL each fire at exactly this share of the steps."""

Values = npt.NDArray[np.floating[Any]]


def trigger_report(divergences: Mapping[str, Values], kl: Values) -> dict[str, dict[str, float]]:
    """Recall, share of KL mass and AUROC of each trigger against the top tau of steps by KL.

    Args:
        divergences: trigger -> its divergence at every step, [steps].
        kl: KL between student and teacher, nats, [steps].

    Returns:
        "name@tau" -> recall, kl_share, auroc. AUROC is optimistic, because most of its negatives are steps
        of almost no KL; recall at equal rates is the figure to compare triggers by.
    """
    report = {}
    for tau in TAUS:
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
    """Probability that a positive has a larger value than a negative (ties count half); NaN without both."""
    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
