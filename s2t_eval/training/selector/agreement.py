"""How well scores agree with a teacher on held-out groups (section 5: Agree@1, Spearman)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from s2t_eval.statistics import teacher_gain
from s2t_eval.training.selector.losses import LOSSES
from s2t_eval.training.selector.model import SelectorModel, SelectorSettings
from s2t_eval.training.selector.packing import Item


@torch.inference_mode()
def score_items(model: SelectorModel, items: Sequence[Item], batch_size: int) -> list[Tensor]:
    """Scores of every item's candidates, [groups, K] each, on the CPU."""
    scores: list[Tensor] = []
    for begin in range(0, len(items), batch_size):
        part = items[begin : begin + batch_size]
        found = model.scores(model.pack(part)).float().cpu()
        scores.extend(found.split([len(item.steps) for item in part]))
    return scores


@torch.inference_mode()
def own_logits(model: SelectorModel, items: Sequence[Item]) -> list[Tensor]:
    """The adapted model's logits of every item's candidates before any is appended, [groups, K] each."""
    return [model.own_logits(model.pack([item])).float().cpu() for item in items]


def agreement(model: SelectorModel, items: Sequence[Item], batch_size: int = 1) -> dict[str, float]:
    """Held-out figures: agree@1, greedy's own agreement, Spearman, loss, and the number of groups.

    The teacher's best is taken among the item's own candidates.
    """
    return agreement_of(score_items(model, items, batch_size), items, model.settings)


def agreement_of(
    item_scores: Sequence[Tensor], items: Sequence[Item], settings: SelectorSettings
) -> dict[str, float]:
    """The figures of `agreement` from scores of each item's groups, [groups, K] each."""
    if not items:
        return {"groups": 0}
    scores = torch.cat(list(item_scores))
    teacher = torch.cat([item.teacher_log_probs for item in items])
    loss = LOSSES[settings.loss](scores, teacher, settings.effective_temperature)
    best = teacher.argmax(-1)
    return {
        "agree@1": float((scores.argmax(-1) == best).float().mean()),
        "greedy_agree@1": float((best == 0).float().mean()),
        "spearman": spearman(scores.numpy(), teacher.numpy()),
        "loss": float(loss.mean()),
        "groups": len(best),
    }


def gains(scores: Tensor, items: Sequence[Item], proposal_weight: float = 0.0) -> np.ndarray:
    """What the pick of each step gains, nats [groups]; see `statistics.teacher_gain`.

    Args:
        scores: of all items' groups, [groups, K].
        items: with the same groups in the same order.
        proposal_weight: how much of the student's log-probability is added to a score.
    """
    student = torch.cat([item.student_log_probs for item in items])
    teacher = torch.cat([item.teacher_log_probs for item in items])
    picked = (scores + proposal_weight * student).argmax(-1)
    return teacher_gain(teacher.numpy(), picked.numpy())


def spearman(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean rank correlation within groups [groups, K]; groups without any order are left out."""
    left, right = rankdata(scores, axis=-1), rankdata(targets, axis=-1)
    left -= left.mean(-1, keepdims=True)
    right -= right.mean(-1, keepdims=True)
    norm = np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
    has_order = norm > 0
    return float(((left * right).sum(-1)[has_order] / norm[has_order]).mean()) if has_order.any() else 0.0
