"""`--method kd`: forward KL, the student covers whatever the teacher might say."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from s2t_eval.training.distil.method import Positions, kl, no_plan


class ForwardKl:
    """KL(p_T || p_S) at every position of the student's own texts (word-level knowledge distillation)."""

    name: Final = "kd"
    texts: Final[Literal["student"]] = "student"
    reads_teacher: Final = True
    reads_entropy: Final = False

    def plan(self, entropy: Tensor) -> Tensor:
        """Every position counts the same."""
        return no_plan(entropy)

    def losses(self, at: Positions) -> Tensor:
        """KL(p_T || p_S), [positions]."""
        return kl(at.teacher, at.student)
