"""Plain supervised tuning of the same adapter on the same texts: what a looped student is compared with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.manifest import save_adapter
from s2t_eval.methods.tah.settings import LoopedSettings
from s2t_eval.training.loop import Loop, LoopSettings, Trained
from s2t_eval.training.student import Student
from s2t_eval.training.tah.labels import TahLabels, Text
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.stages import Loss, StageBatch, StageItem, collate, make_item
from s2t_eval.training.tah.train import DepthSettings, record

FIGURES = "plain.json"


class PlainTraining(nn.Module):
    """Next-token cross-entropy over all of a text's tokens in one pass, the adapter on.

    Args:
        looped: the student with its adapter (and its own weights, if these are trained too).
    """

    def __init__(self, looped: LoopedModel) -> None:
        super().__init__()
        self.looped = looped

    def item(self, text: Text) -> StageItem:
        """An item of a text; its labels do not matter."""
        return make_item(text, len(text.output_ids))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy summed over tokens."""
        logits = self.looped.logits(self.looped.adapted(batch.ids)[batch.steps])
        return Loss(nn.functional.cross_entropy(logits, batch.next_ids[batch.steps], reduction="sum"))

    @torch.no_grad()
    def nll(self, items: list[StageItem]) -> float:
        """Mean cross-entropy of some texts' tokens, nats."""
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
) -> tuple[LoopedModel, Trained]:
    """Tune the adapter; the texts held out are stage 1's, and the best evaluation is kept.

    Raises:
        TahError: labels of another tokenizer, or too few.
        TrainingError: a loss that is not a number.
    """
    labels.require_vocabulary(student.vocabulary, student.name)
    train, held_out = labels.split(settings.held_out)
    torch.manual_seed(loop.seed)
    model = LoopedModel(student.model, looped, student.text_vocab)
    stage = PlainTraining(model)
    checked = [stage.item(text) for text in held_out[: settings.checked]]
    trained = Loop[StageItem](
        stage,
        [stage.item(text) for text in train],
        partial(collate, device=model.device),
        lambda: {"nll": stage.nll(checked), "tokens": sum(item.weight for item in checked)},
        "-nll",
        loop,
        work,
        {
            "stage": "plain",
            "labels": data_hash([asdict(labels.manifest)]),
            "student": student.fingerprint,
            "looped": asdict(looped),
        },
    ).run()
    return model, trained


def train_plain(
    student: Student,
    labels: TahLabels,
    looped: LoopedSettings,
    loop: LoopSettings,
    settings: DepthSettings,
    out: Path,
) -> Trained:
    """Tune and write the folder `out`: a peft adapter for `--model greedy`, and its figures.

    Raises:
        TahError, TrainingError: see `fit_plain`.
    """
    loop = loop.with_default_lr()
    work = out.with_name(out.name + ".training")
    model, trained = fit_plain(student, labels, looped, loop, settings, work)
    train, _ = labels.split(settings.held_out)
    identity = {"student": student.fingerprint, "labels": asdict(labels.manifest), "looped": asdict(looped)}
    figures = record(trained, identity, loop, train, trained.best)
    with atomic_path(out) as partial_folder:
        partial_folder.mkdir()
        save_adapter(partial_folder, model.peft, student.name)
        write_text(partial_folder / FIGURES, json.dumps(figures, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(work)
    return trained
