"""Local sufficiency: how often the teacher's token is among the student's first K (the paper's figure)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from s2t_eval.analysis.steps import MISSED
from s2t_eval.report.figures import Plot, canvas
from s2t_eval.statistics import clustered_wilson

SHADES = ("#d1495b", "#1f77b4", "#2a9d8f", "#e69f00", "#6a51a3", "#4c566a")
KS = tuple(range(1, 17))
"""Numbers of candidates; those larger than in the labels are left out."""


def hit_rates(steps: pd.DataFrame) -> Plot:
    """Hit@K with 95 % intervals over texts (`statistics.clustered_wilson`), a line for each benchmark.

    Args:
        steps: of `steps.groups`, already cut to the top steps.

    Returns:
        Columns benchmark, k, n (steps), texts, hit_rate, low, high (percent; the bounds of one text are nan).
    """
    width = min(len(scores) for scores in steps["student"])
    rows = []
    for benchmark, part in steps.groupby("benchmark", sort=False):
        for k in [k for k in KS if k <= width]:
            is_hit = part["rank"] <= k
            of_texts = is_hit.groupby(part["problem_id"]).agg(["sum", "size"])
            bounds = clustered_wilson(of_texts["sum"], of_texts["size"])
            percents = (100 * share for share in (is_hit.mean(), *bounds))
            rows.append((benchmark, k, len(part), len(of_texts), *percents))
    data = pd.DataFrame(rows, columns=["benchmark", "k", "n", "texts", "hit_rate", "low", "high"])
    with canvas(5.4, 3.4) as (figure, [ax]):
        for shade, (benchmark, part) in zip(SHADES, data.groupby("benchmark", sort=False), strict=False):
            label = f"{benchmark} (n = {part['n'].iloc[0]:,})"
            ax.plot(part["k"], part["hit_rate"], "o-", color=shade, markersize=4, label=label)
            ax.fill_between(part["k"], part["low"], part["high"], color=shade, alpha=0.18, linewidth=0)
        ax.set_xticks(sorted(data["k"].unique()))
        ax.set_ylim(top=101)
        ax.set_xlabel("K, the student's first candidates")
        ax.set_ylabel("teacher's token among them, %")
        ax.legend(loc="lower right")
    return Plot("hit_rates", "Local sufficiency: Hit@K at the top steps by KL", data, figure)


def smallest_k(steps: pd.DataFrame) -> Plot:
    """The smallest K whose candidates include the teacher's token, against KL; a dot for each step."""
    data = steps[["benchmark", "problem_id", "t", "kl", "rank"]].reset_index(drop=True)
    width = min(len(scores) for scores in steps["student"])
    smallest = data["rank"].where(data["rank"] != MISSED, width + 1)
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(data))
    with canvas(5.4, 3.6) as (figure, [ax]):
        for shade, benchmark in zip(SHADES, data["benchmark"].unique(), strict=False):
            in_benchmark = data["benchmark"] == benchmark
            x, y = data.loc[in_benchmark, "kl"], (smallest + jitter)[in_benchmark]
            ax.scatter(
                x, y, s=7, alpha=0.5, color=shade, linewidth=0, label=benchmark, rasterized=len(x) > 2000
            )
        ax.axhline(8.5, color="#888888", linewidth=0.8, linestyle=":")
        ax.annotate("K = 8", (0, 8.5), (3, 3), ("axes fraction", "data"), "offset points", fontsize=7)
        ticks = [k for k in (1, 2, 4, 8, 12, 16) if k <= width]
        ax.set_yticks([*ticks, width + 1], [*map(str, ticks), "none"])
        ax.set_xlabel("KL of student and teacher, nats")
        ax.set_ylabel("smallest K that includes the teacher's token")
        ax.legend(loc="upper right", bbox_to_anchor=(1, 0.9), markerscale=2.5, frameon=True, edgecolor="none")
    return Plot("smallest_k", "The smallest sufficient K against KL, a dot for each step", data, figure)
