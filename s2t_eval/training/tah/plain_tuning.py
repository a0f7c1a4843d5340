"""Supervised tuning of the same adapter on the same texts without loops: the baseline of a looped student."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn

from s2t_eval.artifacts.figures import without_nan
from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.manifest import save_adapter
from s2t_eval.methods.tah.settings import LoopedSettings
from s2t_eval.training.loop import Loop, Loss, TrainingResult
from s2t_eval.training.processes import require_one_process
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.labels import LabelledText, TahLabels
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.objectives import StageBatch, StageItem, collate, make_item
from s2t_eval.training.tah.settings import DepthSettings
from s2t_eval.training.tah.stages import stage_record
from s2t_eval.training.work_folder import work_folder

RECORD = "plain.json"


class PlainTraining(nn.Module):
    """Next-token cross-entropy over all tokens of a text in one pass, with the adapter enabled.

    Args:
        looped: the student with its adapter (and its own weights, if these are also trained).
    """

    def __init__(self, looped: LoopedModel) -> None:
        super().__init__()
        self.looped = looped

    def item(self, text: LabelledText) -> StageItem:
        """The item of a text; its labels are not used."""
        return make_item(text, len(text.output_ids))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy, summed over tokens."""
        logits = self.looped.logits(self.looped.tuned_hidden(batch.ids)[batch.steps])
        return Loss(nn.functional.cross_entropy(logits, batch.next_ids[batch.steps], reduction="sum"))

    @torch.no_grad()
    def nll(self, items: list[StageItem]) -> float:
        """Mean cross-entropy of the texts' tokens, nats."""
        device = self.looped.device
        total = sum(float(self.forward(collate([item], device)).loss) for item in items)
        return total / sum(item.weight for item in items)


def fit_plain(
    student: Student,
    labels: TahLabels,
    looped: LoopedSettings,
    loop: LoopSettings,
    settings: DepthSettings,
    work: Path,
) -> tuple[LoopedModel, TrainingResult]:
    """Tune the adapter on stage 1's training texts, and keep the evaluation with the lowest held-out loss.

    Args:
        student: the plain student.
        labels: labels of hard tokens, of which only the texts are used.
        looped: size of the adapter.
        loop: settings of the training loop.
        settings: data of stage 1.
        work: folder of the checkpoints.

    Raises:
        TahError: the labels have another tokenizer, or too few questions.
        TrainingError: the loss is not finite.
    """
    labels.require_vocabulary(student.vocabulary, student.name)
    train, held_out = labels.split(settings.held_out)
    torch.manual_seed(loop.seed)
    model = LoopedModel(student.model, looped, student.text_vocab)
    stage = PlainTraining(model)
    eval_items = [stage.item(text) for text in held_out[: settings.max_eval_texts]]
    result = Loop[StageItem](
        stage,
        [stage.item(text) for text in train],
        partial(collate, device=model.device),
        lambda: {"nll": stage.nll(eval_items), "tokens": sum(item.weight for item in eval_items)},
        "-nll",
        loop,
        work,
        {
            "stage": "plain",
            "labels": labels.hash,
            **student.identity,
            "looped": asdict(looped),
            "settings": asdict(settings),
        },
    ).run()
    return model, result


def train_plain(
    student: Student,
    labels: TahLabels,
    looped: LoopedSettings,
    loop: LoopSettings,
    settings: DepthSettings,
    out: Path,
) -> TrainingResult:
    """Tune the adapter and write the folder `out`: a peft adapter for `--model greedy`, and its metrics.

    Raises:
        TahError: see `fit_plain`.
        TrainingError: see `fit_plain`, or there are several processes.
    """
    require_one_process("tah plain")
    loop = loop.with_default_lr()
    work = work_folder(out)
    model, result = fit_plain(student, labels, looped, loop, settings, work)
    train, _ = labels.split(settings.held_out)
    identity = {
        **student.identity,
        "labels": asdict(labels.manifest),
        "looped": asdict(looped),
        "settings": asdict(settings),
    }
    record = stage_record(result, identity, loop, train, result.best)
    with atomic_path(out) as partial_folder:
        partial_folder.mkdir()
        save_adapter(partial_folder, model.peft, student.name)
        write_text(partial_folder / RECORD, json.dumps(without_nan(record), indent=2, sort_keys=True) + "\n")
    shutil.rmtree(work)
    return result
