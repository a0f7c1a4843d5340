"""Teacher labels of every step of a text, from one prefill (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.engine import ModelRunner
from s2t_eval.selection.triggers import kl_divergence
from s2t_eval.training.step_states import by_chunks, step_states

CHUNK = 128
"""Positions whose logits over the whole vocabulary exist at once."""


class StepLabels(NamedTuple):
    """Labels of every step of one text, on the CPU."""

    kl_student_teacher: Tensor
    """KL(p_S || p_L), nats, float32 [steps]"""
    kl_teacher_student: Tensor
    """KL(p_L || p_S), nats, float32 [steps]"""
    teacher_argmax: Tensor
    """the teacher's most likely token, int32 [steps]"""
    teacher_log_probs: Tensor
    """log-probabilities of the student's first n tokens, over the teacher's whole text vocabulary,
    float32 [steps, n]"""


def label_texts(
    teacher: ModelRunner,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    top_ids: Sequence[Tensor],
    top_log_probs: Sequence[Tensor],
    num_candidates: int,
) -> list[StepLabels]:
    """Label texts with one teacher prefill each.

    Args:
        teacher: a model whose text vocabulary is the student's.
        prompts: the teacher's prompt of each text.
        outputs: the tokens that the student generated.
        top_ids: the student's most likely tokens at each step, [steps, m] a text.
        top_log_probs: their log-probabilities under the student, [steps, m] a text.
        num_candidates: n, the number of these tokens that are candidates.

    Returns:
        Labels of each text. Both divergences are computed over the m tokens, with both distributions
        renormalised to them, as in `KlTrigger`.
    """
    texts = zip(step_states(teacher, prompts, outputs), top_ids, top_log_probs, strict=True)
    return [
        _label(teacher, states, ids.long(), log_probs, num_candidates) for states, ids, log_probs in texts
    ]


@torch.inference_mode()
def _label(
    teacher: ModelRunner, states: Tensor, ids: Tensor, log_probs: Tensor, num_candidates: int
) -> StepLabels:
    def labels_of_chunk(states: Tensor, ids: Tensor, log_probs: Tensor) -> StepLabels:
        logits = teacher.head(states)
        student_log_probs = log_probs.to(logits.device)
        teacher_logits = logits.gather(-1, ids.to(logits.device))
        log_total = logits.logsumexp(-1, keepdim=True)
        return StepLabels(
            kl_divergence(student_log_probs, teacher_logits),
            kl_divergence(teacher_logits, student_log_probs),
            logits.argmax(-1).int(),
            teacher_logits[:, :num_candidates] - log_total,
        )

    columns = by_chunks(labels_of_chunk, states, ids, log_probs, size=CHUNK)
    return StepLabels(*(column.cpu() for column in columns))
