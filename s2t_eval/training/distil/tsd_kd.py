"""`--method tsd_kd`: token-selective dual distillation (TSD-KD, arXiv 2603.13260)."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from s2t_eval.training.distil.jsd import jensen_shannon
from s2t_eval.training.distil.method import Positions, entropy_of

TOP = 10
"""The student's candidates that the teacher puts in order."""

RANKING_WEIGHT = 0.1
OPENING = 0.1
"""The opening span ends where this share of the text's summed entropy is reached."""

SURE = 0.1
"""Positions below this quantile of the text's entropies are sure already; the others are sharpened."""


def plackett_luce(scores: Tensor) -> Tensor:
    """-log probability that drawing without replacement by softmax(scores) gives columns 0, 1, 2, ...

    The first draw is out of all columns, the next out of those that remain: the sum in each denominator
    runs from a column to the *end*. (The published code of TSD-KD sums from the beginning, which is
    the likelihood of the reverse order of drawing, and rewards a ranking upside down.)

    Args:
        scores: wanted order from left to right, [..., n].
    """
    remaining = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (remaining - scores).sum(-1)


class TokenSelectiveKd:
    """Three terms, each a mean over the positions of a text that it concerns.

    - direct: JSD_beta(p_T, p_S), times sigmoid(H_S - H_T) without gradient: tokens at which the teacher
      is surer than the student count more;
    - indirect, weight 0.1, in the opening of the text: Plackett-Luce of the student's own first ten
      tokens in the order in which the teacher has them;
    - the student's entropy, where it is not among the text's lowest tenth.

    Args:
        beta: of the direct term, strictly between 0 and 1.

    Raises:
        ValueError: a beta outside.
    """

    name: Final = "tsd_kd"
    texts: Final[Literal["student"]] = "student"
    reads_teacher: Final = True
    reads_entropy: Final = True

    def __init__(self, beta: float = 0.9) -> None:
        if not 0 < beta < 1:
            raise ValueError(f"beta: expected a number between 0 and 1, got {beta}")
        self.beta = beta

    def plan(self, entropy: Tensor) -> Tensor:
        """Weights of the indirect and the entropy term, [steps, 2]; each column's mean is its weight."""
        before = entropy.cumsum(-1) - entropy
        # The first position is always in the opening, also where every entropy is 0.
        opening = (before < OPENING * entropy.sum()) | (
            torch.arange(len(entropy), device=entropy.device) == 0
        )
        unsure = entropy >= entropy.quantile(SURE)
        masks = torch.stack([opening, unsure], -1).float()
        return masks / masks.mean(0) * masks.new_tensor([RANKING_WEIGHT, 1.0])

    def losses(self, at: Positions) -> Tensor:
        """The three terms' weighted sum, [positions]."""
        entropy = entropy_of(at.student)
        doubt = torch.sigmoid(entropy.detach() - entropy_of(at.teacher))
        direct = doubt * jensen_shannon(at.teacher, at.student, self.beta)
        first = at.student.topk(min(TOP, at.student.shape[-1]), -1)
        order = at.teacher.gather(-1, first.indices).argsort(-1, descending=True)
        indirect = plackett_luce(first.values.gather(-1, order))
        return direct + at.weights[:, 0] * indirect + at.weights[:, 1] * entropy
