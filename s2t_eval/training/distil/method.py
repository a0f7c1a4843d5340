"""The interface of a distillation method: a loss at every position, from two distributions."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor


class Positions(NamedTuple):
    """Some positions of a text, over the text vocabulary that student and teacher share."""

    student_log_probs: Tensor
    """float32 [positions, vocab], with gradient"""
    teacher_log_probs: Tensor
    """float32 [positions, vocab], without gradient; [positions, 0] for methods that do not need them"""
    next_ids: Tensor
    """the text's next token, [positions]"""
    weights: Tensor
    """the method's `position_weights` at these positions, [positions, m]"""


class Method(Protocol):
    """A distillation method. Its loss is a function of distributions and does not run a model."""

    @property
    def name(self) -> str:
        """Its name for `--method`."""
        ...

    @property
    def text_source(self) -> Literal["student", "teacher"]:
        """The model whose texts are trained on: the student's trajectories, or the teacher's own texts."""
        ...

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss depends on the teacher's distribution at every position."""
        ...

    @property
    def needs_entropy(self) -> bool:
        """Whether `position_weights` depends on the student's entropies."""
        ...

    def position_weights(self, entropy: Tensor) -> Tensor:
        """Weights of every position that depend on the whole text, [steps, m].

        Args:
            entropy: the student's entropy at every step, nats, without gradient, [steps]; zeros unless
                `needs_entropy`.
        """
        ...

    def losses(self, positions: Positions) -> Tensor:
        """The loss of every position, nats, [positions]."""
        ...


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, from log-probabilities [..., vocab]."""
    return (p.exp() * (p - q)).sum(-1)


def entropy_of(log_probs: Tensor) -> Tensor:
    """Entropy in nats, from log-probabilities [..., vocab]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def no_weights(entropy: Tensor) -> Tensor:
    """The weights of a method for which all positions count equally, [steps, 0]."""
    return entropy.new_zeros(len(entropy), 0)
