"""DeepConf's token confidence of a text (arXiv 2508.15260), for votes over samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from s2t_eval.selection.step import StepView
from s2t_eval.selection.top_tokens import top_tokens

TOP = 20
"""Most likely tokens of a step that are averaged, as the paper's server returns them."""


@dataclass(frozen=True)
class ConfidenceSignal:
    """Mean log-probability of a step's most likely tokens: minus the token's confidence.

    Confidence is large where one token has all the mass, because the others are then very unlikely. The
    probabilities are those before temperature and filters. It has the interface of a trigger, so that a
    decoder records it at every step (`observe`).

    Args:
        top: tokens that are averaged.
    """

    top: int = TOP
    name: str = "confidence"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Minus the confidence, in nats, [batch]."""
        return (top_tokens(step.logits, self.top).values - step.log_total).mean(-1)


def text_confidence(signals: Sequence[float]) -> float:
    """A text's confidence from the signal at each of its tokens: the mean over the text, in nats."""
    return -sum(signals) / len(signals)
