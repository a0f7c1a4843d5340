"""A trajectory and all candidates of its labelled steps packed into one sequence, with one encoded prefix.

The candidates follow the text as branches of one token each. A branch has the position id of its step and
attends to the text before that step and to itself; no other token attends to a branch. Its hidden state is
therefore that of a separate sequence of prefix and candidate (a test compares the two, with gradients).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2t_eval.models.layer_masks import masks_of_layers
from s2t_eval.training.selector.items import Item


class AnchorBatch(NamedTuple):
    """The anchors of a batch's items."""

    positions: Tensor
    """index of the position that predicts each anchor's step in the flattened [batch * seq], [anchors]"""
    candidates: Tensor
    """token ids, [anchors, n]"""
    student_log_probs: Tensor
    """under the plain student, [anchors, n]"""
    weights: Tensor
    """the item's weight over its number of anchors, [anchors]: a sum over anchors is then a mean of each item
    times its weight, as the selection loss is a sum over groups"""


class Batch(NamedTuple):
    """A right-padded batch of items. Indices count positions of the flattened [batch * seq]."""

    input_ids: Tensor
    """each text, then its branches, [batch, seq]"""
    position_ids: Tensor
    """[batch, seq]"""
    attention_mask: Tensor
    """whether a query attends to a key, bool [batch, 1, seq, seq]; sliding windows are not applied yet"""
    step_index: Tensor
    """index of the position that predicts each group's step, [groups]"""
    branch_index: Tensor
    """index of each candidate's branch, [groups, K]; [groups, 0] without branches"""
    text_index: Tensor
    """indices of the positions that predict the generated tokens, [steps of all texts]"""
    text_weights: Tensor
    """the item's weight over its number of such positions, [steps of all texts]; see `AnchorBatch.weights`"""
    candidates: Tensor
    """token ids, [groups, K]"""
    student_log_probs: Tensor
    """[groups, K]"""
    teacher_log_probs: Tensor
    """[groups, K]"""
    weights: Tensor
    """weight of each group in the loss, [groups]"""
    anchors: AnchorBatch
    """the steps of the regularizer that reads the labels; empty without it"""
    sources: list[str]
    """shard and row of each item, for messages"""

    def to(self, device: torch.device) -> Batch:
        """The batch with all tensors on a device."""
        anchors = AnchorBatch(*(value.to(device) for value in self.anchors))
        moved: list[Any] = [value.to(device) if isinstance(value, Tensor) else value for value in self]
        return Batch(*moved)._replace(anchors=anchors)


def pack(items: Sequence[Item], branches: bool, whole_text: bool) -> Batch:
    """Pack items into a batch.

    Args:
        items: at least one.
        branches: whether candidates are appended (score forms that look ahead).
        whole_text: whether the text after the last group is kept (the regularizer needs every position);
            it always is where items have anchors.
    """
    rows = [_Row.make(item, branches, whole_text or item.anchors is not None) for item in items]
    seq = max(len(row.ids) for row in rows)
    shape = (len(rows), seq)
    input_ids = torch.zeros(shape, dtype=torch.long)
    position_ids = torch.zeros(shape, dtype=torch.long)
    # Padding attends to itself: the output of a query without any key would be NaN.
    attention_mask = torch.eye(seq, dtype=torch.bool).repeat(len(rows), 1, 1)
    step_index, branch_index, text_index, text_weights = [], [], [], []
    for number, (row, item) in enumerate(zip(rows, items, strict=True)):
        size = len(row.ids)
        input_ids[number, :size] = row.ids
        position_ids[number, :size] = row.positions
        attention_mask[number, :size, : row.text_length] |= (
            torch.arange(row.text_length) < row.num_visible[:, None]
        )
        offset = number * seq
        step_index.append(offset + item.prompt_length + item.steps - 1)
        groups, k = len(item.steps), item.candidates.shape[1] if branches else 0
        branch_index.append(offset + row.text_length + torch.arange(groups * k).view(groups, k))
        # The last token of a whole text predicts nothing: no generated token follows it.
        text_end = min(row.text_length, len(item.text_ids) - 1)
        text_positions = torch.arange(item.prompt_length - 1, text_end)
        text_index.append(offset + text_positions)
        text_weights.append(torch.full((len(text_positions),), item.weight / len(text_positions)))
    return Batch(
        input_ids,
        position_ids,
        attention_mask[:, None],
        torch.cat(step_index),
        torch.cat(branch_index),
        torch.cat(text_index),
        torch.cat(text_weights),
        torch.cat([item.candidates for item in items]),
        torch.cat([item.student_log_probs for item in items]),
        torch.cat([item.teacher_log_probs for item in items]),
        torch.cat([item.weights for item in items]),
        _anchor_batch(items, seq),
        [item.source for item in items],
    )


def _anchor_batch(items: Sequence[Item], seq: int) -> AnchorBatch:
    none = torch.zeros(0, dtype=torch.long)
    index, anchors, weights = [none], [], [torch.zeros(0)]
    for number, item in enumerate(items):
        if item.anchors is None or not len(item.anchors.steps):
            continue
        anchors.append(item.anchors)
        count = len(item.anchors.steps)
        index.append(number * seq + item.prompt_length + item.anchors.steps - 1)
        weights.append(torch.full((count,), item.weight / count))
    if not anchors:
        return AnchorBatch(none, none[:, None], torch.zeros(0, 1), weights[0])
    return AnchorBatch(
        torch.cat(index),
        torch.cat([part.candidates for part in anchors]),
        torch.cat([part.student_log_probs for part in anchors]),
        torch.cat(weights),
    )


class _Row(NamedTuple):
    """One item's text and branches as a sequence, before padding."""

    ids: Tensor
    """token ids of the text, then of the branches, [seq]"""
    positions: Tensor
    """position ids, [seq]"""
    num_visible: Tensor
    """number of leading tokens of the text that each token attends to, [seq]"""
    text_length: int

    @classmethod
    def make(cls, item: Item, branches: bool, whole_text: bool) -> _Row:
        needed = item.prompt_length + int(item.steps[-1])
        text = item.text_ids if whole_text else item.text_ids[:needed]
        positions = torch.arange(len(text))
        if not branches:
            return cls(text, positions, positions + 1, len(text))
        branch_positions = (item.prompt_length + item.steps).repeat_interleave(item.candidates.shape[1])
        return cls(
            torch.cat([text, item.candidates.flatten()]),
            torch.cat([positions, branch_positions]),
            torch.cat([positions + 1, branch_positions]),
            len(text),
        )


def attention_masks(config: Any, batch: Batch, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """The attention masks of a batch, in the form that a transformers model of this config takes.

    There is one mask for every kind of layer; masks are additive for the eager attention implementation.
    """

    def mask_of(window: int | None) -> Tensor:
        if window is None:
            return batch.attention_mask
        position = batch.position_ids[:, None]
        return batch.attention_mask & (position[..., :, None] - position[..., None, :] < window)

    return masks_of_layers(config, mask_of, dtype)
