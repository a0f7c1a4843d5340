"""`--method tsd_kd`: token-selective dual distillation (TSD-KD, arXiv 2603.13260)."""

from __future__ import annotations

import torch
from torch import Tensor

from s2t_eval.training.distil.losses import Positions, entropy_of, jensen_shannon

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


def term_weights(entropy: Tensor) -> Tensor:
    """Weights of the indirect and the entropy term, [steps, 2]; a column's mean is the term's weight.

    Args:
        entropy: the student's entropy at every step of a text, nats, [steps].
    """
    entropy_before = entropy.cumsum(-1) - entropy
    is_opening = entropy_before < OPENING_FRACTION * entropy.sum()
    is_opening[0] = True  # also where every entropy is 0
    is_uncertain = entropy >= entropy.quantile(LOW_ENTROPY_QUANTILE)
    masks = torch.stack([is_opening, is_uncertain], -1).float()
    return masks / masks.mean(0) * masks.new_tensor([RANKING_WEIGHT, 1.0])


def token_selective(positions: Positions, beta: float = 0.9) -> Tensor:
    """The weighted sum of three terms, [positions], each a mean over the positions that it applies to.

    - direct, at all positions: JSD_beta(p_T, p_S), times sigmoid(H_S - H_T) without gradient, so that
      positions at which the teacher has a lower entropy than the student weigh more;
    - indirect, with weight 0.1, in the opening of the text: the Plackett-Luce loss of the student's ten most
      likely tokens in the teacher's order;
    - entropy: the student's entropy, except at the tenth of positions where it is lowest.

    Args:
        positions: positions of the student's own texts, with `term_weights`.
        beta: beta of the direct term, strictly between 0 and 1.
    """
    student, teacher = positions.student_log_probs, positions.teacher_log_probs
    entropy = entropy_of(student)
    direct_weight = torch.sigmoid(entropy.detach() - entropy_of(teacher))
    direct = direct_weight * jensen_shannon(teacher, student, beta)
    top = student.topk(min(NUM_RANKED, student.shape[-1]), -1)
    teacher_order = teacher.gather(-1, top.indices).argsort(-1, descending=True)
    indirect = plackett_luce(top.values.gather(-1, teacher_order))
    return direct + positions.weights[:, 0] * indirect + positions.weights[:, 1] * entropy
