"""What a selector needs under each proposer: a router, thresholds, and the default that gains most.

Under `base` the plain student writes, under `tuned` the adapted one. Everything is measured on held-out
texts of the plain student, whose steps the labels hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from s2t_eval.engine import ModelRunner
from s2t_eval.methods.selector_folder import ProposerDefault, adapter_on, scale_adapter
from s2t_eval.selection.router import Router
from s2t_eval.selection.thresholds import Rates, measure_thresholds
from s2t_eval.training.labels import Trajectory
from s2t_eval.training.loop import LoopSettings, autocast
from s2t_eval.training.router import StepTable, tabulate, train_router
from s2t_eval.training.selector.agreement import gains, own_logits, score_items
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.packing import Item, make_items
from s2t_eval.training.student import Student
from s2t_eval.training.trigger_recall import trigger_report

SCANNED_TAUS = (0.01, 0.05, 0.1, 0.2, 0.5)
PROPOSAL_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
ADAPTER_SCALES = (1.0, 0.7, 0.5)
UNMEASURED = ProposerDefault("router", 0.05, "not measured")
ROUTER_LOOP = LoopSettings(
    epochs=20, lr=1e-3, batch_size=4, accumulate=1, weight_decay=0.05, evaluations=1, patience=5
)


class Routing(NamedTuple):
    """A proposer's router, and what its steps look like."""

    router: Router
    thresholds: Rates
    table: StepTable
    """of the held-out texts"""

    def report(self) -> dict[str, dict[str, float]]:
        """How well each trigger finds the steps where the teacher diverges."""
        return trigger_report(self.table.divergences(self.router), self.table.all_kl.numpy())


class Scanned(NamedTuple):
    """The best of all triggers, rates and weights of a proposer, and the gain of each."""

    default: ProposerDefault
    proposal_weight: float
    scan: dict[str, float]
    """mean gain a text, nats, by trigger and tau, and by weight where it is not 0"""


def make_routing(
    student: Student,
    peft: PeftModel,
    proposer: str,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    folder: Path,
    identity: Mapping[str, Any],
    known: Router | None = None,
) -> Routing:
    """Train a proposer's router, unless it is known, and measure the thresholds of all triggers.

    Args:
        student: with the adapter inside its layers.
        peft: the adapter.
        proposer: whose steps the router will see.
        train: texts to learn from.
        held_out: texts to measure on.
        folder: where checkpoints lie meanwhile.
        identity: what the run is made of; a resumed run must have the same.
        known: a router that was trained on these texts before.
    """
    layers: Any = peft.base_model
    student.model.eval()
    layers.disable_adapter_layers()
    model = ModelRunner(student.model, student.name, student.text_vocab)
    has_written = proposer == "base"
    with adapter_on(peft) if proposer == "tuned" else nullcontext():
        checked = tabulate(model, held_out, has_written)
        table = None if known is not None else tabulate(model, train, has_written)
    layers.enable_adapter_layers()
    if table is None:
        assert known is not None
        router = known.to(model.device)
    else:
        # Large sets take larger batches: a few hundred steps an epoch are enough for so small a network.
        loop = replace(ROUTER_LOOP, batch_size=max(ROUTER_LOOP.batch_size, len(train) // 400))
        identity = {**identity, "proposer": proposer}
        router, _ = train_router(table, checked, loop, folder, identity, model.device)
    return Routing(router, _thresholds(checked, router, held_out), checked)


def _thresholds(table: StepTable, router: Router, held_out: Sequence[Trajectory]) -> Rates:
    divergences = dict(table.divergences(router))
    for direction in ("student_teacher", "teacher_student"):
        divergences[f"kl:{direction}"] = np.concatenate([getattr(row, f"kl_{direction}") for row in held_out])
    return measure_thresholds({key: values.tolist() for key, values in divergences.items()}, SCANNED_TAUS)


def scan_triggers(
    model: SelectorModel,
    items: Sequence[Item],
    num_texts: int,
    proposer: str,
    routing: Routing,
    precision: str = "no",
) -> Scanned:
    """The local trigger, rate and share of the proposer's own with the largest gain on held-out texts.

    Triggers go up to firing at every step. The gain of a step is the teacher's log-probability of the token
    that is taken minus that of the plain student's first token, in nats; a selector that harms quiet steps
    loses there. Where the trigger does not fire, `base` takes the student's first token and `tuned` the
    adapted model's own. Only tokens that the labels hold, the student's first K, count as `tuned`'s.
    Of equal ones the first counts: firing at every step, then the smallest rate.

    Args:
        model: the trained selector.
        items: all steps of the held-out texts, with the candidates of decoding; see `every_step`.
        num_texts: how many texts they are of.
        proposer: who writes.
        routing: the proposer's.
        precision: the loop's.
    """
    scores, unfired = _scores_and_unfired(model, items, proposer, precision)
    divergences = routing.table.divergences(routing.router)
    scan: dict[str, float] = {}
    best, weight_of_best = "", 0.0
    for weight in PROPOSAL_WEIGHTS if proposer == "base" else (0.0,):
        gain = gains(scores, items, weight)
        found = {"always": float(gain.sum() / num_texts)}
        for name, values in divergences.items():
            for tau, threshold in routing.thresholds[name].items():
                taken = np.where(values > threshold, gain, unfired)
                found[f"{name}@{tau}"] = float(taken.sum() / num_texts)
        best_here = max(found, key=lambda name: found[name])
        if not best or found[best_here] > max(scan.values()):
            best, weight_of_best = best_here, weight
        scan.update({f"{name}+{weight}" if weight else name: value for name, value in found.items()})
    trigger, _, tau = best.partition("@")
    default = ProposerDefault(trigger, float(tau) if tau else None, "held-out gain")
    return Scanned(default, weight_of_best, scan)


def _scores_and_unfired(
    model: SelectorModel, items: Sequence[Item], proposer: str, precision: str
) -> tuple[Tensor, np.ndarray]:
    """Scores under this proposer [groups, K], and what its own token gains where no step fires [groups]."""
    scores = held_out_scores(model, items, precision)
    if proposer == "base":
        return scores, np.zeros(len(scores))
    if not model.settings.looks_ahead:  # the scores are the adapted model's own logits
        return scores, gains(scores, items)
    own = _own_logits(model, items, precision)
    sizes = [len(item.steps) for item in items]
    proposed = [
        replace(item, student_log_probs=logits) for item, logits in zip(items, own.split(sizes), strict=True)
    ]
    return held_out_scores(model, proposed, precision), gains(own, items)


def scan_scales(
    model: SelectorModel, items: Sequence[Item], num_texts: int, precision: str = "no"
) -> dict[str, float]:
    """What picks at every step gain a text, nats, by how much of the adapter is added (form `direct`).

    The adapter is whole again afterwards.
    """
    found: dict[str, float] = {}
    for scale in ADAPTER_SCALES:
        scale_adapter(model.peft, scale)
        gain = gains(held_out_scores(model, items, precision), items)
        found[str(scale)] = float(gain.sum()) / num_texts
    scale_adapter(model.peft, 1.0)
    return found


def every_step(trajectories: Sequence[Trajectory], num_candidates: int) -> list[Item]:
    """Items of all steps, with so many candidates."""
    return make_items(trajectories, num_candidates, -np.inf)


def held_out_scores(model: SelectorModel, items: Sequence[Item], precision: str) -> Tensor:
    """Scores of all items' groups, [groups, K], as the loop's precision has them."""
    model.eval()
    with autocast(precision, model.readout.device):
        return torch.cat(score_items(model, items, 1))


def _own_logits(model: SelectorModel, items: Sequence[Item], precision: str) -> Tensor:
    """The adapted model's own logits of all items' candidates, [groups, K]."""
    model.eval()
    with autocast(precision, model.readout.device):
        return torch.cat(own_logits(model, items))
