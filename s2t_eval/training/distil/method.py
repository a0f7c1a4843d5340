"""What a distillation method is: a loss at every position of a text, from two distributions."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor


class Positions(NamedTuple):
    """Some positions of a text, over the text vocabulary that student and teacher share."""

    student: Tensor
    """log-probabilities, float32 [positions, vocab]; gradients flow through them"""
    teacher: Tensor
    """log-probabilities, float32 [positions, vocab]; [positions, 0] for methods that do not read them"""
    next_ids: Tensor
    """the text's token there, [positions]"""
    weights: Tensor
    """what the method's `plan` made of the whole text, [positions, m]"""


class Method(Protocol):
    """One way to distil; the classes are final and know nothing of models."""

    @property
    def name(self) -> str:
        """What `--method` calls it."""
        ...

    @property
    def texts(self) -> Literal["student", "teacher"]:
        """Whose texts are learnt from: the label set's trajectories, or the teacher's own."""
        ...

    @property
    def reads_teacher(self) -> bool:
        """Whether the loss needs the teacher's distribution at every position."""
        ...

    @property
    def reads_entropy(self) -> bool:
        """Whether `plan` needs the student's entropies of the whole text."""
        ...

    def plan(self, entropy: Tensor) -> Tensor:
        """Weights of every position [steps, m] that only the whole text decides.

        Args:
            entropy: of the student, nats, without gradient, [steps]; zeros unless `reads_entropy`.
        """
        ...

    def losses(self, at: Positions) -> Tensor:
        """The loss of every position, nats, [positions]."""
        ...


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats of log-probabilities [..., vocab]."""
    return (p.exp() * (p - q)).sum(-1)


def entropy_of(log_probs: Tensor) -> Tensor:
    """Entropy in nats of log-probabilities [..., vocab]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def no_plan(entropy: Tensor) -> Tensor:
    """The plan of a method for which every position counts the same, [steps, 0]."""
    return entropy.new_zeros(len(entropy), 0)
