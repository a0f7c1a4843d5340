"""Triggers: a trigger computes a divergence of each step, and a step fires above a threshold.

Every divergence is larger where the student is less reliable, so one rule applies to all of them:
fire iff divergence > threshold. The paper's trigger is the KL divergence of student and teacher
(section 3); entropy and margin are substitutes that need no teacher, and so are the position of a step and
the entropy where a line begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from s2t_eval.method_table import TRIGGER_NAMES
from s2t_eval.ranges import require_choice
from s2t_eval.selection.router import Router, step_features
from s2t_eval.selection.step import StepView

KlDirection = Literal["student_teacher", "teacher_student"]


class Trigger(Protocol):
    """One measure of how much a step needs a selection."""

    @property
    def name(self) -> str:
        """Its name in command lines and calibration files."""
        ...

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher has to run in lockstep."""
        ...

    def divergence(self, step: StepView) -> Tensor:
        """The divergence of each row, float32 [batch]; a larger one is more likely to fire."""
        ...


@dataclass(frozen=True)
class KlTrigger:
    """KL divergence of student and teacher over the student's most likely tokens, in nats.

    Both distributions are renormalised over the student's top `support` tokens, as in the paper's
    released code; `support=0` uses the whole text vocabulary, which is exact and slower.

    Args:
        direction: "student_teacher" is KL(p_S || p_L), the released code's; "teacher_student" is
            KL(p_L || p_S), the one named in the paper's figure.
        support: size of the support in tokens.
    """

    direction: KlDirection = "student_teacher"
    support: int = 64
    name: str = "kl"
    needs_teacher: bool = True

    def __post_init__(self) -> None:
        if self.direction not in ("student_teacher", "teacher_student"):
            raise ValueError(
                f"kl_direction: expected 'student_teacher' or 'teacher_student', got {self.direction!r}"
            )
        if self.support < 0:
            raise ValueError(f"support: expected 0 (the whole vocabulary) or more tokens, got {self.support}")

    def divergence(self, step: StepView) -> Tensor:
        """KL in nats, [batch]."""
        assert step.teacher_at is not None
        student, ids = step.top_of(self.support or step.logits.shape[-1])
        teacher = step.teacher_at(ids).to(student.device)
        pair = (student, teacher) if self.direction == "student_teacher" else (teacher, student)
        return kl_divergence(*pair)


def kl_divergence(left: Tensor, right: Tensor) -> Tensor:
    """KL(left || right) in nats [...] of logits (or log-probabilities) [..., m], each renormalised."""
    p, q = left.log_softmax(-1), right.log_softmax(-1)
    # 0 * log 0 = 0, also where a logit is minus infinity
    return torch.where(p > -math.inf, p.exp() * (p - q), 0.0).sum(-1)


@dataclass(frozen=True)
class EntropyTrigger:
    """Entropy of the student's next-token distribution, in nats."""

    name: str = "entropy"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Entropy in nats, [batch]."""
        # H = log Z - E[logit], without [batch, vocab] log-probabilities
        total = step.sums.total
        return total.log() - step.sums.weighted / total


TOP_ENTROPY_TOKENS = 64
"""Tokens of the entropy that servers can compute: as many as they return of a distribution."""


@dataclass(frozen=True)
class TopEntropyTrigger:
    """Entropy of the student's 64 most likely tokens and of all others as one, in nats.

    A server returns the most likely tokens only (`s2t_eval/remote`): the exact entropy is unknown there.
    """

    name: str = "entropy64"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Entropy in nats, [batch]; at most the exact one."""
        return top_entropy(step.top_of(TOP_ENTROPY_TOKENS).values - step.log_total)


def top_entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats [batch] of tokens with log-probabilities [batch, m] and of one for all others."""
    probs = log_probs.exp()
    rest = (1 - probs.sum(-1)).clamp(min=0)
    return torch.special.entr(probs).sum(-1) + torch.special.entr(rest)


@dataclass(frozen=True)
class MarginTrigger:
    """One minus the probability gap of the student's first and second token."""

    name: str = "margin"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """1 - (p_1 - p_2), in [0, 1], [batch]."""
        return margin(step.top.values - step.log_total)


def margin(log_probs: Tensor) -> Tensor:
    """1 - (p_1 - p_2) [batch] of the most likely tokens' log-probabilities [batch, m], most likely first."""
    probs = log_probs[:, :2].exp()
    return 1 - (probs[:, 0] - (probs[:, 1] if probs.shape[1] > 1 else 0.0))


@dataclass(frozen=True)
class LineEntropyTrigger:
    """Entropy at the first token of a line, in nats, and 0 elsewhere (GlimpRouter, arXiv 2601.05110).

    It cannot fire more often than lines begin: a rate above that fires at the first token of every line.

    Args:
        ends_line: whether a token's text ends with a newline, bool [text_vocab].
    """

    ends_line: Tensor
    name: str = "line_entropy"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Entropy in nats where a line begins, [batch]."""
        assert step.positions is not None
        last, count = step.positions()
        ended = self.ends_line.to(last.device)[last.clamp(max=len(self.ends_line) - 1)]
        entropy = EntropyTrigger().divergence(step)
        begins = (ended | (count == 0)).to(entropy.device)
        return torch.where(begins, entropy, 0.0)


@dataclass(frozen=True)
class PositionTrigger:
    """1 / (1 + t) at the token number t of a text, from 0: the earlier, the larger.

    The control of every trigger that might only find the beginnings of texts.
    """

    name: str = "position"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """1 / (1 + t), in (0, 1], [batch]."""
        assert step.positions is not None
        return 1 / (1 + step.positions().num_tokens.float())


@dataclass(frozen=True)
class RandomTrigger:
    """A uniform number: the control for every other trigger at an equal rate."""

    name: str = "random"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Uniform in [0, 1), [batch]; a threshold of 1 - tau fires at the rate tau."""
        return step.draw()


@dataclass(frozen=True)
class ConstantTrigger:
    """`always` (infinite divergence) or `never` (minus infinity)."""

    name: Literal["always", "never"]
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """The same for every row, [batch]."""
        value = math.inf if self.name == "always" else -math.inf
        return torch.full(step.logits.shape[:1], value, device=step.logits.device)


@dataclass(frozen=True)
class RouterTrigger:
    """A learned router's log-odds that the teacher diverges at this step; needs no teacher.

    Args:
        router: the network, on the student's device.
    """

    router: Router
    name: str = "router"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Log-odds, [batch]."""
        assert step.hidden is not None
        log_probs = step.top.values - step.log_total
        entropy = EntropyTrigger().divergence(step)
        features = step_features(step.hidden.to(log_probs.device), log_probs, entropy)
        odds: Tensor = self.router(features.to(self.router.mean.device))
        return odds


def make_trigger(
    name: str,
    kl_direction: KlDirection = "student_teacher",
    router: Router | None = None,
    ends_line: Tensor | None = None,
) -> Trigger:
    """The trigger of this name.

    Args:
        name: one of `TRIGGER_NAMES`.
        kl_direction: only "kl" uses it.
        router: only "router" uses it, and needs it.
        ends_line: only "line_entropy" uses it, and needs it; see `LineEntropyTrigger`.

    Raises:
        ValueError: an unknown name, or no router for "router".
    """
    require_choice("trigger", name, TRIGGER_NAMES)
    if name == "router":
        if router is None:
            raise ValueError(
                "trigger=router needs selector=FOLDER, a folder of `s2t-eval train` with a router"
            )
        return RouterTrigger(router)
    if name == "kl":
        return KlTrigger(kl_direction)
    if name == "line_entropy":
        assert ends_line is not None
        return LineEntropyTrigger(ends_line)
    local: dict[str, Trigger] = {
        "always": ConstantTrigger("always"),
        "never": ConstantTrigger("never"),
        "entropy": EntropyTrigger(),
        "entropy64": TopEntropyTrigger(),
        "margin": MarginTrigger(),
        "position": PositionTrigger(),
        "random": RandomTrigger(),
    }
    return local[name]
