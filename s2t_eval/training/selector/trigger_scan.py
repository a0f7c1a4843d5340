"""Decoding defaults of a selector: the trigger, the rate and the weights with the largest held-out gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2t_eval.methods.selector_adapter import scale_adapter
from s2t_eval.methods.selector_info import ProposerDefault, SelectorInfo
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.loop import autocast
from s2t_eval.training.selector.agreement import PROPOSAL_WEIGHTS, gains, proposed_by_tuned, score_items
from s2t_eval.training.selector.items import Item, make_items
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.routing import Routing

ADAPTER_SCALES = (1.0, 0.7, 0.5)
UNMEASURED = ProposerDefault("router", 0.05, "not measured")
UNMEASURED_WITHOUT_ROUTER = ProposerDefault("margin", 0.05, "not measured")


class ScanResult(NamedTuple):
    """The best trigger, rate and proposal weight of a proposer, and the gain of every combination."""

    default: ProposerDefault
    proposal_weight: float
    scan: dict[str, float]
    """mean gain a text, nats, keyed by trigger and tau, and by the weight where it is not 0"""


def with_defaults(
    info: SelectorInfo,
    model: SelectorModel,
    labels: LabelSet,
    choosing: Sequence[Trajectory],
    top_k: int,
    routings: Mapping[str, Routing],
    precision: str,
) -> SelectorInfo:
    """Add a default for each of these proposers, and the scan that it was chosen by.

    Without labels at every step the gain outside the top tau is unknown; the default is then the router at
    tau 5 %, or the margin where there is no router, and the proposal weight that of the evaluation by which
    the checkpoint was kept.

    Args:
        info: the selector's manifest.
        model: the trained selector.
        labels: its label set.
        choosing: the held-out texts of that set by which is chosen.
        top_k: K in decoding.
        routings: proposer -> its router and thresholds.
        precision: as in `LoopSettings`.
    """
    if labels.manifest.steps != "all":
        has_router = {proposer: routing.router is not None for proposer, routing in routings.items()}
        return with_unmeasured_defaults(info, has_router)
    items = all_step_items(choosing, top_k)
    common = common_scores(model, items, precision)
    results: dict[str, ScanResult] = {
        proposer: scan_triggers(model, items, len(choosing), proposer, routing, precision, common)
        for proposer, routing in routings.items()
    }
    scans = {**info.training.get("scan", {}), **{key: result.scan for key, result in results.items()}}
    training = {**info.training, "scan": scans}
    defaults = {**info.defaults, **{key: result.default for key, result in results.items()}}
    info = replace(info, defaults=defaults, training=training)
    if "base" in results:
        info = replace(info, proposal_weight=results["base"].proposal_weight)
    return info


def with_adapter_scale(
    info: SelectorInfo,
    model: SelectorModel,
    labels: LabelSet,
    choosing: Sequence[Trajectory],
    precision: str,
) -> SelectorInfo:
    """Add the factor of the adapter under proposer `tuned` with the largest gain, and the gain of each.

    Nothing is added for a form that looks ahead, or without labels at every step.

    Args:
        info: the selector's manifest.
        model: the trained selector.
        labels: its label set.
        choosing: the held-out texts of that set by which is chosen.
        precision: as in `LoopSettings`.
    """
    if labels.manifest.steps != "all" or model.settings.looks_ahead:
        return info
    scales = scan_scales(model, all_step_items(choosing, info.top_k), len(choosing), precision)
    best = float(max(scales, key=scales.__getitem__))
    return replace(info, adapter_scale=best, training={**info.training, "adapter_scales": scales})


def with_unmeasured_defaults(info: SelectorInfo, has_router: Mapping[str, bool]) -> SelectorInfo:
    """Add defaults that need no labels outside of the top steps; see `with_defaults`.

    Args:
        info: the selector's manifest.
        has_router: proposer -> whether it has a router.
    """
    unmeasured = {
        proposer: UNMEASURED if is_trained else UNMEASURED_WITHOUT_ROUTER
        for proposer, is_trained in has_router.items()
    }
    info = replace(info, defaults={**info.defaults, **unmeasured})
    # Folders of earlier versions do not record the weight of the evaluation that was kept.
    weight = info.training.get("choosing", {}).get("proposal_weight")
    return info if weight is None or "base" not in has_router else replace(info, proposal_weight=weight)


def scan_triggers(
    model: SelectorModel,
    items: Sequence[Item],
    num_texts: int,
    proposer: str,
    routing: Routing,
    precision: str = "no",
    common: Tensor | None = None,
) -> ScanResult:
    """Find the local trigger, rate and proposal weight with the largest gain on held-out texts.

    The scanned triggers include one that fires at every step. The gain of a step is the teacher's
    log-probability of the selected token minus that of the plain student's argmax token, in nats; a
    selector that changes correct tokens at low-KL steps loses there. Where the trigger does not fire,
    `base` emits the student's argmax token and `tuned` the adapted model's own. Only labelled tokens, the
    student's first K, count as `tuned`'s. Ties go to the first: firing at every step, then the smallest
    rate.

    Args:
        model: the trained selector.
        items: all steps of the held-out texts, with the candidates of decoding; see `all_step_items`.
        num_texts: number of held-out texts.
        proposer: the model that generates, `base` or `tuned`.
        routing: router and thresholds of this proposer.
        precision: as in `LoopSettings`.
        common: `common_scores` of these items, where they are known already.
    """
    scores, unfired_gains = scores_and_unfired_gains(model, items, proposer, precision, common)
    divergences = routing.table.divergences(routing.router)
    scan: dict[str, float] = {}
    best, best_weight = "", 0.0
    for weight in PROPOSAL_WEIGHTS if proposer == "base" else (0.0,):
        fired_gains = gains(scores, items, weight)
        mean_gains = {"always": float(fired_gains.sum() / num_texts)}
        for name, values in divergences.items():
            for tau, threshold in routing.thresholds[name].items():
                step_gains = np.where(values > threshold, fired_gains, unfired_gains)
                mean_gains[f"{name}@{tau}"] = float(step_gains.sum() / num_texts)
        best_of_weight = max(mean_gains, key=mean_gains.__getitem__)
        if not best or mean_gains[best_of_weight] > max(scan.values()):
            best, best_weight = best_of_weight, weight
        scan.update({f"{name}+{weight}" if weight else name: gain for name, gain in mean_gains.items()})
    trigger, _, tau = best.partition("@")
    default = ProposerDefault(trigger, float(tau) if tau else None, "held-out gain")
    return ScanResult(default, best_weight, scan)


def common_scores(model: SelectorModel, items: Sequence[Item], precision: str) -> Tensor | None:
    """The scores of all items' groups that every proposer has, [groups, K]; None where each has its own.

    Those of the form `lookahead` are read behind the candidates, whoever proposed them. The form `residual`
    adds the proposer's log-probability, and `direct` selects under proposer `base` alone.
    """
    return held_out_scores(model, items, precision) if model.settings.form == "lookahead" else None


def scores_and_unfired_gains(
    model: SelectorModel,
    items: Sequence[Item],
    proposer: str,
    precision: str,
    common: Tensor | None = None,
) -> tuple[Tensor, np.ndarray]:
    """Scores under this proposer [groups, K], and the gain of its own token where no step fires [groups].

    Args:
        model: the trained selector.
        items: their groups are scored.
        proposer: the model that generates, `base` or `tuned`.
        precision: as in `LoopSettings`.
        common: `common_scores` of these items, where they are known already.
    """
    if proposer == "base":
        scores = held_out_scores(model, items, precision) if common is None else common
        return scores, np.zeros(len(scores))
    model.eval()
    with autocast(precision, model.readout.device):
        proposed = proposed_by_tuned(model, items)
    logits = torch.cat([item.student_log_probs for item in proposed])
    scores = held_out_scores(model, proposed, precision) if common is None else common
    return scores, gains(logits, items)


def scan_scales(
    model: SelectorModel, items: Sequence[Item], num_texts: int, precision: str = "no"
) -> dict[str, float]:
    """Mean gain a text, nats, of selecting at every step, by the scale of the adapter (form `direct`).

    The scale is set back to 1 afterwards.
    """
    mean_gains: dict[str, float] = {}
    for scale in ADAPTER_SCALES:
        scale_adapter(model.peft, scale)
        gain = gains(held_out_scores(model, items, precision), items)
        mean_gains[str(scale)] = float(gain.sum()) / num_texts
    scale_adapter(model.peft, 1.0)
    return mean_gains


def all_step_items(trajectories: Sequence[Trajectory], num_candidates: int) -> list[Item]:
    """Items of all steps, with this many candidates each."""
    return make_items(trajectories, num_candidates, -np.inf)


def held_out_scores(model: SelectorModel, items: Sequence[Item], precision: str) -> Tensor:
    """Scores of all items' groups, [groups, K], in the precision of training."""
    model.eval()
    with autocast(precision, model.readout.device):
        return torch.cat(score_items(model, items))
