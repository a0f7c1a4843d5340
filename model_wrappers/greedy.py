"""`--model greedy`: the student's own argmax, in the loop that every other method runs in."""

from __future__ import annotations

from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.selection import policy
from s2t_eval.selection.policy import Policy


class Greedy(EngineLM):
    """The policy whose trigger never fires: the control of every selection."""

    METHOD = "greedy"

    def policy(self) -> Policy:
        """Greedy."""
        return policy.greedy()
