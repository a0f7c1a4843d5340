"""The texts that are distilled on, as a batch for the student and the same texts for the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2t_eval.training.labels import Trajectory


@dataclass(frozen=True)
class Item:
    """One text behind the student's prompt and behind the teacher's.

    Args:
        prompt_ids: the student's prompt, [prompt].
        teacher_prompt_ids: the teacher's, which may hold privileged context.
        output_ids: the text, its stop token included, [steps].
        source: where it comes from, for messages.
    """

    prompt_ids: Tensor
    teacher_prompt_ids: Tensor
    output_ids: Tensor
    source: str

    @property
    def weight(self) -> float:
        """Its share in a mean over steps."""
        return float(len(self.output_ids))


def make_items(
    trajectories: Sequence[Trajectory], outputs: Mapping[str, Sequence[int]] | None = None
) -> list[Item]:
    """Items of labelled problems.

    Args:
        trajectories: the student's texts.
        outputs: problem id -> other tokens in place of the student's, such as the teacher's own text.
    """
    return [
        Item(
            torch.from_numpy(row.prompt_ids).long(),
            torch.from_numpy(row.teacher_prompt_ids).long(),
            torch.from_numpy(row.output_ids).long()
            if outputs is None
            else torch.tensor(outputs[row.problem_id]),
            f"{row.shard}, row {row.row} ({row.problem_id})",
        )
        for row in trajectories
    ]


class Texts(NamedTuple):
    """Right-padded token ids, and where the states stand that decide each step."""

    input_ids: Tensor
    """[batch, seq]; padding stands behind the text, where no step sees it"""
    at: Tensor
    """places in the flat [batch * seq], [steps of all texts]"""


class Batch(NamedTuple):
    """Some items; steps of all texts in one row, text by text."""

    student: Texts
    teacher: Texts
    next_ids: Tensor
    """[steps of all texts]"""
    lengths: list[int]
    """steps of each text"""

    def to(self, device: torch.device) -> Batch:
        """All tensors on a device."""
        student, teacher = (Texts(*(t.to(device) for t in side)) for side in (self.student, self.teacher))
        return Batch(student, teacher, self.next_ids.to(device), self.lengths)


def collate(items: Sequence[Item]) -> Batch:
    """Lay items out as a batch."""
    outputs = [item.output_ids for item in items]
    return Batch(
        _texts([item.prompt_ids for item in items], outputs),
        _texts([item.teacher_prompt_ids for item in items], outputs),
        torch.cat(outputs),
        [len(output) for output in outputs],
    )


def _texts(prompts: Sequence[Tensor], outputs: Sequence[Tensor]) -> Texts:
    # The state that decides a step is the one at the token before it; the last token is never needed.
    rows: list[Any] = [torch.cat([p, o[:-1]]) for p, o in zip(prompts, outputs, strict=True)]
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    seq = input_ids.shape[1]
    at = [
        number * seq + len(prompt) - 1 + torch.arange(len(output))
        for number, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
    ]
    return Texts(input_ids, torch.cat(at))
