"""Stage 1: from labels to a Think-at-Hard folder with trained deeper passes and no decider."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from s2t_eval.methods.tah.checkpoint import TahInfo, save_tah
from s2t_eval.methods.tah.settings import TOP_N, LoopedSettings, TahError
from s2t_eval.training.loop import Loop, TrainingResult
from s2t_eval.training.precision import in_float32
from s2t_eval.training.processes import require_one_process
from s2t_eval.training.settings import ADAPTER_LR, LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.held_out_metrics import depth_metrics
from s2t_eval.training.tah.labels import LabelledText, TahLabels
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.objectives import DepthTraining, StageItem, collate
from s2t_eval.training.tah.settings import BASE_LR, DECODING_THRESHOLD, DepthSettings
from s2t_eval.training.tah.stages import held_out_items, stage_record
from s2t_eval.training.work_folder import work_folder


def train_depths(
    student: Student,
    labels: TahLabels,
    looped: LoopedSettings,
    loop: LoopSettings,
    settings: DepthSettings,
    out: Path,
) -> TahInfo:
    """Stage 1: train the deeper passes and write the folder `out`, without a decider.

    Checkpoints are kept in `out.training` until the folder is written; an interrupted run is resumed from
    the last one.

    Args:
        student: the plain student.
        labels: labels of hard tokens.
        looped: number of passes, and size of the adapter.
        loop: settings of the training loop.
        settings: data.
        out: folder to write.

    Raises:
        TahError: the labels have another tokenizer, too few questions or no hard token, or the settings do
            not fit the student.
        TrainingError: the loss is not finite, or there are several processes.
    """
    require_one_process("tah train")
    loop = loop.with_default_lr(BASE_LR if looped.train_base else ADAPTER_LR)
    labels.require_vocabulary(student.vocabulary, student.name)
    _require_fit(looped, student)
    train, held_out = labels.split(settings.held_out)
    _require_hard_tokens(train, held_out)
    work = work_folder(out)
    eval_items = held_out_items(held_out, settings.max_eval_texts)
    identity = {
        "stage": 1,
        "labels": labels.hash,
        **student.identity,
        "looped": asdict(looped),
        "settings": asdict(settings),
        # An earlier version chose by `nll` in any case, and its checkpoints have no `loss`.
        **({"chosen_by": "loss"} if settings.easy_fraction else {}),
    }
    with in_float32(student.model) if looped.train_base else nullcontext():
        model, result = _fit(
            student, train, eval_items, looped, loop, settings.easy_fraction, work / "stage-1", identity
        )
    model.eval()
    figures = depth_metrics(model, eval_items, settings.easy_fraction)
    record = stage_record(result, identity, loop, train, figures)
    info = TahInfo(
        base=student.fingerprint,
        base_name=student.name,
        vocabulary=student.vocabulary,
        hidden_size=student.hidden_size,
        looped=looped,
        decider=None,
        threshold=DECODING_THRESHOLD,
        labels=asdict(labels.manifest),
        training={"stage-1": record},
    )
    save_tah(out, info, model.peft)
    shutil.rmtree(work)
    return info


def _fit(
    student: Student,
    train: Sequence[LabelledText],
    eval_items: Sequence[StageItem],
    looped: LoopedSettings,
    loop: LoopSettings,
    easy_fraction: float,
    folder: Path,
    identity: Mapping[str, Any],
) -> tuple[LoopedModel, TrainingResult]:
    """Run the training loop over the texts that have a token to train on."""
    torch.manual_seed(loop.seed)
    model = LoopedModel(student.model, looped, student.text_vocab)
    stage = DepthTraining(model, easy_fraction)
    result = Loop[StageItem](
        stage,
        [stage.item(text) for text in train],
        partial(collate, device=model.device),
        lambda: depth_metrics(model, eval_items, easy_fraction),
        "-loss" if easy_fraction else "-nll",
        loop,
        folder,
        identity,
    ).run()
    return model, result


def _require_fit(looped: LoopedSettings, student: Student) -> None:
    """Raise `TahError` for settings that have no second pass, or mix more tokens than there are."""
    if looped.max_depth < 2:
        raise TahError("max_depth: expected at least 2, because stage 1 trains the second pass, got 1")
    if looped.top_n > max(student.text_vocab, TOP_N):  # the default is accepted for every vocabulary
        raise TahError(
            f"top_n: expected at most the vocabulary of {student.text_vocab} tokens, got {looped.top_n}"
        )


def _require_hard_tokens(train: Sequence[LabelledText], held_out: Sequence[LabelledText]) -> None:
    """Raise `TahError` unless both sides of the split have a hard token."""
    if not any(any(text.hard) for text in train) or not any(any(text.hard) for text in held_out):
        raise TahError(
            "labels: no token is hard on one side of the split; label more texts, or texts that the student "
            "would not generate itself"
        )
