"""The router and the trigger thresholds that a selector needs under each proposer.

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
from s2t_eval.methods.selector_folder import adapter_on
from s2t_eval.selection.router import Router
from s2t_eval.selection.thresholds import Rates, measure_thresholds
from s2t_eval.training.labels import Trajectory
from s2t_eval.training.loop import LoopSettings
from s2t_eval.training.router import StepTable, step_table, train_router
from s2t_eval.training.student import Student
from s2t_eval.training.trigger_recall import trigger_report

SCANNED_TAUS = (0.01, 0.05, 0.1, 0.2, 0.5)
ROUTER_LOOP = LoopSettings(
    epochs=20, lr=1e-3, batch_size=4, accumulate=1, weight_decay=0.05, evaluations=1, patience=5
)


class Routing(NamedTuple):
    """A proposer's router, the thresholds of all triggers, and the steps that they were measured on."""

    router: Router
    thresholds: Rates
    table: StepTable
    """the steps of the held-out texts"""

    def report(self) -> dict[str, dict[str, float]]:
        """Recall, KL share and AUROC of each local trigger on the held-out steps."""
        return trigger_report(self.table.divergences(self.router), self.table.all_kl.numpy())


def make_routing(
    student: Student,
    peft: PeftModel,
    proposer: str,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    folder: Path,
    identity: Mapping[str, Any],
    trained_router: Router | None = None,
) -> Routing:
    """Train a proposer's router and measure the thresholds of all triggers.

    Args:
        student: its layers contain the adapter.
        peft: the adapter.
        proposer: the router is trained on this proposer's hidden states, `base` or `tuned`.
        train: training texts.
        held_out: texts that thresholds are measured on.
        folder: where the router's checkpoints are written.
        identity: settings of the run; checkpoints of another run are refused.
        trained_router: a router that was trained on the same texts before; None trains one.
    """
    layers: Any = peft.base_model
    student.model.eval()
    layers.disable_adapter_layers()
    model = ModelRunner(student.model, student.name, student.text_vocab)
    is_own_text = proposer == "base"
    with adapter_on(peft) if proposer == "tuned" else nullcontext():
        held_out_table = step_table(model, held_out, is_own_text)
        train_table = None if trained_router is not None else step_table(model, train, is_own_text)
    layers.enable_adapter_layers()
    if train_table is None:
        assert trained_router is not None
        router = trained_router.to(model.device)
    else:
        # A network this small needs a few hundred steps an epoch; large sets take larger batches instead.
        loop = replace(ROUTER_LOOP, batch_size=max(ROUTER_LOOP.batch_size, len(train) // 400))
        identity = {**identity, "proposer": proposer}
        router, _ = train_router(train_table, held_out_table, loop, folder, identity, model.device)
    return Routing(router, _thresholds(held_out_table, router, held_out), held_out_table)


def _thresholds(table: StepTable, router: Router, held_out: Sequence[Trajectory]) -> Rates:
    divergences = dict(table.divergences(router))
    for direction in ("student_teacher", "teacher_student"):
        divergences[f"kl:{direction}"] = np.concatenate([getattr(row, f"kl_{direction}") for row in held_out])
    return measure_thresholds({key: values.tolist() for key, values in divergences.items()}, SCANNED_TAUS)
