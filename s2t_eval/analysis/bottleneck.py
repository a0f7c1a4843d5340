"""What holds a learned selector back, trigger or selection: each crossed with what a teacher would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s2t_eval.analysis.sufficiency import SHADES
from s2t_eval.report.figures import Plot, canvas
from s2t_eval.statistics import paired_bootstrap, teacher_gain

TRIGGERS = ("kl", "router", "entropy", "margin")
RATES = (0.01, 0.05, 0.1, 0.2, 1.0)


def trigger_or_selection(
    every: pd.DataFrame, kept: pd.DataFrame, top_k: int = 8, rates: Sequence[float] = RATES
) -> Plot | None:
    """Gain a text in the teacher's log-probability, by trigger, rate, and who picks among the first `top_k`.

    The gain of a step is the teacher's log-probability of the pick minus that of the student's first token,
    on the student's own texts: no text is generated anew. The KL trigger with the teacher's picks is S2T; a
    local trigger with the selector's picks is S2T-Local; the two mixed forms tell which half loses more.

    Args:
        every: of `steps.positions`, with a column `router` where there is one.
        kept: of `steps.groups`, with the column `selector`, at every step.
        top_k: candidates that are picked from.
        rates: share of the steps that fire, the largest of each trigger's divergences.

    Returns:
        Columns trigger, tau, picks, texts, steps, gain (nats a text), low, high (bootstrap over texts), share
        (percent of the KL trigger with the teacher's picks at the same rate); None where the labels do not
        hold candidates at every step.
    """
    if len(kept) != len(every):
        return None
    order = ["benchmark", "problem_id", "t"]
    every, kept = (frame.sort_values(order, ignore_index=True) for frame in (every, kept))
    teacher = np.stack([np.asarray(row[:top_k]) for row in kept["teacher"]])
    scores = np.stack([np.asarray(row[:top_k]) for row in kept["selector"]])
    gained = {
        "the teacher": teacher_gain(teacher, teacher.argmax(-1)),
        "the selector": teacher_gain(teacher, scores.argmax(-1)),
    }
    texts = pd.factorize(every["benchmark"] + "\0" + every["problem_id"])[0]
    num = int(texts.max()) + 1
    rows = []
    for trigger in [name for name in TRIGGERS if name in every]:
        values = every[trigger].to_numpy()
        for tau in rates:
            fires = values >= np.quantile(values, 1 - tau)
            for who, of_steps in gained.items():
                gain = np.bincount(texts, of_steps * fires, minlength=num).astype(np.float64)
                interval = paired_bootstrap(gain, np.zeros(num))
                rows.append((trigger, tau, who, num, len(values), gain.mean(), interval.low, interval.high))
    names = ["trigger", "tau", "picks", "texts", "steps", "gain", "low", "high"]
    data = pd.DataFrame(rows, columns=names)
    whole = data[(data["trigger"] == "kl") & (data["picks"] == "the teacher")].set_index("tau")["gain"]
    data["share"] = 100 * data["gain"] / data["tau"].map(whole)
    return Plot("bottleneck", "Trigger or selection: gain by what fires and who picks", data, _draw(data))


def _draw(data: pd.DataFrame) -> Figure:
    with canvas(6.4, 3.8) as (figure, [ax]):
        triggers = list(dict.fromkeys(data["trigger"]))
        for shade, trigger in zip(SHADES, triggers, strict=False):
            for who, style in (("the teacher", "o-"), ("the selector", "s--")):
                part = data[(data["trigger"] == trigger) & (data["picks"] == who)]
                error = [part["gain"] - part["low"], part["high"] - part["gain"]]
                label = f"{trigger}, {who} picks"
                ax.errorbar(
                    100 * part["tau"], part["gain"], error, fmt=style, color=shade, capsize=2, label=label
                )
        ax.axhline(0, color="#888888", linewidth=0.8)
        ax.set_xscale("log")
        ticks = sorted(100 * data["tau"].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("fired steps, %")
        ax.set_ylabel("gain a text, nats of the teacher")
        ax.legend(fontsize=7)
    return figure
