"""The figures of a finished selector, on the half of the held-out texts on which nothing was chosen.

Candidates are ranked exactly as in decoding: by the proposer's own scores, with the selector's
`proposal_weight` under proposer `base`. The figures of the top steps are of proposer `base`; for a form that
looks ahead, `tuned_agree@1` is the agreement there by the rule of proposer `tuned`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2t_eval.methods.selector_info import SelectorInfo
from s2t_eval.statistics import paired_bootstrap, share_of_gain
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.loop import autocast
from s2t_eval.training.selector.agreement import agreement_of, gains, ranking_scores, tuned_agreement
from s2t_eval.training.selector.items import Item, make_items
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.routing import Routing, all_divergences
from s2t_eval.training.selector.trigger_scan import (
    all_step_items,
    common_scores,
    held_out_scores,
    scores_and_unfired_gains,
)

RESAMPLES = 2000
"""Resamples of the interval of each expected share; there are dozens of them in a folder."""
KL = "kl:student_teacher"


class Agreement(NamedTuple):
    """Agreement with the teacher at the steps that one trigger fires at.

    Args:
        proposer: `base` or `tuned`.
        trigger: its key, as in the thresholds.
        tau: its rate.
        steps: number of steps that fire, at which agreement is measured.
        agree: share of them at which the selector picks the teacher's best candidate.
        greedy_agree: share at which the student's own token is that candidate.
        share: (agree - greedy_agree) / (1 - greedy_agree), the share of the teacher's gain that the rule of
            `analysis.share_rule` expects; None where greedy always agrees.
        low, high: its 95 % interval by bootstrap over texts; None where the share is None, and of one text.
        proposal_weight: with which the candidates were ranked; 0 under proposer `tuned`.
    """

    proposer: str
    trigger: str
    tau: float
    steps: int
    agree: float
    greedy_agree: float
    share: float | None
    low: float | None
    high: float | None
    proposal_weight: float


def with_reported_figures(
    info: SelectorInfo,
    model: SelectorModel,
    labels: LabelSet,
    reported: Sequence[Trajectory],
    routings: Mapping[str, Routing],
    precision: str,
) -> SelectorInfo:
    """Add `held_out` and `agreement` to the record of training; those of other proposers are kept.

    Args:
        info: the selector's manifest, with every choice made.
        model: the trained selector.
        labels: its label set.
        reported: the reported half of the held-out texts.
        routings: proposer -> its router and thresholds.
        precision: as in `LoopSettings`.
    """
    top_items = make_items(reported, info.top_k, labels.manifest.kl_threshold)
    scores = held_out_scores(model, top_items, precision) if top_items else torch.zeros(0, info.top_k)
    figures = agreement_of([scores], top_items, model.settings, info.proposal_weight)
    if top_items and model.settings.looks_ahead:
        with autocast(precision, model.readout.device):
            figures["tuned_agree@1"] = tuned_agreement(model, top_items, [scores])
    rows: list[Agreement] = []
    if labels.manifest.steps == "all":
        items = all_step_items(reported, info.top_k)
        common = common_scores(model, items, precision)
        for proposer, routing in routings.items():
            ranking = common
            if ranking is None:
                ranking, _ = scores_and_unfired_gains(model, items, proposer, precision)
            if proposer == "base":
                ranking = ranking_scores(ranking, items, info.proposal_weight)
                figures.update(_gain(info, ranking, items, routing, reported))
            rows += _by_trigger(info, proposer, ranking, items, routing, reported)
    elif top_items:
        ranking = ranking_scores(scores, top_items, info.proposal_weight)
        is_fired = np.ones(len(ranking), dtype=bool)
        weight = info.proposal_weight
        rows.append(agreement_at("base", KL, labels.manifest.tau, ranking, top_items, is_fired, weight))
    measured = {row.proposer for row in rows}
    others = [row for row in info.training.get("agreement", []) if row["proposer"] not in measured]
    record = {
        "held_out": {**info.training.get("held_out", {}), **figures},
        "held_out_weight": info.proposal_weight,
        "agreement": [*others, *(row._asdict() for row in rows)],
    }
    return replace(info, training={**info.training, **record})


def _by_trigger(
    info: SelectorInfo,
    proposer: str,
    ranking: Tensor,
    items: Sequence[Item],
    routing: Routing,
    reported: Sequence[Trajectory],
) -> list[Agreement]:
    """A row for each trigger and rate that fires at any step, with the thresholds that decode."""
    divergences = all_divergences(routing.reported, routing.router, reported)
    weight = info.proposal_weight if proposer == "base" else 0.0
    rows = []
    for key, thresholds in info.thresholds[proposer].items():
        for tau, threshold in thresholds.items():
            is_fired = divergences[key] > threshold
            if is_fired.any():
                rows.append(agreement_at(proposer, key, float(tau), ranking, items, is_fired, weight))
    return rows


def agreement_at(
    proposer: str,
    key: str,
    tau: float,
    ranking: Tensor,
    items: Sequence[Item],
    is_fired: np.ndarray,
    proposal_weight: float,
) -> Agreement:
    """Agreement at the groups that fire, with the share that the rule expects and its interval over texts.

    Args:
        proposer, key, tau: who proposes, and the trigger, as in `Agreement`.
        ranking: the scores by which decoding ranks, [groups, K].
        items: the groups of each text.
        is_fired: whether a group's step fires, at least one does, [groups].
        proposal_weight: with which the scores were made.
    """
    best = torch.cat([item.teacher_log_probs for item in items]).argmax(-1)
    agrees = (ranking.argmax(-1) == best).numpy() & is_fired
    greedy_agrees = (best == 0).numpy() & is_fired
    steps = int(is_fired.sum())
    by_text = [_by_text(flags, items) for flags in (agrees, is_fired, greedy_agrees)]
    expected, interval = share_of_gain(by_text[0], by_text[1], by_text[2], resamples=RESAMPLES)
    share, low, high = (None if math.isnan(value) else value for value in (expected, *interval))
    agree, greedy_agree = float(agrees.sum() / steps), float(greedy_agrees.sum() / steps)
    return Agreement(proposer, key, tau, steps, agree, greedy_agree, share, low, high, proposal_weight)


def _by_text(values: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """Sums over each text's groups, [items]."""
    ends = np.cumsum([len(item.steps) for item in items])[:-1]
    return np.array([part.sum() for part in np.split(values, ends)], dtype=np.float64)


def _gain(
    info: SelectorInfo,
    ranking: Tensor,
    items: Sequence[Item],
    routing: Routing,
    reported: Sequence[Trajectory],
) -> dict[str, Any]:
    """Nats a text that the default rule of proposer `base` gains, with its interval over texts."""
    default = info.default("base")
    step_gains = gains(ranking, items)
    if default.trigger != "always":
        threshold = info.thresholds["base"][default.trigger][str(default.tau)]
        divergence = all_divergences(routing.reported, routing.router, reported)[default.trigger]
        step_gains = np.where(divergence > threshold, step_gains, 0.0)
    by_text = _by_text(step_gains, items)
    low, high = paired_bootstrap(by_text, np.zeros(len(by_text)), resamples=RESAMPLES)
    bounds = {} if math.isnan(low) else {"gain_low": low, "gain_high": high}
    return {"gain": float(by_text.mean()), **bounds}
