"""The distillation methods by name: a loss at every position, from two distributions.

The facts that the command line needs too, which methods have a beta and which train on the teacher's texts,
are in `settings.py`, which loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from s2t_eval.method_table import DistilMethod
from s2t_eval.training.distil.losses import cross_entropy, forward_kl, generalized_jsd, reverse_kl
from s2t_eval.training.distil.tsd_kd import term_weights, token_selective


@dataclass(frozen=True)
class Method:
    """A distillation method. Its loss is a function of distributions and does not run a model.

    Args:
        losses: `Positions` -> the loss of every position, nats, [positions]; it may have a keyword `beta`.
        needs_teacher: whether the loss depends on the teacher's distribution at every position.
        position_weights: the student's entropy at every step of a text, nats, without gradient, [steps] ->
            weights that depend on the whole text, [steps, m]. None: all positions count equally.
    """

    losses: Callable[..., Tensor]
    needs_teacher: bool = True
    position_weights: Callable[[Tensor], Tensor] | None = None


METHODS: dict[DistilMethod, Method] = {
    "kd": Method(forward_kl),
    "reverse_kl": Method(reverse_kl),
    "jsd": Method(generalized_jsd),
    "seqkd": Method(cross_entropy, needs_teacher=False),
    "tsd_kd": Method(token_selective, position_weights=term_weights),
}


def make_method(name: DistilMethod, beta: float | None = None) -> Method:
    """The method of this name.

    Args:
        name: a key of `METHODS`.
        beta: weight of the teacher in the mixture of the Jensen-Shannon divergence, which `DistilSettings`
            has checked; None takes the method's default.
    """
    method = METHODS[name]
    return method if beta is None else replace(method, losses=partial(method.losses, beta=beta))
