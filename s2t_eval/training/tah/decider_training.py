"""Stage 2: from a Think-at-Hard folder of stage 1 to one with a trained decider."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.tah.checkpoint import TahFolder, TahInfo, load_tah, make_decider, save_decider
from s2t_eval.methods.tah.settings import DeciderSettings, TahError
from s2t_eval.training.loop import Loop
from s2t_eval.training.processes import require_one_process
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.held_out_metrics import decider_metrics
from s2t_eval.training.tah.labels import TahLabels
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.objectives import DeciderTraining, StageItem, collate
from s2t_eval.training.tah.settings import DECIDER_LR, DecisionSettings
from s2t_eval.training.tah.stages import held_out_items, stage_record
from s2t_eval.training.work_folder import work_folder


def train_decider(
    student: Student,
    labels: TahLabels,
    decider: DeciderSettings,
    loop: LoopSettings,
    settings: DecisionSettings,
    out: Path,
) -> TahInfo:
    """Stage 2: train a decider for the folder `out` of stage 1, and write the folder again with it.

    Args:
        student: the plain student.
        labels: labels of hard tokens.
        decider: size of the decider.
        loop: settings of the training loop.
        settings: loss, data and thresholds.
        out: folder of stage 1.

    Raises:
        TahError: there is no folder of stage 1 of this student, the labels have another tokenizer, or other
            texts are held out than in stage 1.
        TrainingError: the loss is not finite, or there are several processes.
    """
    require_one_process("tah train")
    loop = loop.with_default_lr(DECIDER_LR)
    labels.require_vocabulary(student.vocabulary, student.name)
    stage_1 = load_tah(out, student.fingerprint, student.vocabulary, student.hidden_size)
    _require_same_split(stage_1, labels, settings)
    train, held_out = labels.split(settings.held_out)
    peft = stage_1.attach(student.model)
    model = LoopedModel(peft, replace(stage_1.info.looped, train_base=False), student.text_vocab)
    decider = replace(decider, layers=decider.layers_of(model.config.num_hidden_layers))
    model.read_layers(decider.layers)
    torch.manual_seed(loop.seed)
    network = make_decider(stage_1.info, decider, student.text_vocab).to(model.device)
    stage = DeciderTraining(model, network, settings.positive_weight)
    eval_items = held_out_items(held_out, settings.max_eval_texts)
    identity = {
        "stage": 2,
        "labels": labels.hash,
        **student.identity,
        "stage 1": data_hash([stage_1.info.training["stage-1"]]),
        "decider": asdict(decider),
        "settings": asdict(settings),
    }
    work = work_folder(out)
    result = Loop[StageItem](
        stage,
        [stage.item(text) for text in train],
        partial(collate, device=model.device),
        lambda: decider_metrics(model, network, eval_items, settings.eval_threshold),
        "auroc",
        loop,
        work / "stage-2",
        identity,
    ).run()
    network.eval()
    metrics = decider_metrics(model, network, eval_items, settings.eval_threshold)
    info = replace(
        stage_1.info,
        decider=decider,
        threshold=settings.decoding_threshold,
        training={**stage_1.info.training, "stage-2": stage_record(result, identity, loop, train, metrics)},
    )
    save_decider(stage_1, info, network)
    shutil.rmtree(work)
    return info


def _require_same_split(stage_1: TahFolder, labels: TahLabels, settings: DecisionSettings) -> None:
    """Raise `TahError` unless the texts that are held out here were held out of stage 1."""
    trained = stage_1.info.training["stage-1"]["settings"]
    held_out = trained["settings"]["held_out"]
    if trained["labels"] != labels.hash or held_out != settings.held_out:
        raise TahError(
            f"{stage_1.folder}: stage 1 was trained on labels {trained['labels'][:12]} with --held_out "
            f"{held_out}, got labels {labels.hash[:12]} with {settings.held_out}, so texts that are held out "
            "here may have been trained on; give the same labels and --held_out"
        )
