"""Where to select: triggers give each step a divergence, and a step fires above a threshold.

Every divergence is larger where the student is less to be trusted, so one rule serves all of them:
fire iff divergence > threshold. The paper's trigger is the KL divergence of student and teacher
(section 3); entropy and margin are stand-ins that need no teacher, and so are the place of a step and the
entropy where a line begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from s2t_eval.method_table import TRIGGER_NAMES
from s2t_eval.selection.router import NUM_LOG_PROBS, Router, step_features
from s2t_eval.selection.top_tokens import TopTokens, top_tokens

KlDirection = Literal["student_teacher", "teacher_student"]


CACHED = {"cpu": 2**21}
CACHED_ELSEWHERE = 2**30
"""Bytes of logits that are summed over at a time: what a CPU's cache holds is read from memory once."""


class Sums(NamedTuple):
    """Sums over the vocabulary of w = exp(logit - largest), [batch] each."""

    largest: Tensor
    total: Tensor
    """of w"""
    weighted: Tensor
    """of w * (logit - largest)"""


def sums(logits: Tensor) -> Sums:
    """Sums of logits [batch, vocab], a few rows at a time."""
    limit = CACHED.get(logits.device.type, CACHED_ELSEWHERE)
    size = max(1, limit // (logits.element_size() * logits.shape[-1]))
    parts = [_sums(part) for part in logits.split(size)]
    return Sums(*map(torch.cat, zip(*parts, strict=True)))


def _sums(logits: Tensor) -> Sums:
    largest = logits.amax(-1, keepdim=True)
    shifted = logits - largest  # without it an entropy drowns in the rounding of large logits
    weights = shifted.exp()
    weighted = torch.linalg.vecdot(weights, shifted)
    if not bool(weighted.isfinite().all()):
        # Masked tokens (-inf) have no weight; keep 0 * -inf from becoming NaN.
        weighted = torch.linalg.vecdot(weights, shifted.clamp(min=-1e30))
    return Sums(largest[:, 0], weights.sum(-1), weighted)


class Written(NamedTuple):
    """How far each row's text is."""

    last_ids: Tensor
    """the token before this step, the prompt's last one at the beginning, [batch]"""
    num_tokens: Tensor
    """tokens of the text before this step, [batch]"""


@dataclass(frozen=True)
class Step:
    """What a trigger may look at: one step of a batch of rows.

    Args:
        logits: the student's, float32 [batch, vocab].
        teacher_at: gives the teacher's logits at ids [batch, m] as float32 [batch, m]; None where no
            teacher runs in lockstep.
        draw: gives a uniform number in [0, 1) per row, [batch], from the rows' own seeds.
        hidden: the student's last hidden states [batch, hidden], for a learned router.
        written: gives how far each row's text is, for triggers that look at the place of a step.
    """

    logits: Tensor
    teacher_at: Callable[[Tensor], Tensor] | None
    draw: Callable[[], Tensor]
    hidden: Tensor | None = None
    written: Callable[[], Written] | None = None

    @cached_property
    def top(self) -> TopTokens:
        """The most likely tokens, at most `NUM_LOG_PROBS`; looked for once for all who ask."""
        return top_tokens(self.logits, NUM_LOG_PROBS)

    @cached_property
    def sums(self) -> Sums:
        """Sums of exponentials, made once for all who ask."""
        return sums(self.logits)

    @property
    def log_total(self) -> Tensor:
        """log of the sum of exp(logits), [batch, 1]: logits minus this are log-probabilities."""
        return (self.sums.total.log() + self.sums.largest)[:, None]


class Trigger(Protocol):
    """One rule that says how much a step asks for a selection."""

    @property
    def name(self) -> str:
        """How command lines and calibration files call it."""
        ...

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher has to run in lockstep."""
        ...

    def divergence(self, step: Step) -> Tensor:
        """Larger is more diverging, float32 [batch]."""
        ...


@dataclass(frozen=True)
class KlTrigger:
    """KL divergence of student and teacher over the student's most likely tokens, in nats.

    Both distributions are renormalised over the student's top `support` tokens, as in the paper's
    released code; `support=0` takes the whole text vocabulary, which is exact and slower.

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

    def divergence(self, step: Step) -> Tensor:
        """KL in nats, [batch]."""
        assert step.teacher_at is not None
        size = min(self.support or step.logits.shape[-1], step.logits.shape[-1])
        student, ids = top_tokens(step.logits, size)
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

    def divergence(self, step: Step) -> Tensor:
        """Entropy in nats, [batch]."""
        # H = log Z - E[logit]: no [batch, vocab] log-probabilities are made
        total = step.sums.total
        return total.log() - step.sums.weighted / total


@dataclass(frozen=True)
class MarginTrigger:
    """One minus the probability gap of the student's first and second token."""

    name: str = "margin"
    needs_teacher: bool = False

    def divergence(self, step: Step) -> Tensor:
        """1 - (p_1 - p_2), in [0, 1], [batch]."""
        probs = (step.top.values[:, :2] - step.log_total).exp()
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

    def divergence(self, step: Step) -> Tensor:
        """Entropy in nats where a line begins, [batch]."""
        assert step.written is not None
        last, count = step.written()
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

    def divergence(self, step: Step) -> Tensor:
        """1 / (1 + t), in (0, 1], [batch]."""
        assert step.written is not None
        return 1 / (1 + step.written().num_tokens.float())


@dataclass(frozen=True)
class RandomTrigger:
    """A uniform number: the control that any trigger has to beat at an equal rate."""

    name: str = "random"
    needs_teacher: bool = False

    def divergence(self, step: Step) -> Tensor:
        """Uniform in [0, 1), [batch]; a threshold of 1 - tau fires at the rate tau."""
        return step.draw()


@dataclass(frozen=True)
class ConstantTrigger:
    """`always` (infinite divergence) or `never` (minus infinity)."""

    name: Literal["always", "never"]
    needs_teacher: bool = False

    def divergence(self, step: Step) -> Tensor:
        """The same for every row, [batch]."""
        value = math.inf if self.name == "always" else -math.inf
        return torch.full(step.logits.shape[:1], value, device=step.logits.device)


@dataclass(frozen=True)
class RouterTrigger:
    """A learned router's log-odds that the teacher diverges here; needs no teacher.

    Args:
        router: the network, on the student's device.
    """

    router: Router
    name: str = "router"
    needs_teacher: bool = False

    def divergence(self, step: Step) -> Tensor:
        """Log-odds, [batch]."""
        assert step.hidden is not None
        log_probs = step.top.values - step.log_total
        entropy = EntropyTrigger().divergence(step)
        features = step_features(step.hidden.to(log_probs.device), log_probs, entropy)
        odds: Tensor = self.router(features)
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
        kl_direction: matters to "kl" alone.
        router: needed by "router" alone.
        ends_line: needed by "line_entropy" alone, see there.

    Raises:
        ValueError: an unknown name, or no router for "router".
    """
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
        "margin": MarginTrigger(),
        "position": PositionTrigger(),
        "random": RandomTrigger(),
    }
    if name not in local:
        raise ValueError(f"trigger: expected one of {', '.join(TRIGGER_NAMES)}, got {name!r}")
    return local[name]
