"""`--model r2r`: the teacher writes its own token where a router predicts that the student's diverges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.model_wrappers.arguments import TeacherArguments
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.selection import policy


@dataclass(frozen=True)
class R2RArguments(TeacherArguments):
    """Arguments of `r2r`: those of `takeover`, with the router as the trigger.

    Args:
        trigger: `router`, or `always` and `never` as limits.
    """

    trigger: str = "router"

    def __post_init__(self) -> None:
        if self.trigger not in ("router", "always", "never"):
            raise ValueError(
                f"--model r2r: its trigger is the router, got trigger={self.trigger}; the same steps under "
                "another trigger are --model takeover"
            )
        super().__post_init__()
        if self.student_url is not None:
            raise ValueError(
                "--model r2r: its router reads the student's hidden states, which servers do not return; "
                "leave student_url out and give teacher_url alone, or run takeover on servers"
            )


class RoadsToRome(SelectToThink):
    """R2R (arXiv 2505.21600): takeover under a learned router, which fires without the teacher.

    At a fired step the teacher prefills in one pass all tokens that it has not processed yet and generates
    one token. Tokens of the student at other steps are neither verified nor discarded.

    Raises:
        ValueError: no router, or arguments that do not fit.
        R2RError: a router of another student or teacher.
    """

    METHOD = "r2r"
    ARGUMENTS: ClassVar[type[TeacherArguments]] = R2RArguments
    PRESET = staticmethod(policy.r2r)
