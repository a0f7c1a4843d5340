"""What both stages share: the items of an evaluation, and the record of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from s2t_eval.training.loop import TrainingResult
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.tah.labels import LabelledText
from s2t_eval.training.tah.objectives import StageItem, make_item


def held_out_items(texts: Sequence[LabelledText], limit: int) -> list[StageItem]:
    """Items of the first held-out texts, at most `limit`."""
    return [make_item(text, len(text.hard)) for text in texts[:limit]]


def stage_record(
    result: TrainingResult,
    identity: dict[str, Any],
    loop: LoopSettings,
    train: Sequence[LabelledText],
    held_out: dict[str, float],
) -> dict[str, Any]:
    """What a folder's manifest keeps of a stage.

    Args:
        result: outcome of the training loop.
        identity: settings of the stage.
        loop: settings of the training loop.
        train: training texts.
        held_out: held-out metrics of the parameters that were kept.
    """
    return {
        "held_out": held_out,
        "texts": len(train),
        "steps": result.steps,
        "best_step": result.best_step,
        "averaged": result.averaged,
        "history": result.history,
        "settings": {**identity, "loop": asdict(loop)},
    }
