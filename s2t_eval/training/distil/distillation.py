"""From a label set and a teacher to a distilled folder, with held-out metrics before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.fingerprint import data_hash, model_fingerprint
from s2t_eval.engine import Request
from s2t_eval.methods.distilled import DistilInfo, save_distilled
from s2t_eval.training.distil.methods import Method, make_method
from s2t_eval.training.distil.model import DistillMetrics, DistilModel
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.distil.teacher_rollouts import generate_teacher_rollouts
from s2t_eval.training.distil.texts import Item, collate, make_items
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.loop import Loop, Metrics, TrainingResult
from s2t_eval.training.precision import in_float32
from s2t_eval.training.processes import write_result
from s2t_eval.training.settings import ADAPTER_LR, LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.teacher import TrainingTeacher
from s2t_eval.training.work_folder import work_folder

FULL_LR = 2e-5
"""Default learning rate where all weights are trained: a tenth of an adapter's."""


def distil(
    student: Student,
    teacher: TrainingTeacher,
    tokenizer: Any,
    labels: LabelSet,
    settings: DistilSettings,
    loop: LoopSettings,
    out: Path,
) -> DistilInfo:
    """Train the student on the teacher's distribution or texts, and write the folder `out`.

    Checkpoints are kept in `out.training` until the folder is written.

    Args:
        student: the student.
        teacher: the teacher.
        tokenizer: the student's tokenizer, which is saved with a full checkpoint.
        labels: label set of this student.
        settings: method and data.
        loop: settings of the training loop.
        out: folder to write.

    Raises:
        LabelError: the labels belong to another student or tokenizer, or there are too few.
        TrainingError: the loss is not finite.
        WriteError: a checkpoint or the folder could not be written.
        ValueError: the settings do not fit the models.
    """
    loop = loop.with_default_lr(FULL_LR if settings.full else ADAPTER_LR)
    labels.require_student(student.fingerprint, student.vocabulary)
    method = make_method(settings.method, settings.beta)
    train, held_out = labels.split(settings.held_out)
    train = train[: settings.limit]
    identity = {
        "labels": labels.hash,
        **student.identity,
        **teacher.identity,
        "settings": asdict(settings),
    }
    work = work_folder(out)
    checkpoints = work / settings.method
    outputs = None
    if settings.learns_teacher_texts:
        wanted = {row.problem_id for row in [*train, *held_out]}
        rows = [row for row in labels if row.problem_id in wanted]
        outputs = _teacher_outputs(student, teacher, labels, rows, settings, work / "teacher_texts")
    torch.manual_seed(loop.seed)
    with in_float32(student.model) if settings.adapter is None else nullcontext():
        model, result = _fit(
            student, teacher, method, settings, train, held_out, outputs, loop, checkpoints, identity
        )
    record = _training_record(result, train, held_out, {**identity, "loop": asdict(loop)})
    info = _describe(student, teacher, model, labels, settings, record)
    write_result(lambda: save_distilled(out, info, model.student, tokenizer), work)
    return info


def _fit(
    student: Student,
    teacher: TrainingTeacher,
    method: Method,
    settings: DistilSettings,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    outputs: Mapping[str, Sequence[int]] | None,
    loop: LoopSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> tuple[DistilModel, TrainingResult]:
    """Run the training loop."""
    model = DistilModel(
        student.model, teacher.model, method, settings.adapter, student.text_vocab, settings.temperature
    )
    items = make_items(train, outputs)
    held_out_items = make_items(held_out)
    loss_items = None if outputs is None else make_items(held_out, outputs)
    result = Loop[Item](
        model,
        items,
        lambda part: collate(part).to(model.device),
        lambda: held_out_metrics(model, held_out_items, loop.batch_size, loss_items),
        "-loss",
        loop,
        folder,
        identity,
    ).run()
    return model, result


def _training_record(
    result: TrainingResult,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What the manifest keeps of the training loop."""
    return {
        "before": result.history[0],
        "after": result.best,
        "problems": len(train),
        "held_out_problems": len(held_out),
        "steps": result.steps,
        "best_step": result.best_step,
        "averaged": result.averaged,
        "stopped_early": result.stopped_early,
        "history": result.history,
        "settings": settings,
    }


def _describe(
    student: Student,
    teacher: TrainingTeacher,
    model: DistilModel,
    labels: LabelSet,
    settings: DistilSettings,
    training: dict[str, Any],
) -> DistilInfo:
    """The folder's manifest."""
    return DistilInfo(
        kind="checkpoint" if settings.adapter is None else "adapter",
        method=settings.method,
        base=student.fingerprint,
        base_name=student.name,
        result=model_fingerprint(model.student),
        vocabulary=student.vocabulary,
        teacher=teacher.fingerprint,
        teacher_name=teacher.name,
        labels=asdict(labels.manifest),
        training=training,
    )


def held_out_metrics(
    model: DistilModel, items: Sequence[Item], batch_size: int, loss_items: Sequence[Item] | None = None
) -> Metrics:
    """Means over held-out steps: the method's loss, KL(p_T || p_S) and agreement; and the number of steps.

    Args:
        model: student and teacher.
        items: the student's own texts on held-out problems.
        batch_size: items of one forward pass.
        loss_items: other texts on the same problems that the loss is measured on (`seqkd`); None measures it
            on `items`.
    """
    sums = _summed_metrics(model, items, batch_size)
    steps = sum(item.weight for item in items)
    loss = sums.loss / steps
    if loss_items is not None:
        loss_sum = _summed_metrics(model, loss_items, batch_size).loss
        loss = loss_sum / sum(item.weight for item in loss_items)
    return {
        "loss": float(loss),
        "forward_kl": float(sums.forward_kl / steps),
        "agreement": float(sums.num_agreeing / steps),
        "steps_measured": steps,
    }


def _summed_metrics(model: DistilModel, items: Sequence[Item], batch_size: int) -> DistillMetrics:
    parts = [
        model.metrics(collate(items[i : i + batch_size]).to(model.device))
        for i in range(0, len(items), batch_size)
    ]
    return DistillMetrics(*(torch.stack(column).sum() for column in zip(*parts, strict=True)))


def _teacher_outputs(
    student: Student,
    teacher: TrainingTeacher,
    labels: LabelSet,
    rows: Sequence[Trajectory],
    settings: DistilSettings,
    folder: Path,
) -> dict[str, list[int]]:
    """The teacher's greedy texts on these problems of the label set, up to the length limit of the labels."""
    limit = int(labels.manifest.prompt["max_gen_toks"])

    def make_request(prompt: tuple[int, ...]) -> Request:
        return Request(prompt, limit, teacher.stop_ids, settings.until)

    text_identity = {
        "labels": labels.hash,
        **teacher.identity,
        "until": list(settings.until),
        "problems": data_hash(row.problem_id for row in rows),
    }
    return generate_teacher_rollouts(
        teacher, student.text_vocab, rows, make_request, folder, text_identity, settings.rows
    )
