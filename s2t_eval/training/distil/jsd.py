"""`--method jsd`: the generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649)."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_plan


def jensen_shannon(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, nats.

    Divided by beta it becomes KL(p || q) for beta -> 0; divided by 1 - beta, KL(q || p) for beta -> 1.

    Args:
        p: log-probabilities [..., vocab]; in distillation the teacher's.
        q: log-probabilities [..., vocab].
        beta: strictly between 0 and 1.
    """
    mixture = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)


class JensenShannon:
    """JSD_beta(p_T, p_S) at every position of the student's own texts.

    GKD on data that is written once: the label set's trajectories are the student's greedy texts as it
    was before training (GKD draws new ones as it goes).

    Args:
        beta: strictly between 0 and 1; the gradient leans to forward KL near 0, to reverse KL near 1.

    Raises:
        ValueError: a beta outside.
    """

    name: Final = "jsd"
    texts: Final[Literal["student"]] = "student"
    reads_teacher: Final = True
    reads_entropy: Final = False

    def __init__(self, beta: float = 0.5) -> None:
        if not 0 < beta < 1:
            raise ValueError(f"beta: expected a number between 0 and 1 (kd and reverse_kl), got {beta}")
        self.beta = beta

    def plan(self, entropy: Tensor) -> Tensor:
        """Every position counts the same."""
        return no_plan(entropy)

    def losses(self, at: Positions) -> Tensor:
        """JSD_beta(p_T, p_S), [positions]."""
        return jensen_shannon(at.teacher, at.student, self.beta)
