"""The trigger study: agreement of local signals with the KL trigger, and the gain they keep."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from s2t_eval.analysis.gain_shares import gain_share
from s2t_eval.analysis.steps import is_top, text_numbers
from s2t_eval.analysis.sufficiency import SHADES
from s2t_eval.report.blocks import Entry
from s2t_eval.report.figures import Plot, benchmark_labels, canvas, interval_arms
from s2t_eval.statistics import clustered_wilson

SIGNALS = ("entropy", "entropy64", "margin", "router", "line_entropy", "position")
"""Columns; those that are missing, of some steps or of all, are left out."""


def trigger_roc(steps: pd.DataFrame, tau: float = 0.05) -> Plot:
    """ROC of local signals against the top `tau` of steps by KL.

    AUROC is optimistic where few steps are positive: `recall` is the share of the top steps at which a signal
    fires when it fires as often as KL does. Among steps of equal value, those that fire are drawn at random,
    and `recall` is the mean: `line_entropy` is 0 wherever no line begins. The interval of `recall` is over
    texts (`statistics.clustered_wilson`), at the thresholds of the whole set.

    Args:
        steps: of `steps.positions`, with a column `router` where the selector has one.
        tau: share of the steps that are positive.

    Returns:
        Columns signal, tau, n, texts, positives, auroc, and recall, low, high (percent; the bounds of a
        single text are nan).

    Raises:
        ValueError: no step is positive.
    """
    is_positive = is_top(steps["kl"], tau, "the texts").to_numpy()
    texts = text_numbers(steps)
    positives = np.bincount(texts, is_positive)
    rows = []
    with canvas(4.4, 4.0) as (figure, [ax]):
        ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=":")
        known = [signal for signal in SIGNALS if signal in steps and steps[signal].notna().all()]
        assert len(known) <= len(SHADES)
        for shade, name in zip(SHADES, known, strict=False):
            values = steps[name].to_numpy()
            false, true, _ = roc_curve(is_positive, values)
            auroc = float(roc_auc_score(is_positive, values))
            num_top = int(is_positive.sum())
            hits = np.bincount(texts, _firing(values, num_top) * is_positive)
            recall = float(hits.sum() / num_top)
            percents = (100 * share for share in (recall, *clustered_wilson(hits, positives)))
            rows.append((name, tau, len(steps), len(positives), num_top, auroc, *percents))
            label = f"{name}: AUROC {auroc:.3f}, recall {100 * recall:.0f} %"
            ax.plot(false, true, color=shade, label=label)
            ax.plot((1 - recall) * num_top / (len(steps) - num_top), recall, "o", color=shade)
        ax.set_xlabel("other steps that fire, share")
        ax.set_ylabel(f"top {100 * tau:g} % by KL that fire, share")
        ax.legend(loc="lower right", fontsize=7, title="dot: at the rate of KL", title_fontsize=7)
    data = pd.DataFrame(rows, columns="signal tau n texts positives auroc recall low high".split())
    return Plot("trigger_roc", f"Local triggers against the top {100 * tau:g} % of steps by KL", data, figure)


def _firing(values: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.float64]:
    """The probability that each step fires when the `count` largest values do and ties are drawn, [steps]."""
    threshold = np.partition(values, -count)[-count]
    is_above, is_tied = values > threshold, values == threshold
    firing: npt.NDArray[np.float64] = is_above + is_tied * (count - is_above.sum()) / is_tied.sum()
    return firing


def gain_kept(entries: Sequence[Entry]) -> Plot | None:
    """The share of the KL trigger's gain that other triggers keep at the same tau, with the teacher's picks.

    The KL trigger is that of KL_DIRECTION, with the same teacher, dtype, K and warm-up; the other direction
    is another trigger.

    Returns:
        Columns student, benchmark, trigger, tau, k, n, gain (points over greedy), share, low, high
        (percent, paired bootstrap); None without such a pair of runs. A pair has a document with a score in
        both and under greedy.
    """
    rows = []
    for entry in entries:
        run, settings = entry.run, entry.run.settings
        if run.method.key != "s2t" or settings.trigger in (None, "kl") or settings.tau is None:
            continue
        if run.documents is None:
            continue
        kept = gain_share(entry, entries, partial(_has_kl_trigger_of, entry))
        if kept is None:
            continue
        gain = 100 * float((kept.scores - kept.greedy).mean())
        percents = (100 * number for number in (kept.share, *kept.interval))
        numbers = (len(kept.scores), gain, *percents)
        where = (entry.student, entry.benchmark.title, settings.trigger, settings.tau, settings.top_k)
        rows.append((*where, *numbers))
    if not rows:
        return None
    names = ["student", "benchmark", "trigger", "tau", "k", "n", "gain", "share", "low", "high"]
    data = pd.DataFrame(rows, columns=names)
    with canvas(6.2, 1.2 + 0.4 * len(data)) as (figure, [ax]):
        for at, row in enumerate(data.itertuples(index=False)):
            arms = interval_arms(row.share, row.low, row.high)
            ax.errorbar(row.share, at, xerr=arms, fmt="o", color="#d1495b", capsize=2)
            ax.annotate(
                f"{row.share:.0f} %", (row.share, at), (0, 5), textcoords="offset points", ha="center"
            )
        ax.set_yticks(range(len(data)), _labels(data))
        ax.set_ylim(len(data) - 0.4, -0.7)
        ax.axvline(100, color="#888888", linewidth=0.8, linestyle=":")
        ax.axvline(0, color="#888888", linewidth=0.8)
        ax.set_xlabel("share of the KL trigger's gain over greedy, % (95 %)")
        ax.grid(axis="y", visible=False)
    return Plot("gain_kept", "Share of the gain that each trigger keeps, the teacher picking", data, figure)


def _labels(data: pd.DataFrame) -> list[str]:
    """A label for each row of `gain_kept`: with its student and its K where the rows have several."""
    has_ks = data["k"].nunique() > 1
    return [
        f"{row.trigger}, tau {100 * row.tau:g} %{f', K {row.k}' if has_ks else ''}\n{benchmark}"
        for row, benchmark in zip(data.itertuples(index=False), benchmark_labels(data), strict=True)
    ]


def _has_kl_trigger_of(entry: Entry, other: Entry) -> bool:
    """Whether another run has the trigger `kl` at the rate, K and warm-up of this one."""
    own, settings = entry.run.settings, other.run.settings
    is_same = (settings.tau, settings.top_k, settings.warmup) == (own.tau, own.top_k, own.warmup)
    return settings.trigger == "kl" and is_same
