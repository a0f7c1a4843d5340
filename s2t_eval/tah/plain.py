"""Plain supervised tuning of the same adapter on the same texts: what a looped student is compared with."""

from __future__ import annotations

import torch
from torch import nn

from s2t_eval.tah.labels import Text
from s2t_eval.tah.looped import LoopedModel
from s2t_eval.tah.stages import Loss, StageBatch, StageItem, make_item


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
    def nll(self, batch: StageBatch) -> float:
        """Mean cross-entropy of a batch, nats."""
        return float(self.forward(batch).loss / batch.steps.sum())
