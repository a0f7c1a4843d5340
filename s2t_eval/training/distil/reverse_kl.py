"""`--method reverse_kl`: reverse KL, which is large where a token is likely for the student only."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_weights


class ReverseKl:
    """KL(p_S || p_T) at every position of the student's own texts (as in MiniLLM, without its sampling)."""

    name: Final = "reverse_kl"
    text_source: Final[Literal["student"]] = "student"
    needs_teacher: Final = True
    needs_entropy: Final = False

    def position_weights(self, entropy: Tensor) -> Tensor:
        """No weights: all positions count equally."""
        return no_weights(entropy)

    def losses(self, positions: Positions) -> Tensor:
        """KL(p_S || p_T), [positions]."""
        return kl(positions.student_log_probs, positions.teacher_log_probs)
