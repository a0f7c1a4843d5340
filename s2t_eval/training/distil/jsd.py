"""`--method jsd`: the generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649)."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_weights


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


class JensenShannon:
    """JSD_beta(p_T, p_S) at every position of the student's own texts.

    This is GKD on a fixed data set: the texts are the label set's trajectories, which the student generated
    before training, whereas GKD samples new texts during training.

    Args:
        beta: strictly between 0 and 1; the gradient is close to that of the forward KL for a beta near 0,
            and to that of the reverse KL for a beta near 1.

    Raises:
        ValueError: beta is outside its range.
    """

    name: Final = "jsd"
    text_source: Final[Literal["student"]] = "student"
    needs_teacher: Final = True
    needs_entropy: Final = False

    def __init__(self, beta: float = 0.5) -> None:
        if not 0 < beta < 1:
            raise ValueError(f"beta: expected a number between 0 and 1 (kd and reverse_kl), got {beta}")
        self.beta = beta

    def position_weights(self, entropy: Tensor) -> Tensor:
        """No weights: all positions count equally."""
        return no_weights(entropy)

    def losses(self, positions: Positions) -> Tensor:
        """JSD_beta(p_T, p_S), [positions]."""
        return jensen_shannon(positions.teacher_log_probs, positions.student_log_probs, self.beta)
