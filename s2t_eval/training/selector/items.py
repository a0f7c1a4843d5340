"""The steps of labelled texts that a selector is trained on or measured at, with the weight of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s2t_eval.statistics import teacher_gain
from s2t_eval.training.labels import LabelError, Trajectory


@dataclass(frozen=True)
class Anchors:
    """Steps at which the adapted student is to stay near the plain one, of one text.

    Args:
        steps: indices among the generated tokens, ascending, [anchors].
        candidates: the student's most likely tokens, [anchors, n].
        student_log_probs: their log-probabilities under the plain student, [anchors, n].
    """

    steps: Tensor
    candidates: Tensor
    student_log_probs: Tensor


@dataclass(frozen=True)
class Item:
    """One trajectory with the steps that are trained on; each step is a group of K candidates.

    Args:
        text_ids: prompt and text, [text].
        prompt_length: tokens of the prompt.
        steps: indices of the groups' steps among the generated tokens, ascending, [groups].
        candidates: token ids, [groups, K].
        student_log_probs: log-probabilities under the student, [groups, K].
        teacher_log_probs: log-probabilities under the teacher, [groups, K].
        source: shard and row, for messages.
        group_weights: weight of each group in the loss, [groups]; None: 1 each.
        anchors: steps of the regularizer that reads the labels; None without it.
    """

    text_ids: Tensor
    prompt_length: int
    steps: Tensor
    candidates: Tensor
    student_log_probs: Tensor
    teacher_log_probs: Tensor
    source: str
    group_weights: Tensor | None = None
    anchors: Anchors | None = None

    @property
    def weights(self) -> Tensor:
        """Weight of each group, [groups]."""
        return torch.ones(len(self.steps)) if self.group_weights is None else self.group_weights

    @property
    def weight(self) -> float:
        """Weight of this item in a mean over groups: the sum of its groups' weights."""
        return float(self.weights.sum())


def make_items(
    trajectories: Sequence[Trajectory],
    num_candidates: int,
    kl_threshold: float,
    low_kl_fraction: float = 0.0,
    *,
    hit_within: int | None = None,
    with_anchors: bool = False,
    seed: int = 0,
) -> list[Item]:
    """Items of the steps above a KL threshold, and of a random share of the other steps with candidates.

    Args:
        trajectories: labelled texts.
        num_candidates: K; the first K of the labelled candidates are used.
        kl_threshold: a step is used if its KL(p_S || p_L) is above this, nats; minus infinity uses all.
        low_kl_fraction: share of the other labelled steps that is also used (needs labels of
            `--steps all`).
        hit_within: leave out the steps at which the teacher's token is not among so many of the first
            candidates; None keeps all.
        seed: of the draw of the other labelled steps.
        with_anchors: the labelled steps at or below the KL threshold that are not used become anchors.

    Raises:
        LabelError: a step has fewer labelled candidates than `num_candidates`.
    """
    items = []
    for number, row in enumerate(trajectories):
        is_top = row.kl_student_teacher[row.kept] > kl_threshold
        is_used = is_top.copy()
        if low_kl_fraction:
            draws = np.random.default_rng((number, seed)).random(len(is_used))
            is_used |= draws < low_kl_fraction
        is_anchor = ~is_top & ~is_used
        if hit_within is not None:
            is_used &= _is_hit(row, hit_within)
        if not is_used.any():
            continue
        if row.candidates.shape[1] < num_candidates:
            raise LabelError(
                f"{row.source}: expected at least {num_candidates} candidates a "
                f"step, got {row.candidates.shape[1]}; lower --num_candidates"
            )
        items.append(
            Item(
                torch.from_numpy(row.text_ids).long(),
                len(row.prompt_ids),
                torch.from_numpy(row.kept[is_used]).long(),
                torch.from_numpy(row.candidates[is_used][:, :num_candidates]).long(),
                torch.from_numpy(row.student_log_probs[is_used][:, :num_candidates]),
                torch.from_numpy(row.teacher_log_probs[is_used][:, :num_candidates]),
                row.source,
                anchors=_anchors(row, is_anchor) if with_anchors else None,
            )
        )
    return items


def _is_hit(row: Trajectory, num_candidates: int) -> np.ndarray:
    """Whether the teacher's token is among the first K candidates of each kept step."""
    hits: np.ndarray = (row.candidates[:, :num_candidates] == row.teacher_argmax[row.kept][:, None]).any(-1)
    return hits


def _anchors(row: Trajectory, is_anchor: np.ndarray) -> Anchors:
    return Anchors(
        torch.from_numpy(row.kept[is_anchor]).long(),
        torch.from_numpy(row.candidates[is_anchor]).long(),
        torch.from_numpy(row.student_log_probs[is_anchor]),
    )


def with_regret_weights(items: Sequence[Item], share: float) -> list[Item]:
    """Items whose groups are weighted by what the decoder can gain there.

    The regret of a group is log p_L(best) - log p_L(greedy), of the teacher's best candidate and the
    student's own token, in nats. A group weighs 1 - share + share * regret / mean regret. At share 1 the
    groups at which greedy's token is the teacher's have the weight 0 and are left out.

    Args:
        items: with groups of one K.
        share: from 0 (all groups weigh the same) to 1.

    Raises:
        LabelError: the teacher prefers greedy's token at every step.
    """
    if not share:
        return list(items)
    regrets = [_regret(item) for item in items]
    mean = float(torch.cat(regrets).mean())
    if not mean:
        raise LabelError(
            "regret: the teacher prefers the student's own token at every step that is trained on, so no "
            "step has a regret; leave --regret out, or collect more problems"
        )
    weighted = []
    for item, regret in zip(items, regrets, strict=True):
        weights = 1 - share + share * regret / mean
        if bool((weights > 0).any()):
            weighted.append(_of_groups(replace(item, group_weights=weights), weights > 0))
    return weighted


def _regret(item: Item) -> Tensor:
    teacher = item.teacher_log_probs.numpy()
    return torch.from_numpy(teacher_gain(teacher, teacher.argmax(-1))).float()


def _of_groups(item: Item, is_kept: Tensor) -> Item:
    """The item with a part of its groups."""
    return replace(
        item,
        steps=item.steps[is_kept],
        candidates=item.candidates[is_kept],
        student_log_probs=item.student_log_probs[is_kept],
        teacher_log_probs=item.teacher_log_probs[is_kept],
        group_weights=item.weights[is_kept],
    )
