"""From labels to a tah folder: stage 1 trains the passes, stage 2 the decider."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.tah.checkpoint import TahInfo, load_tah, make_decider, save_tah
from s2t_eval.methods.tah.settings import TOP_N, DeciderSettings, LoopedSettings, TahError
from s2t_eval.training.loop import Loop, LoopSettings, Trained
from s2t_eval.training.settings import ADAPTER_LR
from s2t_eval.training.student import Student
from s2t_eval.training.tah.figures import decisions, second_looks
from s2t_eval.training.tah.labels import TahLabels, Text
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.settings import BASE_LR, DECIDER_LR, DECODING_THRESHOLD
from s2t_eval.training.tah.settings import DecisionSettings as DecisionSettings
from s2t_eval.training.tah.settings import DepthSettings as DepthSettings
from s2t_eval.training.tah.stages import DeciderTraining, DepthTraining, StageItem, collate, make_item


def train_depths(
    student: Student,
    labels: TahLabels,
    looped: LoopedSettings,
    loop: LoopSettings,
    settings: DepthSettings,
    out: Path,
) -> TahInfo:
    """Stage 1: train what happens in deeper passes and write the folder `out`, without a decider.

    Checkpoints lie in `out.training` until then; a broken-off run goes on from the last one.

    Raises:
        TahError: labels of another tokenizer, too few or without a hard token, or a depth of 1.
        TrainingError: a loss that is not a number.
    """
    loop = loop.with_default_lr(BASE_LR if looped.train_base else ADAPTER_LR)
    labels.require_vocabulary(student.vocabulary, student.name)
    if looped.max_depth < 2:
        raise TahError("max_depth: with 1 there is no second look to train; expected at least 2")
    if looped.top_n > max(student.text_vocab, TOP_N):  # the default fits every vocabulary
        raise TahError(
            f"top_n: expected at most the vocabulary of {student.text_vocab} tokens, got {looped.top_n}"
        )
    train, held_out = labels.split(settings.held_out)
    torch.manual_seed(loop.seed)
    model = LoopedModel(student.model, looped, student.text_vocab)
    stage = DepthTraining(model, settings.easy)
    items = [item for item in map(stage.item, train) if item.weight > 0]
    if not any(any(text.hard) for text in train) or not any(any(text.hard) for text in held_out):
        raise TahError(
            "labels: no token is hard on one side of the split; label more texts, or texts that the student "
            "would not write itself"
        )
    checked = _checked(held_out, settings.checked)
    identity = {
        "stage": 1,
        "labels": data_hash([asdict(labels.manifest)]),
        "student": student.fingerprint,
        "looped": asdict(looped),
        "settings": asdict(settings),
    }
    work = out.with_name(out.name + ".training")
    trained = Loop[StageItem](
        stage,
        items,
        partial(collate, device=model.device),
        lambda: second_looks(model, checked),
        "-nll",
        loop,
        work / "stage-1",
        identity,
    ).run()
    model.eval()
    figures = record(trained, identity, loop, train, second_looks(model, checked))
    info = TahInfo(
        base=student.fingerprint,
        base_name=student.name,
        vocabulary=student.vocabulary,
        hidden_size=student.hidden_size,
        looped=looped,
        decider=None,
        threshold=DECODING_THRESHOLD,
        labels=asdict(labels.manifest),
        training={"stage-1": figures},
    )
    save_tah(out, info, model.peft, None)
    shutil.rmtree(work)
    return info


def train_decider(
    student: Student,
    labels: TahLabels,
    decider: DeciderSettings,
    loop: LoopSettings,
    settings: DecisionSettings,
    out: Path,
) -> TahInfo:
    """Stage 2: train the decider of stage 1's folder `out` and write the folder anew, with it.

    Raises:
        TahError: no folder of stage 1 of this student, or labels of another tokenizer.
        TrainingError: a loss that is not a number.
    """
    loop = loop.with_default_lr(DECIDER_LR)
    labels.require_vocabulary(student.vocabulary, student.name)
    found = load_tah(out, student.fingerprint, student.vocabulary, student.hidden_size)
    train, held_out = labels.split(settings.held_out)
    peft = found.attach(student.model)
    model = LoopedModel(peft, replace(found.info.looped, train_base=False), student.text_vocab)
    named = replace(decider, layers=decider.layers_of(model.config.num_hidden_layers))
    model.read_layers(named.layers)
    torch.manual_seed(loop.seed)
    voter = make_decider(found.info, named, student.text_vocab).to(model.device)
    stage = DeciderTraining(model, voter, settings.positive_weight)
    checked = _checked(held_out, settings.checked)
    identity = {
        "stage": 2,
        "labels": data_hash([asdict(labels.manifest)]),
        "student": student.fingerprint,
        "stage 1": data_hash([found.info.training["stage-1"]]),
        "decider": asdict(named),
        "settings": asdict(settings),
    }
    work = out.with_name(out.name + ".training")
    trained = Loop[StageItem](
        stage,
        [stage.item(text) for text in train],
        partial(collate, device=model.device),
        lambda: decisions(model, voter, checked, settings.threshold),
        "auroc",
        loop,
        work / "stage-2",
        identity,
    ).run()
    voter.eval()
    figures = record(trained, identity, loop, train, decisions(model, voter, checked, settings.threshold))
    info = replace(
        found.info,
        decider=named,
        threshold=settings.decoding_threshold,
        training={**found.info.training, "stage-2": figures},
    )
    save_tah(out, info, peft, voter)
    shutil.rmtree(work)
    return info


def _checked(texts: Sequence[Text], most: int) -> list[StageItem]:
    return [make_item(text, len(text.hard)) for text in texts[:most]]


def record(
    trained: Trained,
    identity: dict[str, Any],
    loop: LoopSettings,
    train: Sequence[Text],
    held_out: dict[str, float],
) -> dict[str, Any]:
    """What a folder keeps of a stage."""
    return {
        "held_out": held_out,
        "texts": len(train),
        "steps": trained.steps,
        "best_step": trained.best_step,
        "history": trained.history,
        "settings": {**identity, "loop": asdict(loop)},
    }
