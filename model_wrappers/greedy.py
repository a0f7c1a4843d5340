"""`--model greedy`: the student's argmax at every step, in the loop of every other method."""

from __future__ import annotations

from s2t_eval.model_wrappers.arguments import ServerArguments
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.selection import policy
from s2t_eval.selection.policy import Policy


class Greedy(EngineLM):
    """The policy whose trigger never fires: the control of every method."""

    METHOD = "greedy"
    ARGUMENTS = ServerArguments

    def policy(self) -> Policy:
        """The greedy policy."""
        return policy.greedy()
