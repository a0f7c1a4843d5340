"""K scan and tau scan from all runs that fire, and takeover against selection at equal triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s2t_eval.report.blocks import Entry
from s2t_eval.report.cells import accuracy
from s2t_eval.report.comparable import NoSharedScoreError
from s2t_eval.report.compare import compare_pair
from s2t_eval.report.controls import control_of
from s2t_eval.report.costs import num_answers
from s2t_eval.report.figures import Plot, benchmark_labels, canvas, colour, interval_arms, number_range
from s2t_eval.report.origin import dtype_of, teacher_dtype_of
from s2t_eval.report.run import Run, Settings
from s2t_eval.statistics import holm, wilson

ACCURACY = ("accuracy", "low", "high")
HIT_RATE = ("hit_rate", "hit_low", "hit_high")
"""Columns of the figure in a panel, with its interval."""
APART = (
    *("proposer", "proposal_weight", "adapter_scale", "warmup", "seed"),
    *("student_hash", "teacher_hash", "selector_hash", "dtype", "router_hash"),
)
"""Columns in which runs of equal methods, triggers, K and tau may differ: they are on lines of their own."""


def scan_data(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each run that can fire: its settings, accuracy (percent, 95 %), rates and hit rate.

    Columns: student, benchmark, method, method_key, trigger, k, tau (nan where a threshold was given),
    threshold, n, accuracy, low, high, realised_rate, flip_rate (percent of tokens), tokens (per problem),
    APART (None where one does not apply), teacher_picks (fired steps at which a teacher picked), and the
    share of them at which the teacher's own token was among the K: hit_rate, hit_low, hit_high (percent,
    95 %, steps taken as independent; nan where no teacher picks).
    """
    rows = []
    for entry in entries:
        run, settings = entry.run, entry.run.settings
        if not run.method.fires or settings.trigger is None:
            continue
        score = accuracy(run)
        rates = [100 * run.cost.get(name, float("nan")) for name in ("realised_rate", "flip_rate")]
        where = (entry.student, entry.benchmark.title, run.method.title, run.method.key)
        rule = (settings.trigger, settings.top_k, settings.tau, settings.threshold)
        percents = [100 * fraction for fraction in (score.value, *score.interval)]
        numbers = (score.n, *percents, *rates)
        answers = num_answers(run)
        tokens = run.cost.get("tokens", float("nan")) / answers if answers else float("nan")
        rows.append((*where, *rule, *numbers, tokens, *_apart(run), *_hits(run.cost)))
    names = "student benchmark method method_key trigger k tau threshold n accuracy low high".split()
    names += ["realised_rate", "flip_rate", "tokens", *APART, "teacher_picks", *HIT_RATE]
    return pd.DataFrame(rows, columns=names)


def _apart(run: Run) -> tuple[object, ...]:
    """The values of APART."""
    settings, info = run.settings, run.backend_info
    hashes = (info.get("student"), info.get("teacher"), info.get("selector"))
    of_steps = (settings.proposer, settings.proposal_weight, settings.adapter_scale, settings.warmup)
    dtype, teacher_dtype = dtype_of(run), teacher_dtype_of(run)
    dtypes = dtype if teacher_dtype == dtype else f"{dtype}, teacher {teacher_dtype}"
    return (*of_steps, settings.seed, *hashes, dtypes, info.get("router"))


def _hits(cost: Mapping[str, Any]) -> tuple[float, ...]:
    """Steps at which a teacher picked, and the rate (percent, 95 %) at which its token was a candidate."""
    hits = cost.get("hits", 0)
    picks = hits + cost.get("misses", 0)
    if not picks:
        return 0, *[float("nan")] * 3
    return picks, *(100 * rate for rate in (hits / picks, *wilson(hits, picks)))


def k_scan(entries: Sequence[Entry]) -> Plot | None:
    """Accuracy and hit rate over K, by method, trigger, tau and APART; None where no line has two points."""
    return _scan(entries, "k", ["tau", "trigger"], "K, candidates")


def tau_scan(entries: Sequence[Entry]) -> Plot | None:
    """Accuracy and hit rate over the realised rate of fired steps, by method, trigger, K and APART."""
    return _scan(entries, "tau", ["k", "trigger"], "fired steps, % of tokens")


def _scan(entries: Sequence[Entry], axis: str, fixed: Sequence[str], label: str) -> Plot | None:
    data = scan_data(entries)
    if axis == "tau":
        data = _with_every_step(data)
    # With a rate, a threshold is what a calibration measured for it.
    data = data.assign(given_threshold=data["threshold"].where(data["tau"].isna() & (axis == "k")))
    keys = ["student", "benchmark", "method", "method_key", *fixed, "given_threshold"]
    lines = [
        part
        for _, part in data.groupby([*keys, *APART], sort=False, dropna=False)
        if part[axis].nunique() > 1
    ]
    if not lines:
        return None
    kept = pd.concat(lines)
    by_label = kept.groupby(keys, dropna=False)
    apart = [name for name in APART if by_label[name].nunique(dropna=False).max() > 1]
    keys += apart
    kept = kept.sort_values([*keys, axis], ignore_index=True)
    parts = list(kept.groupby(["student", "benchmark"], sort=False))
    with_hits = [(where, part.dropna(subset="hit_rate")) for where, part in parts]
    hits = [(where, part) for where, part in with_hits if len(part) > 1]
    panels = [(*part, ACCURACY) for part in parts] + [(*part, HIT_RATE) for part in hits]
    with canvas(4.6 * len(panels), 3.6, len(panels)) as (figure, axes):
        for ax, ((student, benchmark), part, columns) in zip(axes, panels, strict=True):
            _lines(ax, part, axis, keys[2:], columns)
            documents = f"n = {number_range(part['n'])}" if columns is ACCURACY else "fired steps"
            for name, value in controls(entries, student, benchmark) if columns is ACCURACY else []:
                ax.axhline(100 * value, color=colour("greedy"), linestyle=":", linewidth=0.9)
                at = (1, 100 * value), (-3, 2), ("axes fraction", "data"), "offset points"
                ax.annotate(name, *at, fontsize=7, ha="right")
            ax.set_title(f"{student}, {benchmark}, {documents}", fontsize=9)
            ax.set_xlabel(label)
            ax.set_ylabel(
                "correct, %" if columns is ACCURACY else "teacher's token among the K candidates, %"
            )
            ax.legend(fontsize=7)
    title = {"k": "K scan", "tau": "tau scan"}[axis]
    figures = "accuracy and hit rate" if hits else "accuracy"
    unneeded = ["given_threshold", *(name for name in APART if name not in apart)]
    return Plot(
        f"{axis}_scan", f"{title}: {figures} with 95 % intervals", kept.drop(columns=unneeded), figure
    )


def _with_every_step(data: pd.DataFrame) -> pd.DataFrame:
    """Adds runs that fire at every step to the line of each trigger, whatever its router, at tau 1."""
    every = data[data["trigger"] == "always"].assign(tau=1.0)
    of_trigger = ["trigger", "router_hash"]
    same = ["student", "benchmark", "method_key", "k", *(name for name in APART if name not in of_trigger)]
    triggers = data.loc[data["trigger"] != "always", [*same, *of_trigger]].drop_duplicates()
    ends = every.drop(columns=of_trigger).merge(triggers, on=same)[data.columns]
    return pd.concat([data[data["trigger"] != "always"], ends], ignore_index=True) if len(ends) else data


def controls(entries: Sequence[Entry], student: str, benchmark: str) -> list[tuple[str, float]]:
    """Name and score (a fraction) of the greedy runs of the students whose scans a panel shows."""
    scanned = [e for e in entries if (e.student, e.benchmark.title) == (student, benchmark)]
    scanned = [e for e in scanned if e.run.method.fires]
    found = {id(c): c for e in scanned if (c := control_of(e, entries)) is not None}
    return [("greedy" if len(found) == 1 else c.label, c.run.value) for c in found.values()]


def _lines(
    ax: Axes,
    data: pd.DataFrame,
    axis: str,
    keys: Sequence[str],
    columns: tuple[str, str, str],
) -> None:
    marks = iter("osD^vP*X" * 4)
    for _, part in data.groupby(list(keys), sort=False, dropna=False):
        part = part if axis == "k" else part.sort_values("realised_rate")
        first = part.iloc[0]
        x = part["k"] if axis == "k" else part["realised_rate"]
        value, low, high = (part[column] for column in columns)
        rule = _rule(first["trigger"], first["tau"], first["threshold"])
        fixed = f"{first['trigger']}, K {first['k']:g}" if axis == "tau" else rule
        shade, mark = colour(str(first["method_key"])), next(marks)
        apart = [name for name in keys if name in APART and not pd.isna(first[name])]
        named = [f"{name.removesuffix('_hash')} {first[name]}" for name in apart]
        label = ", ".join([f"{first['method']}, {fixed}", *named])
        arms = interval_arms(value, low, high)
        ax.errorbar(x, value, yerr=arms, fmt=f"{mark}-", color=shade, capsize=2, label=label)
    ax.set_xscale("log", base=2 if axis == "k" else 10)
    if axis == "k":
        ticks = sorted(data["k"].unique())
    else:
        lowest, highest = data["realised_rate"].min(), data["realised_rate"].max()
        ticks = [
            rate for rate in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lowest / 2 < rate < highest * 2
        ]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _rule(trigger: str, tau: float | None, threshold: float | None) -> str:
    """A trigger with its rate, or with the threshold that was given instead, as in labels."""
    rate, given = (None if pd.isna(number) else number for number in (tau, threshold))
    parts = Settings(trigger, tau=rate, threshold=given).parts()
    return ", ".join(parts[name] for name in ("trigger", "rate") if name in parts)


def takeover_against_selection(entries: Sequence[Entry]) -> Plot | None:
    """Takeover against selection at equal triggers, thresholds, models and documents.

    Takeover has no candidates: of several runs that differ in K alone, the first is compared with the
    selection of every K.

    Returns:
        Columns student, benchmark, trigger, tau, threshold, k (of the selection), n, selection, takeover
        (percent), delta (points, takeover minus selection), low, high, won, lost, p (`paired_p`), p_holm;
        None without a pair that shares a scored document.
    """
    rows = _takeover_rows(entries)
    if not rows:
        return None
    names = "student benchmark trigger tau threshold k n selection takeover delta low high won lost p".split()
    data = pd.DataFrame(rows, columns=names)
    data["p_holm"] = holm(data["p"].tolist())
    return Plot("takeover", "Takeover against selection at equal triggers", data, _takeover_figure(data))


def _takeover_rows(entries: Sequence[Entry]) -> list[tuple[object, ...]]:
    """Each run of takeover paired with each of selection that differs from it in K alone."""
    rows: list[tuple[object, ...]] = []
    takeovers: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        if entry.run.method.key == "takeover" and entry.run.documents is not None:
            takeovers.setdefault((entry.student, entry.benchmark, _without_k(entry.run)), entry)
    for entry in takeovers.values():
        settings = entry.run.settings
        rule = (settings.trigger, settings.tau, settings.threshold)
        for other in entry.beside(entries):
            if other.run.method.key != "s2t" or _without_k(other.run) != _without_k(entry.run):
                continue
            try:
                pair = compare_pair(other.run, entry.run)
            except NoSharedScoreError:
                continue
            scores = (100 * pair.base_score, 100 * pair.new_score, 100 * pair.delta)
            bounds = (100 * pair.interval.low, 100 * pair.interval.high)
            won_lost = (len(pair.won), len(pair.lost), pair.p)
            where = (entry.student, entry.benchmark.title, *rule, other.run.settings.top_k)
            rows.append((*where, pair.n, *scores, *bounds, *won_lost))
    return rows


def _takeover_figure(data: pd.DataFrame) -> Figure:
    """The difference of each pair with its interval, a line each."""
    with canvas(6.0, 1.2 + 0.45 * len(data)) as (figure, [ax]):
        for at, row in enumerate(data.itertuples(index=False)):
            arms = interval_arms(row.delta, row.low, row.high)
            ax.errorbar(row.delta, at, xerr=arms, fmt="o", color=colour("takeover"), capsize=2)
            text = f"{row.delta:+.1f} (won {row.won}, lost {row.lost})"
            ax.annotate(text, (row.delta, at), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set_yticks(range(len(data)), _takeover_labels(data))
        ax.set_ylim(len(data) - 0.4, -0.8)
        ax.axvline(0, color="#888888", linewidth=0.8)
        ax.set_xlabel("takeover minus selection, points (95 %)")
        ax.grid(axis="y", visible=False)
    return figure


def _takeover_labels(data: pd.DataFrame) -> list[str]:
    """A label for each pair: with its student where the pairs have several."""
    return [
        f"{benchmark}\n{_rule(row.trigger, row.tau, row.threshold)}, K {row.k}"
        for row, benchmark in zip(data.itertuples(index=False), benchmark_labels(data), strict=True)
    ]


def _without_k(run: Run) -> tuple[object, ...]:
    """What is equal in a selection and a takeover that differ in the tokens of fired steps alone."""
    settings = run.settings
    return (settings.trigger, settings.tau, settings.threshold, *_apart(run))
