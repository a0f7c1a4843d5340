"""Texts for distillation: each as the continuation of the student's prompt and of the teacher's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2t_eval.training.labels import Trajectory


@dataclass(frozen=True)
class Item:
    """One text with the student's prompt and the teacher's prompt.

    Args:
        prompt_ids: the student's prompt, [prompt].
        teacher_prompt_ids: the teacher's prompt, which may contain privileged context, [teacher prompt].
        output_ids: the text, with its stop token, [steps].
        source: shard and row, for messages.
    """

    prompt_ids: Tensor
    teacher_prompt_ids: Tensor
    output_ids: Tensor
    source: str

    @property
    def weight(self) -> float:
        """Weight of this item in a mean over steps: its number of steps."""
        return float(len(self.output_ids))


def make_items(
    trajectories: Sequence[Trajectory], outputs: Mapping[str, Sequence[int]] | None = None
) -> list[Item]:
    """Items of labelled problems.

    Args:
        trajectories: the problems, with the student's texts.
        outputs: problem id -> token ids of a text that replaces the student's, such as the teacher's own;
            None keeps the student's texts.
    """
    return [
        Item(
            torch.from_numpy(row.prompt_ids).long(),
            torch.from_numpy(row.teacher_prompt_ids).long(),
            torch.from_numpy(row.output_ids).long()
            if outputs is None
            else torch.tensor(outputs[row.problem_id]),
            row.source,
        )
        for row in trajectories
    ]


class Texts(NamedTuple):
    """Right-padded token ids, and the positions that predict the steps."""

    input_ids: Tensor
    """[batch, seq]; padding follows the text, so causal attention needs no mask for it"""
    step_index: Tensor
    """indices of these positions in the flattened [batch * seq], [steps of all texts]"""


class Batch(NamedTuple):
    """A batch of items; the steps of all texts are concatenated."""

    student: Texts
    teacher: Texts
    next_ids: Tensor
    """the token of each step, [steps of all texts]"""
    lengths: list[int]
    """number of steps of each text"""

    def to(self, device: torch.device) -> Batch:
        """The batch with all tensors on a device."""
        student, teacher = (Texts(*(t.to(device) for t in side)) for side in (self.student, self.teacher))
        return Batch(student, teacher, self.next_ids.to(device), self.lengths)


def collate(items: Sequence[Item]) -> Batch:
    """Make a batch of items."""
    outputs = [item.output_ids for item in items]
    return Batch(
        pad_texts([item.prompt_ids for item in items], outputs),
        pad_texts([item.teacher_prompt_ids for item in items], outputs),
        torch.cat(outputs),
        [len(output) for output in outputs],
    )


def pad_texts(prompts: Sequence[Tensor], outputs: Sequence[Tensor]) -> Texts:
    """Prompts with their outputs as one batch; both are token ids, [prompt] and [steps]."""
    # A step is predicted by the hidden state at the token before it, so the last token is not encoded.
    rows: list[Any] = [torch.cat([p, o[:-1]]) for p, o in zip(prompts, outputs, strict=True)]
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    seq = input_ids.shape[1]
    step_index = [
        number * seq + len(prompt) - 1 + torch.arange(len(output))
        for number, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
    ]
    return Texts(input_ids, torch.cat(step_index))
