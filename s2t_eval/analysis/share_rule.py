"""The rule of agreement and share: the gain that a selector keeps, expected from Agree@1 and as measured.

The rule expects the share (agree - greedy_agree) / (1 - greedy_agree), from agreement with the teacher at the
steps that fire, on held-out texts that are not generated again: of the steps at which the teacher's selection
changes greedy's token, the net share at which the selector makes the same change. The measured share is that
of right answers: of a run whose selector picks, against the run in which the teacher picks at the same
trigger and rate, a router's of the same folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from s2t_eval.analysis.gain_shares import gain_share
from s2t_eval.analysis.sufficiency import SHADES
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.report.blocks import Entry
from s2t_eval.report.figures import Plot, canvas, interval_arms, number_range
from s2t_eval.statistics import spearman

logger = logging.getLogger(__name__)

SETTINGS = "selector.json"
KEYS = ["checkpoint", "trigger", "tau", "proposer", "proposal_weight", "adapter_scale"]
AGREEMENT = ["agree", "greedy_agree", "steps", "share", "low", "high"]
PLACE = ["student", "benchmark", "n"]
MEASURED = ["gain", "measured", "measured_low", "measured_high"]
SAME_WEIGHTS = "same_weights"
"""Optional column: hashes that a selector's folder had before `choose` changed its default."""
KL = "kl:student_teacher"


def read_agreement(path: Path) -> pd.DataFrame:
    """Agreement by selector, trigger and rate.

    Args:
        path: a selector folder of `s2t-eval train`, or a CSV file with the columns of the result, such as the
            `share_rule.csv` of an earlier analysis.

    Returns:
        Columns selector (name), checkpoint (hash of its folder), trigger, tau, proposer, proposal_weight,
        adapter_scale (1 is the trained adapter), agree, greedy_agree, steps, and the expected share with its
        interval: share, low, high (nan where it is unknown). A folder with a default of `s2t-eval choose` has
        SAME_WEIGHTS too, and a `share_rule.csv` the columns of `measured_shares`.

    Raises:
        ValueError: neither of the two, or a folder without these figures.
    """
    columns = ["selector", *KEYS, *AGREEMENT]
    if path.is_file():
        try:
            table = pd.read_csv(path, dtype={"checkpoint": str})
        except ValueError as error:  # pandas' own, and text that is not UTF-8
            raise ValueError(f"--agreement {path}: it cannot be read as CSV ({error})") from error
        missing = [name for name in columns if name not in table]
        if missing:
            raise ValueError(f"--agreement {path}: it has no column {', '.join(missing)}")
        return table[[*columns, *(name for name in (*PLACE, *MEASURED, SAME_WEIGHTS) if name in table)]]
    try:
        return _of_selector(path)
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--agreement {path}: expected a CSV file, or a selector folder whose {SETTINGS} has figures of "
            "agreement; train it with this version of `s2t-eval train`"
        ) from error


def _of_selector(folder: Path) -> pd.DataFrame:
    """The figures of a selector's folder, in the columns of `read_agreement`."""
    info = read_object(folder / SETTINGS)
    rows = info["training"]["agreement"]
    table = pd.DataFrame(rows, columns=["proposer", "trigger", "tau", "proposal_weight", *AGREEMENT])
    # Folders of earlier versions name no weight in a row; theirs was the selector's.
    weights = np.where(table["proposer"] == "base", info["proposal_weight"], 0.0)
    table = table.assign(
        selector=folder.resolve().name,
        checkpoint=folder_hash(folder),
        trigger=table["trigger"].replace(KL, "kl"),
        **{name: table[name].astype(float) for name in ("share", "low", "high")},
        proposal_weight=table["proposal_weight"].astype(float).fillna(pd.Series(weights)),
        adapter_scale=1.0,
    )[["selector", *KEYS, *AGREEMENT]]
    # A default is part of a folder's hash, so the runs before `choose` name another one.
    folders = sorted({run for default in info["defaults"].values() for run in default.get("runs_of", ())})
    return table.assign(**{SAME_WEIGHTS: " ".join(folders)}) if folders else table


def measured_shares(entries: Sequence[Entry], agreement: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The runs whose selector has known agreement, beside what the rule expects of them.

    A run counts where the same documents were decoded greedily and with the teacher's picks at the same
    trigger, rate, K, warm-up and dtype, by one teacher, and a document has a score in all three. A router's
    steps are those of the selector's own folder: another selector's router fires elsewhere. Rows that were
    measured before are kept, so that several sets of runs share a figure.

    Args:
        entries: the runs.
        agreement: of `read_agreement`.

    Returns:
        Columns student, benchmark, n, the columns of `read_agreement`, gain (points that the teacher's picks
        gain), measured, measured_low, measured_high (shares, 95 % by paired bootstrap, nan for one document).
    """
    table = pd.concat(agreement, ignore_index=True) if agreement else pd.DataFrame(columns=KEYS)
    folders = table[SAME_WEIGHTS].fillna("") if SAME_WEIGHTS in table else ""
    table = table.assign(**{SAME_WEIGHTS: folders})
    is_measured = table["measured"].notna() if "measured" in table else pd.Series(False, index=table.index)
    rows = table[is_measured].to_dict("records")
    table = table.drop(columns=[*PLACE, *MEASURED], errors="ignore")
    for entry in entries:
        settings = entry.run.settings
        if not entry.run.method.selects_locally or settings.tau is None or entry.run.documents is None:
            continue
        scale = 1.0 if settings.adapter_scale is None else settings.adapter_scale
        weights = (settings.proposal_weight or 0.0, scale)
        wanted = (settings.checkpoint, settings.trigger, settings.tau, settings.proposer, *weights)
        known = table[(table[KEYS] == list(wanted)).all(axis=1)]
        kept = None
        if len(known):
            routers = {settings.checkpoint, *" ".join(known[SAME_WEIGHTS]).split()}
            kept = gain_share(entry, entries, partial(_is_same_rule, entry, routers))
            if kept is None:
                logger.warning(
                    "%s: its share of the gain is not measured: it needs a run of the teacher's picks (s2t) "
                    "with trigger=%s, tau=%s and K %s, of one teacher and with the run's warm-up and dtype, "
                    "and greedy's, on the same documents",
                    entry.run.label,
                    settings.trigger,
                    settings.tau,
                    settings.top_k,
                )
        if kept is None:
            continue
        gain = 100 * float((kept.reference - kept.greedy).mean())
        bounds = {"measured_low": kept.interval.low, "measured_high": kept.interval.high}
        measured = {"measured": kept.share, **bounds}
        where = {"student": entry.student, "benchmark": entry.benchmark.title, "n": len(kept.scores)}
        rows.append({**where, **known.iloc[0].to_dict(), "gain": gain, **measured})
    columns = [*PLACE, "selector", *KEYS, *AGREEMENT, *MEASURED]
    has_same = any(row.get(SAME_WEIGHTS) for row in rows)
    return pd.DataFrame(rows, columns=[*columns, SAME_WEIGHTS] if has_same else columns)


def _is_same_rule(one: Entry, routers: Set[str | None], other: Entry) -> bool:
    """Whether another run has the trigger, rate, K and warm-up of one, and a router of these folders."""
    left, right = one.run.settings, other.run.settings
    if left.trigger == "router" and right.checkpoint not in routers:
        return False
    rules = [(s.trigger, s.tau, s.top_k, s.warmup) for s in (left, right)]
    return rules[0] == rules[1]


def share_rule(data: pd.DataFrame) -> Plot | None:
    """Measured share of the gain against the share that the rule expects, a point for each run.

    Args:
        data: of `measured_shares`; further rows with the same columns can be appended.

    Returns:
        The same rows with `is_within` (whether the intervals of expected and measured share overlap; a share
        without an interval is a point); None without rows.
    """
    data = data.dropna(subset=["share", "measured"]) if len(data) else data
    if not len(data):
        return None
    data = data.reset_index(drop=True)
    low, high = (data[name].fillna(data["share"]) for name in ("low", "high"))
    measured_low, measured_high = (
        data[name].fillna(data["measured"]) for name in ("measured_low", "measured_high")
    )
    data["is_within"] = (low <= measured_high) & (measured_low <= high)
    with canvas(5.2, 4.6) as (figure, [ax]):
        for shade, ((student, trigger), part) in zip(
            SHADES * 4, data.groupby(["student", "trigger"], sort=False), strict=False
        ):
            x, y = 100 * part["share"], 100 * part["measured"]
            x_error = interval_arms(x, 100 * part["low"], 100 * part["high"])
            y_error = interval_arms(y, 100 * part["measured_low"], 100 * part["measured_high"])
            label = f"{student}, {trigger} (n = {number_range(part['n'])})"
            ax.errorbar(x, y, y_error, x_error, fmt="o", color=shade, capsize=2, linewidth=0.8, label=label)
        ends = [min(0, 100 * data["share"].min()), 100]
        ax.plot(ends, ends, color="#888888", linewidth=0.8, linestyle=":")
        ax.set_xlabel("expected from agreement with the teacher, % (95 %)")
        ax.set_ylabel("share of the gain in right answers, % (95 %)")
        ax.set_title(summary(data), fontsize=8, wrap=True)
        ax.legend(fontsize=7)
    return Plot("share_rule", "Share of the gain kept, expected from Agree@1 and measured", data, figure)


def summary(data: pd.DataFrame) -> str:
    """One sentence that says how well the rule fits: differences in points, and Spearman's correlation."""
    difference = 100 * (data["measured"] - data["share"])
    within = int(data["is_within"].sum())
    text = (
        f"The intervals overlap at {within} of {len(data)} points; the measured share differs from the "
        f"expected one by {difference.mean():+.0f} points on average, by {difference.abs().max():.0f} at most"
    )
    rho = spearman(data["share"].tolist(), data["measured"].tolist()) if len(data) > 2 else np.nan
    return text + (f"; rank correlation {rho:.2f}." if rho == rho else ".")
