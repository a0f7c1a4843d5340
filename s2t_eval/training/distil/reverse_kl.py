"""`--method reverse_kl`: the student gives up what the teacher would not say."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_plan


class ReverseKl:
    """KL(p_S || p_T) at every position of the student's own texts (as in MiniLLM, without its sampling)."""

    name: Final = "reverse_kl"
    texts: Final[Literal["student"]] = "student"
    reads_teacher: Final = True
    reads_entropy: Final = False

    def plan(self, entropy: Tensor) -> Tensor:
        """Every position counts the same."""
        return no_plan(entropy)

    def losses(self, at: Positions) -> Tensor:
        """KL(p_S || p_T), [positions]."""
        return kl(at.student, at.teacher)
