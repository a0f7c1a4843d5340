"""`--method kd`: forward KL, which is large where a token is likely for the teacher only."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_weights


class ForwardKl:
    """KL(p_T || p_S) at every position of the student's own texts (word-level knowledge distillation)."""

    name: Final = "kd"
    text_source: Final[Literal["student"]] = "student"
    needs_teacher: Final = True
    needs_entropy: Final = False

    def position_weights(self, entropy: Tensor) -> Tensor:
        """No weights: all positions count equally."""
        return no_weights(entropy)

    def losses(self, positions: Positions) -> Tensor:
        """KL(p_T || p_S), [positions]."""
        return kl(positions.teacher_log_probs, positions.student_log_probs)
