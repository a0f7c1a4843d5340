"""Agreement of a selector's scores with the teacher on held-out groups (section 5: Agree@1, Spearman)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from s2t_eval.selection.scores import with_proposal
from s2t_eval.statistics import mean_rank_correlation, teacher_gain
from s2t_eval.training.selector.items import Item
from s2t_eval.training.selector.losses import LOSSES
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.settings import SelectorSettings

PROPOSAL_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Weights of the proposer's log-probability that are compared on held-out texts."""
SCORED_AT_ONCE = 8
"""Texts that are scored in one forward pass."""
SHOWN_AFTER = 10
"""Seconds after which progress is shown: with all candidates of all steps appended, a text takes seconds."""


@torch.inference_mode()
def score_items(model: SelectorModel, items: Sequence[Item], batch_size: int | None = None) -> list[Tensor]:
    """Scores of every item's candidates, [groups, K] each, on the CPU.

    Args:
        model: the selector.
        items: their groups are scored.
        batch_size: items of a forward pass. None: `SCORED_AT_ONCE`, or one where candidates are appended,
            because attention over the branches of a text needs much memory.
    """
    if batch_size is None:
        batch_size = 1 if model.settings.looks_ahead else SCORED_AT_ONCE
    return _by_item(lambda part: model.scores(model.pack(part)), items, batch_size)


@torch.inference_mode()
def own_logits(model: SelectorModel, items: Sequence[Item]) -> list[Tensor]:
    """The adapted model's logits of every item's candidates at their steps, [groups, K] each."""
    return _by_item(lambda part: model.own_logits(model.pack_steps(part)), items, SCORED_AT_ONCE)


def _by_item(
    function: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], batch_size: int
) -> list[Tensor]:
    """The rows that a function gives for the groups of some items at a time, on the CPU, one tensor each."""
    rows: list[Tensor] = []
    with tqdm(total=len(items), desc="Scoring texts", leave=False, delay=SHOWN_AFTER) as bar:
        for begin in range(0, len(items), batch_size):
            part = items[begin : begin + batch_size]
            rows.extend(function(part).float().cpu().split([len(item.steps) for item in part]))
            bar.update(len(part))
    return rows


def proposed_by_tuned(model: SelectorModel, items: Sequence[Item]) -> list[Item]:
    """The items as proposer `tuned` has them: with the adapted model's logits as log-probabilities.

    Only the labelled tokens, the student's first K, are its candidates. A constant of a step does not change
    its ranking.
    """
    logits = own_logits(model, items)
    return [replace(item, student_log_probs=own) for item, own in zip(items, logits, strict=True)]


def tuned_agreement(
    model: SelectorModel, items: Sequence[Item], item_scores: Sequence[Tensor] | None = None
) -> float:
    """Agreement with the teacher by the rule of proposer `tuned`, whose scores decoding takes as they are.

    Args:
        model: the selector.
        items: at least one.
        item_scores: their scores, [groups, K] each, where they are known; None computes them.
    """
    if model.settings.form == "residual":  # its score contains the proposer's log-probability
        item_scores = score_items(model, proposed_by_tuned(model, items))
    elif item_scores is None:
        item_scores = score_items(model, items)
    return agreement_of(item_scores, items, model.settings)["agree@1"]


def agreement_of(
    item_scores: Sequence[Tensor],
    items: Sequence[Item],
    settings: SelectorSettings,
    proposal_weight: float = 0.0,
) -> dict[str, float]:
    """Held-out metrics: agree@1, the agreement of greedy decoding, Spearman, loss, and the number of groups.

    The teacher's best token is taken among the item's candidates. Agreement and Spearman's correlation are
    those of the scores by which decoding ranks, with this `proposal_weight`; the loss is that of training.

    Args:
        item_scores: scores of each item's groups, [groups, K] each.
        items: the scored items, in the same order.
        settings: with the loss and its temperature.
        proposal_weight: the student's log-probability is added to a score with this weight.
    """
    if not items:
        return {"groups": 0}
    scores = torch.cat(list(item_scores))
    ranking = ranking_scores(scores, items, proposal_weight)
    teacher = torch.cat([item.teacher_log_probs for item in items])
    loss = LOSSES[settings.loss](scores, teacher, settings.effective_temperature)
    best = teacher.argmax(-1)
    return {
        "agree@1": float((ranking.argmax(-1) == best).float().mean()),
        "greedy_agree@1": float((best == 0).float().mean()),
        # 0 where no group has an order: metrics are finite numbers
        "spearman": float(np.nan_to_num(mean_rank_correlation(ranking.numpy(), teacher.numpy()))),
        "loss": float(loss.mean()),
        "groups": len(best),
    }


def gains(scores: Tensor, items: Sequence[Item], proposal_weight: float = 0.0) -> np.ndarray:
    """The gain of each step's selected token, nats [groups]; see `statistics.teacher_gain`.

    Args:
        scores: scores of all items' groups, [groups, K].
        items: the same groups in the same order.
        proposal_weight: the student's log-probability is added to a score with this weight.
    """
    teacher = torch.cat([item.teacher_log_probs for item in items])
    selected = ranking_scores(scores, items, proposal_weight).argmax(-1)
    return teacher_gain(teacher.numpy(), selected.numpy())


def ranking_scores(scores: Tensor, items: Sequence[Item], proposal_weight: float) -> Tensor:
    """The scores by which decoding ranks the candidates of all items' groups, [groups, K]."""
    return with_proposal(scores, torch.cat([item.student_log_probs for item in items]), proposal_weight)


def best_proposal_weight(scores: Tensor, items: Sequence[Item]) -> float:
    """The weight of `PROPOSAL_WEIGHTS` with the largest gain at these groups; of equal ones the smallest."""
    return max(PROPOSAL_WEIGHTS, key=lambda weight: float(gains(scores, items, weight).sum()))
