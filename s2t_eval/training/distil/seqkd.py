"""`--method seqkd`: the student learns to write the teacher's own texts (sequence-level distillation)."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, no_plan


class SequenceKd:
    """-log p_S of the teacher's greedy texts, token by token: supervised fine-tuning on them."""

    name: Final = "seqkd"
    texts: Final[Literal["teacher"]] = "teacher"
    reads_teacher: Final = False
    reads_entropy: Final = False

    def plan(self, entropy: Tensor) -> Tensor:
        """Every position counts the same."""
        return no_plan(entropy)

    def losses(self, at: Positions) -> Tensor:
        """-log p_S(next token), [positions]."""
        return -at.student.gather(-1, at.next_ids[:, None])[:, 0]
