"""From a label set and a teacher to a distilled folder, with held-out figures of both ends."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from s2t_eval.artifacts.fingerprint import data_hash, model_fingerprint
from s2t_eval.engine import ModelRunner, Request
from s2t_eval.engine.stop import Decode
from s2t_eval.methods.distilled import DistilInfo, save_distilled
from s2t_eval.training.distil.methods import make_method
from s2t_eval.training.distil.model import Closeness, DistilModel
from s2t_eval.training.distil.settings import DistilSettings as DistilSettings
from s2t_eval.training.distil.teacher_texts import teacher_texts
from s2t_eval.training.distil.texts import Item, collate, make_items
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.loop import Loop, LoopSettings
from s2t_eval.training.settings import ADAPTER_LR
from s2t_eval.training.student import Student

FULL_LR = 2e-5
"""Default rate where all weights are trained: a tenth of an adapter's."""


@dataclass(frozen=True)
class Teacher:
    """The model that is learnt from.

    Args:
        model: shares the student's text vocabulary; its head may be padded otherwise.
        name: how it is called.
        fingerprint: what identifies it.
        stop_ids: tokens that end its texts (`seqkd`).
        decode: token ids to text, for stop strings (`seqkd`).
    """

    model: PreTrainedModel
    name: str
    fingerprint: str
    stop_ids: frozenset[int]
    decode: Decode


def distil(
    student: Student,
    teacher: Teacher,
    tokenizer: Any,
    labels: LabelSet,
    settings: DistilSettings,
    loop: LoopSettings,
    out: Path,
) -> DistilInfo:
    """Teach the student and write the folder `out`; checkpoints lie in `out.training` until then.

    Raises:
        LabelError: labels of another student or tokenizer, or too few.
        TrainingError: a loss that is not a number.
        WriteError: a checkpoint or the folder could not be written.
        ValueError: settings that do not fit.
    """
    loop = loop.with_default_lr(FULL_LR if settings.full else ADAPTER_LR)
    labels.require_student(student.fingerprint, student.vocabulary)
    method = make_method(settings.method, settings.beta)
    train, held_out = labels.split(settings.held_out)
    train = train[: settings.limit]
    identity = {
        "labels": data_hash([asdict(labels.manifest)]),
        "student": student.fingerprint,
        "teacher": teacher.fingerprint,
        "settings": asdict(settings),
    }
    work = out.with_name(out.name + ".training")
    outputs = None
    if method.texts == "teacher":
        outputs = _teacher_outputs(student, teacher, labels, settings, work / "teacher_texts", identity)
    torch.manual_seed(loop.seed)
    dtype = student.model.dtype
    if settings.adapter is None:
        student.model.float()  # a small step is lost on weights of low precision
    model = DistilModel(
        student.model, teacher.model, method, settings.adapter, student.text_vocab, settings.temperature
    )
    items = make_items(train, outputs)
    checked = make_items(held_out)
    written = None if outputs is None else make_items(held_out, outputs)
    trained = Loop[Item](
        model,
        items,
        lambda part: collate(part).to(model.device),
        lambda: figures(model, checked, loop.batch_size, written),
        "-loss",
        loop,
        work / method.name,
        identity,
    ).run()
    if settings.adapter is None:
        nn.Module.to(student.model, dtype)
    info = DistilInfo(
        kind="checkpoint" if settings.adapter is None else "adapter",
        method=method.name,
        base=student.fingerprint,
        base_name=student.name,
        result=model_fingerprint(model.student),
        vocabulary=student.vocabulary,
        teacher=teacher.fingerprint,
        teacher_name=teacher.name,
        labels=asdict(labels.manifest),
        training={
            "before": trained.history[0],
            "after": trained.best,
            "problems": len(train),
            "held_out_problems": len(held_out),
            "steps": trained.steps,
            "best_step": trained.best_step,
            "stopped_early": trained.stopped_early,
            "history": trained.history,
            "settings": {**identity, "loop": asdict(loop)},
        },
    )
    state = PartialState()
    if state.is_main_process:
        save_distilled(out, info, model.student, tokenizer)
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.rmtree(work)
    return info


def figures(
    model: DistilModel, items: Sequence[Item], batch_size: int, written: Sequence[Item] | None = None
) -> dict[str, float]:
    """Held-out figures, means over steps: the method's loss, KL(p_T || p_S), equal first tokens, and n.

    Args:
        model: student and teacher.
        items: the student's own texts on held-out problems.
        batch_size: items of one forward.
        written: texts on the same problems that the loss is taken on instead, for `seqkd`.
    """
    found = _sums(model, items, batch_size)
    steps = sum(item.weight for item in items)
    loss = found.loss / steps
    if written is not None:
        loss = _sums(model, written, batch_size).loss / sum(item.weight for item in written)
    return {
        "loss": float(loss),
        "forward_kl": float(found.forward_kl / steps),
        "agreement": float(found.agreeing / steps),
        "steps_measured": steps,
    }


def _sums(model: DistilModel, items: Sequence[Item], batch_size: int) -> Closeness:
    parts = [
        model.closeness(collate(items[i : i + batch_size]).to(model.device))
        for i in range(0, len(items), batch_size)
    ]
    return Closeness(*(torch.stack(column).sum() for column in zip(*parts, strict=True)))


def _teacher_outputs(
    student: Student,
    teacher: Teacher,
    labels: LabelSet,
    settings: DistilSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> dict[str, list[int]]:
    """The teacher's greedy texts on all the label set's problems, to the same length limit."""
    limit = int(labels.manifest.prompt["max_gen_toks"])

    def request(prompt: tuple[int, ...]) -> Request:
        return Request(prompt, limit, teacher.stop_ids, settings.until)

    made_of = {name: identity[name] for name in ("labels", "teacher")} | {"until": list(settings.until)}
    slots = ModelRunner(teacher.model, teacher.name, student.text_vocab)
    # Other processes find every text written when the first is done.
    with PartialState().main_process_first(), tqdm(total=len(labels), desc="Teacher's texts") as bar:
        return teacher_texts(
            slots, list(labels), request, folder, made_of, settings.rows, teacher.decode, bar.update
        )
