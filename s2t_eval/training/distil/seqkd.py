"""`--method seqkd`: cross-entropy on the teacher's own texts (sequence-level knowledge distillation)."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, no_weights


class SequenceKd:
    """-log p_S of every token of the teacher's greedy texts: supervised fine-tuning on them."""

    name: Final = "seqkd"
    text_source: Final[Literal["teacher"]] = "teacher"
    needs_teacher: Final = False
    needs_entropy: Final = False

    def position_weights(self, entropy: Tensor) -> Tensor:
        """No weights: all positions count equally."""
        return no_weights(entropy)

    def losses(self, positions: Positions) -> Tensor:
        """-log p_S(next token), [positions]."""
        return -positions.student_log_probs.gather(-1, positions.next_ids[:, None])[:, 0]
