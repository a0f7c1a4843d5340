"""The error split: teacher tokens that are not candidates, and candidates that the selector does not pick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from s2t_eval.analysis.sufficiency import SHADES
from s2t_eval.report.figures import Plot, canvas
from s2t_eval.statistics import mean_rank_correlation


def error_split(
    steps: pd.DataFrame, selectors: Mapping[str, str], ks: Sequence[int] = (1, 2, 4, 8, 16)
) -> Plot:
    """delta_hit = 1[y* not in C] and delta_sel = 1[y* in C, pick != y*] as functions of K, and agreement.

    Args:
        steps: of `steps.groups`; each selector's scores in a column of lists [candidates].
        selectors: name -> column, for example {"student": "student"}; larger scores are picked.
        ks: numbers of candidates.

    Returns:
        Columns selector, k, n, delta_hit, delta_sel (percent), agree_at_1 (the pick is the teacher's best
        candidate, percent), spearman (mean over the groups in which it is defined).
    """
    width = min(len(scores) for scores in steps["student"])
    rows = []
    for name, column in selectors.items():
        for k in [k for k in ks if k <= width]:
            scores = np.stack([np.asarray(values[:k]) for values in steps[column]])
            teacher = np.stack([np.asarray(values[:k]) for values in steps["teacher"]])
            rank = steps["rank"].to_numpy()
            picked = scores.argmax(-1)
            is_in = rank <= k
            figures = (
                100 * (~is_in).mean(),
                100 * (is_in & (picked + 1 != rank)).mean(),
                100 * (picked == teacher.argmax(-1)).mean(),
                mean_rank_correlation(scores, teacher) if k > 1 else float("nan"),
            )
            rows.append((name, k, len(steps), *figures))
    names = ["selector", "k", "n", "delta_hit", "delta_sel", "agree_at_1", "spearman"]
    data = pd.DataFrame(rows, columns=names)
    with canvas(7.4, 3.7, columns=2) as (figure, [left, right]):
        hit = data.drop_duplicates("k")
        left.plot(hit["k"], hit["delta_hit"], "s--", color="#222222", label="delta_hit (not among the K)")
        for shade, (name, part) in zip(SHADES, data.groupby("selector", sort=False), strict=False):
            left.plot(part["k"], part["delta_sel"], "o-", color=shade, label=f"delta_sel and Agree@1: {name}")
            right.plot(part["k"], part["agree_at_1"], "o-", color=shade, label=name)
        for ax, label in ((left, "steps, %"), (right, "Agree@1, %")):
            ax.set_xscale("log", base=2)
            ax.set_xticks(hit["k"], [str(k) for k in hit["k"]])
            ax.minorticks_off()
            ax.set_xlabel("K")
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0)
        handles = left.get_lines()
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3), fontsize=7)
    return Plot("error_split", "Errors of candidates and of selectors by K", data, figure)
