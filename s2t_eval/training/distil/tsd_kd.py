"""`--method tsd_kd`: token-selective dual distillation (TSD-KD, arXiv 2603.13260)."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from s2t_eval.training.distil.jsd import jensen_shannon
from s2t_eval.training.distil.method import Positions, entropy_of

NUM_RANKED = 10
"""Number of the student's most likely tokens that are ranked by the teacher's probabilities."""

RANKING_WEIGHT = 0.1
"""Weight of the ranking term."""

OPENING_FRACTION = 0.1
"""The opening of a text ends where this share of its summed entropy is reached."""

LOW_ENTROPY_QUANTILE = 0.1
"""The entropy term leaves out positions below this quantile of the text's entropies."""


def plackett_luce(scores: Tensor) -> Tensor:
    """Negative log-likelihood that sampling without replacement by softmax(scores) gives columns 0, 1, 2, ...

    The first sample is from all columns, the next from those that remain, so the sum in each denominator
    runs from a column to the *end*. (The published code of TSD-KD sums from the beginning. That is the
    likelihood of the reverse order, and it favours an inverted ranking.)

    Args:
        scores: scores in the desired order, from left to right, [..., n].
    """
    remaining = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (remaining - scores).sum(-1)


class TokenSelectiveKd:
    """The sum of three terms, each a mean over the positions of a text that it applies to.

    - direct, at all positions: JSD_beta(p_T, p_S), times sigmoid(H_S - H_T) without gradient, so that
      positions at which the teacher has a lower entropy than the student weigh more;
    - indirect, with weight 0.1, in the opening of the text: the Plackett-Luce loss of the student's ten most
      likely tokens in the teacher's order;
    - entropy: the student's entropy, except at the tenth of positions where it is lowest.

    Args:
        beta: beta of the direct term, strictly between 0 and 1.

    Raises:
        ValueError: beta is outside its range.
    """

    name: Final = "tsd_kd"
    text_source: Final[Literal["student"]] = "student"
    needs_teacher: Final = True
    needs_entropy: Final = True

    def __init__(self, beta: float = 0.9) -> None:
        if not 0 < beta < 1:
            raise ValueError(f"beta: expected a number between 0 and 1, got {beta}")
        self.beta = beta

    def position_weights(self, entropy: Tensor) -> Tensor:
        """Weights of the indirect and the entropy term, [steps, 2]; a column's mean is the term's weight."""
        entropy_before = entropy.cumsum(-1) - entropy
        is_opening = entropy_before < OPENING_FRACTION * entropy.sum()
        is_opening[0] = True  # also where every entropy is 0
        is_uncertain = entropy >= entropy.quantile(LOW_ENTROPY_QUANTILE)
        masks = torch.stack([is_opening, is_uncertain], -1).float()
        return masks / masks.mean(0) * masks.new_tensor([RANKING_WEIGHT, 1.0])

    def losses(self, positions: Positions) -> Tensor:
        """The weighted sum of the three terms, [positions]."""
        student, teacher = positions.student_log_probs, positions.teacher_log_probs
        entropy = entropy_of(student)
        direct_weight = torch.sigmoid(entropy.detach() - entropy_of(teacher))
        direct = direct_weight * jensen_shannon(teacher, student, self.beta)
        top = student.topk(min(NUM_RANKED, student.shape[-1]), -1)
        teacher_order = teacher.gather(-1, top.indices).argsort(-1, descending=True)
        indirect = plackett_luce(top.values.gather(-1, teacher_order))
        return direct + positions.weights[:, 0] * indirect + positions.weights[:, 1] * entropy
