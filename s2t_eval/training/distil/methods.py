"""The distillation methods by name."""

from __future__ import annotations

from collections.abc import Callable

from s2t_eval.training.distil.jsd import JensenShannon
from s2t_eval.training.distil.kd import ForwardKl
from s2t_eval.training.distil.method import Method
from s2t_eval.training.distil.reverse_kl import ReverseKl
from s2t_eval.training.distil.seqkd import SequenceKd
from s2t_eval.training.distil.settings import require_method
from s2t_eval.training.distil.tsd_kd import TokenSelectiveKd

METHODS: dict[str, Callable[..., Method]] = {
    "kd": ForwardKl,
    "reverse_kl": ReverseKl,
    "jsd": JensenShannon,
    "seqkd": SequenceKd,
    "tsd_kd": TokenSelectiveKd,
}


def make_method(name: str, beta: float | None = None) -> Method:
    """The method of this name.

    Args:
        name: a key of `METHODS`.
        beta: weight of the teacher in the mixture of the Jensen-Shannon divergence; None takes the method's
            default.

    Raises:
        ValueError: the name is unknown, or the method has no beta.
    """
    require_method(name, beta)
    if beta is None:
        return METHODS[name]()
    return METHODS[name](beta)
