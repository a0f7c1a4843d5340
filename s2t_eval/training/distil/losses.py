"""Losses of the distillation methods at every position, as functions of two distributions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Positions(NamedTuple):
    """Some positions of a text, over the text vocabulary that student and teacher share."""

    student_log_probs: Tensor
    """float32 [positions, vocab], with gradient"""
    teacher_log_probs: Tensor
    """float32 [positions, vocab], without gradient; [positions, 0] for methods that do not need them"""
    next_ids: Tensor
    """the text's next token, [positions]"""
    weights: Tensor
    """the method's `position_weights` at these positions, [positions, m]; [positions, 0] without them"""


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, from log-probabilities [..., vocab]."""
    return (p.exp() * (p - q)).sum(-1)


def entropy_of(log_probs: Tensor) -> Tensor:
    """Entropy in nats, from log-probabilities [..., vocab]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def jensen_shannon(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, nats.

    Divided by beta, it tends to KL(p || q) for beta -> 0; divided by 1 - beta, to KL(q || p) for beta -> 1.

    Args:
        p: log-probabilities [..., vocab]; in distillation the teacher's.
        q: log-probabilities [..., vocab].
        beta: strictly between 0 and 1.
    """
    mixture = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)


def forward_kl(positions: Positions) -> Tensor:
    """KL(p_T || p_S), [positions]: word-level knowledge distillation.

    It is large where a token is likely for the teacher only.
    """
    return kl(positions.teacher_log_probs, positions.student_log_probs)


def reverse_kl(positions: Positions) -> Tensor:
    """KL(p_S || p_T), [positions], as in MiniLLM, without its sampling.

    It is large where a token is likely for the student only.
    """
    return kl(positions.student_log_probs, positions.teacher_log_probs)


def generalized_jsd(positions: Positions, beta: float = 0.5) -> Tensor:
    """JSD_beta(p_T, p_S), [positions]: the generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649).

    This is GKD on a fixed data set: the texts are the label set's trajectories, which the student generated
    before training, whereas GKD samples new texts during training.

    Args:
        positions: positions of the student's own texts.
        beta: strictly between 0 and 1; the gradient is close to that of the forward KL for a beta near 0,
            and to that of the reverse KL for a beta near 1.
    """
    return jensen_shannon(positions.teacher_log_probs, positions.student_log_probs, beta)


def cross_entropy(positions: Positions) -> Tensor:
    """-log p_S(next token), [positions]: supervised fine-tuning."""
    return -positions.student_log_probs.gather(-1, positions.next_ids[:, None])[:, 0]
