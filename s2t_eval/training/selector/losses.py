"""Losses over groups of candidates: scores against the teacher's log-probabilities (section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from s2t_eval.training.selector.settings import LossName


def cross_entropy(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """-log softmax(S / T) of the teacher's best candidate, [groups] from [groups, K] (L_sel in the paper)."""
    best = teacher_log_probs.argmax(-1)
    return nn.functional.cross_entropy(scores / temperature, best, reduction="none")


def listwise_kl(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """KL of the teacher's distribution over the candidates from softmax(S / T), nats, [groups]."""
    target = teacher_log_probs.log_softmax(-1)
    predicted = (scores / temperature).log_softmax(-1)
    # 0 * log 0 = 0, also where the teacher's log-probability is minus infinity
    return torch.where(target > -math.inf, target.exp() * (target - predicted), 0.0).sum(-1)


def ranknet(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """-log sigmoid((S_i - S_j) / T), averaged over the pairs in which the teacher prefers i to j, [groups].

    A pair's weight is the difference of the teacher's probabilities. Without it, the many pairs of two
    improbable candidates would dominate the loss.
    """
    p = teacher_log_probs.softmax(-1)
    weight = (p[:, :, None] - p[:, None, :]).clamp(min=0)
    difference = (scores[:, :, None] - scores[:, None, :]) / temperature
    pairs = weight * nn.functional.softplus(-difference)
    return pairs.sum((-1, -2)) / weight.sum((-1, -2)).clamp(min=torch.finfo(p.dtype).tiny)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ce": cross_entropy,
    "kl": listwise_kl,
    "ranknet": ranknet,
}
