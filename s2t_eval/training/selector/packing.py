"""A trajectory and all candidates of its labelled steps in one sequence: the prefix is encoded once.

Behind the text stand the candidates as branches. A branch has the position of the step it hangs at and
sees the text before that step, and itself; nothing sees a branch. So its hidden state is the one that a
sequence of its own, prefix and candidate, would give (a twin test holds this, gradients included).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2t_eval.training.labels import LabelError, Trajectory


@dataclass(frozen=True)
class Item:
    """One trajectory with the steps to learn from.

    Args:
        text_ids: prompt and text, [text].
        prompt_length: tokens of the prompt.
        steps: generated-token indices of the groups, ascending, [groups].
        candidates: [groups, K].
        student_log_probs: [groups, K].
        teacher_log_probs: [groups, K].
        source: shard and row, for messages.
    """

    text_ids: Tensor
    prompt_length: int
    steps: Tensor
    candidates: Tensor
    student_log_probs: Tensor
    teacher_log_probs: Tensor
    source: str

    @property
    def weight(self) -> float:
        """Its share in a mean over groups."""
        return float(len(self.steps))


def make_items(
    trajectories: Sequence[Trajectory], num_candidates: int, kl_above: float, quiet: float = 0.0
) -> list[Item]:
    """Items of the steps above a divergence, and of a random share of the others that have candidates.

    Args:
        trajectories: labelled texts.
        num_candidates: K; the student's first K of the kept candidates.
        kl_above: KL(p_S || p_L) in nats from which a step is used; minus infinity uses all.
        quiet: share of the remaining kept steps that is used too (needs labels with `--steps all`).

    Raises:
        LabelError: fewer candidates are kept than asked for.
    """
    items = []
    for number, row in enumerate(trajectories):
        is_top = row.kl_student_teacher[row.kept] > kl_above
        if quiet:
            draws = np.random.default_rng(number).random(len(is_top))
            is_top |= draws < quiet
        if not is_top.any():
            continue
        if row.candidates.shape[1] < num_candidates:
            raise LabelError(
                f"labels: shard {row.shard}, row {row.row}: {row.candidates.shape[1]} candidates a step, "
                f"{num_candidates} are asked for; lower --num_candidates"
            )
        used = slice(None, num_candidates)
        items.append(
            Item(
                torch.from_numpy(row.text_ids).long(),
                len(row.prompt_ids),
                torch.from_numpy(row.kept[is_top]).long(),
                torch.from_numpy(row.candidates[is_top][:, used]).long(),
                torch.from_numpy(row.student_log_probs[is_top][:, used]),
                torch.from_numpy(row.teacher_log_probs[is_top][:, used]),
                f"{row.shard}, row {row.row} ({row.problem_id})",
            )
        )
    return items


class Batch(NamedTuple):
    """Some items as one right-padded batch."""

    input_ids: Tensor
    """[batch, seq]: each text, then its branches"""
    position_ids: Tensor
    """[batch, seq]"""
    sees: Tensor
    """bool [batch, 1, seq, seq]: query sees key; windows of sliding layers still to be applied"""
    step_at: Tensor
    """where the state that decides each group's step stands in the flat [batch * seq], [groups]"""
    branch_at: Tensor
    """where each candidate stands there, [groups, K]; without branches [groups, 0]"""
    text_at: Tensor
    """where the generated part's deciding states stand there, [steps of all texts]"""
    candidates: Tensor
    student_log_probs: Tensor
    teacher_log_probs: Tensor
    """[groups, K] each"""
    sources: list[str]

    def to(self, device: torch.device) -> Batch:
        """All tensors on a device."""
        moved: list[Any] = [value.to(device) if isinstance(value, Tensor) else value for value in self]
        return Batch(*moved)


def pack(items: Sequence[Item], branches: bool, whole_text: bool) -> Batch:
    """Lay items out as a batch.

    Args:
        items: at least one.
        branches: whether candidates are appended (score forms that look ahead).
        whole_text: keep the text behind the last group (the regularizer needs every position).
    """
    rows = [_Row.make(item, branches, whole_text) for item in items]
    seq = max(len(row.ids) for row in rows)
    shape = (len(rows), seq)
    input_ids = torch.zeros(shape, dtype=torch.long)
    position_ids = torch.zeros(shape, dtype=torch.long)
    # Padding sees itself alone: a query that sees nothing would be NaN.
    sees = torch.eye(seq, dtype=torch.bool).repeat(len(rows), 1, 1)
    step_at, branch_at, text_at = [], [], []
    for number, (row, item) in enumerate(zip(rows, items, strict=True)):
        size = len(row.ids)
        input_ids[number, :size] = row.ids
        position_ids[number, :size] = row.positions
        sees[number, :size, : row.text] |= torch.arange(row.text) < row.horizon[:, None]
        base = number * seq
        step_at.append(base + item.prompt_length + item.steps - 1)
        lanes = item.candidates.shape[1] if branches else 0
        count = len(item.steps)
        branch_at.append(base + row.text + torch.arange(count * lanes).view(count, lanes))
        text_at.append(base + torch.arange(item.prompt_length - 1, row.text))
    return Batch(
        input_ids,
        position_ids,
        sees[:, None],
        torch.cat(step_at),
        torch.cat(branch_at),
        torch.cat(text_at),
        torch.cat([item.candidates for item in items]),
        torch.cat([item.student_log_probs for item in items]),
        torch.cat([item.teacher_log_probs for item in items]),
        [item.source for item in items],
    )


class _Row(NamedTuple):
    """One item's tokens, their positions, and before which text position each can see."""

    ids: Tensor
    positions: Tensor
    horizon: Tensor
    text: int

    @classmethod
    def make(cls, item: Item, branches: bool, whole_text: bool) -> _Row:
        needed = item.prompt_length + int(item.steps[-1])
        text = item.text_ids if whole_text else item.text_ids[:needed]
        positions = torch.arange(len(text))
        if not branches:
            return cls(text, positions, positions + 1, len(text))
        behind = (item.prompt_length + item.steps).repeat_interleave(item.candidates.shape[1])
        return cls(
            torch.cat([text, item.candidates.flatten()]),
            torch.cat([positions, behind]),
            torch.cat([positions + 1, behind]),
            len(text),
        )


def attention_masks(config: Any, batch: Batch, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """The masks that a transformers model of this config takes for a batch.

    One for every kind of layer; additive where the model attends with the eager implementation.
    """
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    masks = {}
    for kind in layers:
        sees = batch.sees
        if kind == "sliding_attention":
            position = batch.position_ids[:, None]
            near = position[..., :, None] - position[..., None, :] < config.sliding_window
            sees = sees & near
        if config._attn_implementation == "eager":
            masks[kind] = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(
                ~sees, torch.finfo(dtype).min
            )
        else:
            masks[kind] = sees
    return masks if len(layers) > 1 or "full_attention" not in layers else masks["full_attention"]
