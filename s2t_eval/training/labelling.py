"""What a teacher makes of every step of a text, from one prefill (section 4 of the paper: labels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.engine import ModelRunner
from s2t_eval.selection.triggers import kl_divergence

CHUNK = 128
"""Positions whose logits over the whole vocabulary exist at once."""


class StepLabels(NamedTuple):
    """Of every step of one text; all on the CPU."""

    kl_student_teacher: Tensor
    """nats, float32 [steps]"""
    kl_teacher_student: Tensor
    """nats, float32 [steps]"""
    teacher_argmax: Tensor
    """int32 [steps]"""
    teacher_log_probs: Tensor
    """of the student's first `num_candidates` tokens, over the whole text vocabulary, [steps, n]"""


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
        teacher: its text vocabulary is the student's.
        prompts: the teacher's prompt of each text.
        outputs: the student's tokens after it.
        top_ids: the student's most likely tokens at each step, [steps, m] each.
        top_log_probs: their log-probabilities under the student, [steps, m] each.
        num_candidates: how many of them are kept as candidates.

    Returns:
        Labels of each text. The divergences run over the m tokens, both sides renormalised, as
        `KlTrigger` has it.
    """
    # The state that decides step t is the one at the token before it; the last token is never needed.
    texts = [[*prompt, *output[:-1]] for prompt, output in zip(prompts, outputs, strict=True)]
    labels = []
    for states, output, ids, log_probs in zip(
        teacher.encode(texts), outputs, top_ids, top_log_probs, strict=True
    ):
        steps = states[len(states) - len(output) :]
        labels.append(_label(teacher, steps, ids.long(), log_probs, num_candidates))
    return labels


@torch.inference_mode()
def _label(
    teacher: ModelRunner, states: Tensor, ids: Tensor, log_probs: Tensor, num_candidates: int
) -> StepLabels:
    parts = []
    for part in range(0, len(states), CHUNK):
        at = slice(part, part + CHUNK)
        logits = teacher.head(states[at])
        ours, theirs = log_probs[at].to(logits.device), logits.gather(-1, ids[at].to(logits.device))
        total = logits.logsumexp(-1, keepdim=True)
        parts.append(
            StepLabels(
                kl_divergence(ours, theirs),
                kl_divergence(theirs, ours),
                logits.argmax(-1).int(),
                theirs[:, :num_candidates] - total,
            )
        )
    return StepLabels(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
