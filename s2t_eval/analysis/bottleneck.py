"""Whether trigger or selection limits a learned selector: each is replaced by the teacher's in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s2t_eval.analysis.steps import text_numbers
from s2t_eval.analysis.sufficiency import SHADES
from s2t_eval.report.figures import Plot, canvas, interval_arms
from s2t_eval.statistics import Scores, paired_bootstrap, share_of_gain, teacher_gain

TRIGGERS = ("kl", "router", "entropy", "entropy64", "margin")
RATES = (0.01, 0.05, 0.1, 0.2, 1.0)


def trigger_or_selection(
    steps: pd.DataFrame, candidates: pd.DataFrame, top_k: int = 8, rates: Sequence[float] = RATES
) -> Plot | None:
    """The gain of a text in the teacher's log-probability, by trigger, rate and the model that picks.

    The gain of a step is the teacher's log-probability of the pick minus that of the student's first token,
    on the student's own texts; no text is generated again. The KL trigger with the teacher's picks is S2T, a
    local trigger with the selector's picks is S2T-Local. The two mixed forms show which half loses more.

    Args:
        steps: of `steps.positions`, with a column `router` where the selector has one.
        candidates: of `steps.groups`, with the column `selector`, at every step.
        top_k: number of candidates among which a pick is made.
        rates: shares of the steps that fire, those with the largest values of each trigger.

    Returns:
        Columns trigger, tau, picks, texts, steps, gain (nats per text), low, high, and share, share_low,
        share_high (percent of the gain of the KL trigger with the teacher's picks at the same rate), both
        intervals by bootstrap over texts, nan for a single text; None where the labels do not have candidates
        at every step.
    """
    if len(candidates) != len(steps):
        return None
    order = ["benchmark", "problem_id", "t"]
    steps, candidates = (frame.sort_values(order, ignore_index=True) for frame in (steps, candidates))
    teacher = np.stack([np.asarray(row[:top_k]) for row in candidates["teacher"]])
    scores = np.stack([np.asarray(row[:top_k]) for row in candidates["selector"]])
    gains = {
        "the teacher": teacher_gain(teacher, teacher.argmax(-1)),
        "the selector": teacher_gain(teacher, scores.argmax(-1)),
    }
    texts = text_numbers(steps)
    num_texts = int(texts.max()) + 1
    triggers = [name for name in TRIGGERS if name in steps]
    fires = {(name, tau): _fires(steps[name], tau) for name in triggers for tau in rates}
    by_text = {
        (name, tau, picker): np.bincount(texts, step_gains * mask, minlength=num_texts).astype(np.float64)
        for (name, tau), mask in fires.items()
        for picker, step_gains in gains.items()
    }
    rows = []
    for (name, tau, picker), gain in by_text.items():
        figures = _with_share(gain, by_text["kl", tau, "the teacher"])
        rows.append((name, tau, picker, num_texts, len(steps), *figures))
    names = "trigger tau picks texts steps gain low high share share_low share_high".split()
    data = pd.DataFrame(rows, columns=names)
    title = "Trigger or selection: gain by trigger and by the model that picks"
    return Plot("bottleneck", title, data, _draw(data))


def _fires(values: pd.Series, tau: float) -> np.ndarray:
    """The steps with the largest values of a trigger, a share `tau` of all."""
    return (values >= values.quantile(1 - tau)).to_numpy()


def _with_share(gain: Scores, full_gain: Scores) -> tuple[float, ...]:
    """Mean gain of a text with its interval, and its share of the full gain with its interval, in percent."""
    nothing = np.zeros(len(gain))
    share, bounds = share_of_gain(gain, full_gain, nothing)
    percents = [100 * fraction for fraction in (share, *bounds)]
    return float(gain.mean()), *paired_bootstrap(gain, nothing), *percents


def _draw(data: pd.DataFrame) -> Figure:
    with canvas(6.4, 3.8) as (figure, [ax]):
        triggers = list(dict.fromkeys(data["trigger"]))
        for shade, trigger in zip(SHADES, triggers, strict=False):
            for picker, style in (("the teacher", "o-"), ("the selector", "s--")):
                part = data[(data["trigger"] == trigger) & (data["picks"] == picker)]
                arms = interval_arms(part["gain"], part["low"], part["high"])
                label = f"{trigger}, {picker} picks"
                ax.errorbar(
                    100 * part["tau"], part["gain"], arms, fmt=style, color=shade, capsize=2, label=label
                )
        ax.axhline(0, color="#888888", linewidth=0.8)
        ax.set_xscale("log")
        ticks = sorted(100 * data["tau"].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("fired steps, %")
        ax.set_ylabel("gain per text in the teacher's log-probability, nats")
        ax.legend(fontsize=7)
    return figure
