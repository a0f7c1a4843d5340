"""Stage 2: from a Think-at-Hard folder of stage 1 to one with a trained decider."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.tah.checkpoint import TahInfo, load_tah, make_decider, save_tah
from s2t_eval.methods.tah.settings import DeciderSettings, TahError
from s2t_eval.ranges import AT_LEAST_1, PART, POSITIVE, PROBABILITY, require_ranges
from s2t_eval.training.loop import Loop, LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.held_out_metrics import decider_metrics
from s2t_eval.training.tah.labels import TahLabels
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.objectives import DeciderTraining, StageItem, collate
from s2t_eval.training.tah.stages import (
    DECODING_THRESHOLD,
    EVAL_THRESHOLD,
    held_out_items,
    stage_record,
)


@dataclass(frozen=True)
class DecisionSettings:
    """The loss, the data and the thresholds of stage 2.

    Args:
        positive_weight: weight of a hard token in the loss.
        held_out: share of the questions that is never trained on; it must be stage 1's.
        max_eval_texts: at most this many held-out texts are used in an evaluation.
        eval_threshold: threshold of the decider's probability in held-out metrics.
        decoding_threshold: threshold that is saved as the default of decoding.

    Raises:
        TahError: a value outside its range.
    """

    positive_weight: float = 5.0
    held_out: float = 0.1
    max_eval_texts: int = 200
    eval_threshold: float = EVAL_THRESHOLD
    decoding_threshold: float = DECODING_THRESHOLD

    def __post_init__(self) -> None:
        require_ranges(
            self,
            TahError,
            positive_weight=POSITIVE,
            held_out=PART,
            max_eval_texts=AT_LEAST_1,
            eval_threshold=PROBABILITY,
            decoding_threshold=PROBABILITY,
        )


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
        TahError: there is no folder of stage 1 of this student, or the labels have another tokenizer.
        TrainingError: the loss is not finite.
    """
    labels.require_vocabulary(student.vocabulary, student.name)
    stage_1 = load_tah(out, student.fingerprint, student.vocabulary, student.hidden_size)
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
        "student": student.fingerprint,
        "stage 1": data_hash([stage_1.info.training["stage-1"]]),
        "decider": asdict(decider),
        "settings": asdict(settings),
    }
    work = out.with_name(out.name + ".training")
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
    save_tah(out, info, peft, network)
    shutil.rmtree(work)
    return info
