"""`--model takeover`: at the same steps the teacher's argmax token is used. The control of selection."""

from __future__ import annotations

from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.selection import policy


class Takeover(SelectToThink):
    """The triggers of S2T with the teacher's argmax over the whole vocabulary."""

    METHOD = "takeover"
    PRESET = staticmethod(policy.takeover)
