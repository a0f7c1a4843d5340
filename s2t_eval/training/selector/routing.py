"""The router and the trigger thresholds that a selector needs under each proposer that it selects with.

Under proposer `base` the plain student generates, under `tuned` the adapted one. Thresholds are measured on
held-out texts of the plain student, whose steps are labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peft import PeftModel

from s2t_eval.engine import ModelRunner
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.selection.router import Router
from s2t_eval.selection.thresholds import Rates, measure_thresholds
from s2t_eval.training.labels import Trajectory
from s2t_eval.training.selector.held_out import HeldOut
from s2t_eval.training.selector.router_training import StepTable, step_table, train_router
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.trigger_recall import trigger_report

SCANNED_TAUS = (0.01, 0.05, 0.1, 0.2, 0.5)
ROUTER_LOOP = LoopSettings(
    epochs=20, lr=1e-3, batch_size=4, accumulate=1, weight_decay=0.05, evaluations=1, patience=5
)


class Routing(NamedTuple):
    """A proposer's router, the thresholds of all triggers, and the steps that they were measured on."""

    router: Router | None
    """None where none was trained"""
    thresholds: Rates
    table: StepTable
    """the steps of the held-out texts by which is chosen"""
    reported: StepTable
    """the steps of the held-out texts that figures are reported of; empty where there are no such texts"""

    def report(self) -> dict[str, dict[str, float]]:
        """Recall, KL share and AUROC of each local trigger on the reported steps, else on the others.

        Returns:
            "name@tau" -> recall, kl_share and auroc, with the number of steps that they are of (`steps`).
        """
        table = self.reported if self.reported.features else self.table
        kl = table.all_kl.numpy()
        report = trigger_report(table.divergences(self.router), kl)
        return {name: {**figures, "steps": len(kl)} for name, figures in report.items()}


def make_routing(
    student: Student,
    peft: PeftModel,
    proposer: str,
    train: Sequence[Trajectory] | None,
    held_out: HeldOut,
    folder: Path,
    identity: Mapping[str, Any],
    seed: int,
    trained_router: Router | None = None,
) -> Routing:
    """Train a proposer's router and measure the thresholds of all triggers.

    Args:
        student: its layers contain the adapter.
        peft: the adapter.
        proposer: the router is trained on this proposer's hidden states, `base` or `tuned`.
        train: training texts; None trains no router.
        held_out: the router's best evaluation is chosen by one half; thresholds, which no label enters, are
            measured on both.
        folder: where the router's checkpoints are written.
        identity: settings of the run; checkpoints of another run are refused.
        seed: of the router's first weights and of the order of its texts.
        trained_router: a router that was trained on the same texts before; None trains one.
    """
    layers: Any = peft.base_model
    student.model.eval()
    layers.disable_adapter_layers()
    model = ModelRunner(student.model, student.name, student.text_vocab)
    is_own_text = proposer == "base"
    with AdapterSwitch(peft)() if proposer == "tuned" else nullcontext():
        tables = [step_table(model, half, is_own_text) for half in held_out]
        train_table = None
        if train is not None and trained_router is None:
            train_table = step_table(model, train, is_own_text)
    layers.enable_adapter_layers()
    router = trained_router.to(model.device) if trained_router is not None else None
    if train_table is not None:
        # A network this small needs a few hundred steps an epoch; large sets take larger batches instead.
        num_texts = len(train_table.features)
        batch_size = max(ROUTER_LOOP.batch_size, num_texts // 400)
        loop = replace(ROUTER_LOOP, batch_size=batch_size, seed=seed)
        identity = {**identity, "proposer": proposer}
        router, _ = train_router(train_table, tables[0], loop, folder, identity, model.device)
    return Routing(router, _thresholds(tables, router, held_out), *tables)


def all_divergences(
    table: StepTable, router: Router | None, trajectories: Sequence[Trajectory]
) -> dict[str, np.ndarray]:
    """Trigger key -> its divergence at all steps of these texts, local triggers and the teacher's KL."""
    divergences = dict(table.divergences(router))
    for direction in ("student_teacher", "teacher_student"):
        columns = [getattr(row, f"kl_{direction}") for row in trajectories]
        divergences[f"kl:{direction}"] = np.concatenate(columns)
    return divergences


def _thresholds(tables: Sequence[StepTable], router: Router | None, held_out: HeldOut) -> Rates:
    values: dict[str, list[float]] = {}
    for table, half in ((table, half) for table, half in zip(tables, held_out, strict=True) if half):
        for key, divergence in all_divergences(table, router, half).items():
            values.setdefault(key, []).extend(divergence.tolist())
    return measure_thresholds(values, SCANNED_TAUS)


def trained_routers(routings: Mapping[str, Routing]) -> dict[str, Router]:
    """Proposer -> its router, of those that have one."""
    return {key: routing.router for key, routing in routings.items() if routing.router is not None}
