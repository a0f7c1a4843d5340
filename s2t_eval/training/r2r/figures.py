"""Thresholds of a router, and their recall and positive rate over all tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.selection.thresholds import quantile_thresholds
from s2t_eval.training.r2r.settings import ThresholdSettings
from s2t_eval.training.trigger_recall import TAUS, auroc

Values = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def choose_threshold(settings: ThresholdSettings, values: Values, is_divergent: Flags) -> float:
    """The threshold, from probabilities and labels of all tokens [n] of validation problems.

    Raises:
        R2RError: a recall without a divergent token.
    """
    if settings.by == "rate":
        return quantile_thresholds(values.tolist(), [settings.tau])[str(settings.tau)]
    if not is_divergent.any():
        raise R2RError(
            "labels: no token of the validation problems is divergent, so no recall can be measured; "
            "label more problems, or choose --by rate"
        )
    return threshold_at_recall(values, is_divergent, settings.recall)


def threshold_at_recall(values: Values, is_divergent: Flags, recall: float) -> float:
    """The largest threshold above which at least this share of the divergent tokens lies.

    It has the lowest positive rate of all that reach the recall. The paper searches a grid of 100 values.
    """
    divergent_values = np.sort(values[is_divergent])[::-1]
    num_needed = max(1, int(np.ceil(recall * len(divergent_values) - 1e-9)))
    return float(np.nextafter(divergent_values[num_needed - 1], np.float32(-1)))


def recall_and_rate(values: Values, is_divergent: Flags, threshold: float) -> dict[str, float]:
    """Share of divergent tokens, and share of all tokens, above a threshold; with the number of tokens.

    The recall is nan without divergent tokens.
    """
    is_above = values > np.float32(threshold)
    recall = float(is_above[is_divergent].mean()) if is_divergent.any() else float("nan")
    return {
        "recall": recall,
        "positive_rate": float(is_above.mean()),
        "steps": float(len(values)),
        "divergent": float(is_divergent.sum()),
    }


def signals_at_rates(
    signals: dict[str, Values], is_divergent: Flags, taus: Sequence[float] = TAUS
) -> dict[str, dict[str, float]]:
    """How well each signal predicts the divergent tokens when it fires at exactly these rates.

    Args:
        signals: name -> its value at every token, [n]; the larger, the sooner it fires.
        is_divergent: labels, [n].
        taus: rates.

    Returns:
        Signal -> "recall@tau" for each rate, and the areas under its ROC and precision-recall curves; all are
        nan without divergent tokens.
    """
    num_divergent = int(is_divergent.sum())
    report: dict[str, dict[str, float]] = {}
    for name, values in signals.items():
        ranking = np.argsort(-values, kind="stable")
        entry: dict[str, float] = {}
        for tau in taus:
            top_ranked = ranking[: max(1, round(tau * len(values)))]
            num_found = int(is_divergent[top_ranked].sum())
            entry[f"recall@{tau}"] = num_found / num_divergent if num_divergent else float("nan")
        entry["auroc"] = auroc(values, is_divergent)
        entry["average_precision"] = (
            float(average_precision_score(is_divergent, values)) if num_divergent else float("nan")
        )
        report[name] = entry
    return report
