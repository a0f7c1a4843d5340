"""Losses over groups of candidates: scores against what the teacher thinks of them (section 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from s2t_eval.training.selector.settings import LossName


def cross_entropy(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """-log softmax(S / T) of the teacher's best candidate, [groups] from [groups, K] (the paper's L_sel)."""
    best = teacher_log_probs.argmax(-1)
    return nn.functional.cross_entropy(scores / temperature, best, reduction="none")


def listwise_kl(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """KL of the teacher's distribution over the candidates and softmax(S / T), nats, [groups]."""
    target = teacher_log_probs.log_softmax(-1)
    found = (scores / temperature).log_softmax(-1)
    return (target.exp() * (target - found)).sum(-1)


def ranknet(scores: Tensor, teacher_log_probs: Tensor, temperature: float) -> Tensor:
    """-log sigmoid((S_i - S_j) / T) over pairs the teacher orders i before j, [groups].

    Pairs count by how much more probable the teacher finds the first, so that the order of candidates
    that it rules out both does not drown the rest.
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
