"""A decoding policy: which steps fire, how many candidates, who picks. Presets carry the methods' names."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from s2t_eval.selection.scores import Score
from s2t_eval.selection.selectors import LocalSelector, TakeoverSelector, TeacherSelector
from s2t_eval.selection.triggers import ConstantTrigger, Trigger

NEVER = ConstantTrigger("never")


@dataclass(frozen=True)
class Policy:
    """One method of decoding. Every method runs in the same loop; greedy is the one that never fires.

    Args:
        name: the method's name in results and traces.
        trigger: gives each step a divergence.
        threshold: a step fires where its divergence is above it.
        selector: picks at a fired step; None needs the trigger `never`.
        top_k: candidates, the student's most likely tokens (K of the paper).
        warmup: tokens at the start of a text at which nothing fires.

    Raises:
        ValueError: a value outside its range.
    """

    name: str
    trigger: Trigger = NEVER
    threshold: float = 0.0
    selector: TeacherSelector | TakeoverSelector | LocalSelector | None = None
    top_k: int = 8
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k: expected at least 1 candidate, got {self.top_k}")
        if self.warmup < 0:
            raise ValueError(f"warmup: expected 0 or more tokens, got {self.warmup}")
        if math.isnan(self.threshold):
            raise ValueError("threshold: expected a number, got nan")
        if self.selector is None and self.trigger.name != "never":
            raise ValueError(f"policy {self.name}: trigger {self.trigger.name!r} needs a selector")

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher has to be loaded at all."""
        by_teacher = isinstance(self.selector, TeacherSelector | TakeoverSelector)
        return self.trigger.needs_teacher or (by_teacher and self.trigger.name != "never")

    @property
    def needs_lockstep(self) -> bool:
        """Whether the teacher sees every token at once, or only catches up where a step fires."""
        return self.trigger.needs_teacher

    @property
    def branches(self) -> int:
        """Slots that a row needs beyond its text: the candidates tried side by side."""
        selector = self.selector
        return self.top_k if isinstance(selector, LocalSelector) and selector.score.looks_ahead else 1

    def describe(self) -> dict[str, Any]:
        """The policy in plain JSON values, for results and fingerprints."""
        return {
            "method": self.name,
            "trigger": _plain_fields(self.trigger),
            "threshold": self.threshold if math.isfinite(self.threshold) else str(self.threshold),
            "selector": type(self.selector).__name__ if self.selector else None,
            **_score_fields(self.selector),
            "top_k": self.top_k,
            "warmup": self.warmup,
        }


def _score_fields(selector: object) -> dict[str, Any]:
    """A local selector's form, and its share of the proposer's own where it has one."""
    if not isinstance(selector, LocalSelector):
        return {"score": None}
    weight = getattr(selector.score, "proposal_weight", 0.0)
    return {"score": selector.score.form, **({"proposal_weight": weight} if weight else {})}


def _plain_fields(trigger: Trigger) -> dict[str, Any]:
    """A trigger's settings; a router's weights are known by the selector folder's fingerprint."""
    values = {item.name: getattr(trigger, item.name) for item in fields(trigger)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if isinstance(value, str | int | float)}


def greedy() -> Policy:
    """The student's own argmax at every step."""
    return Policy("greedy")


def s2t(trigger: Trigger, threshold: float, top_k: int = 8, warmup: int = 0) -> Policy:
    """Select to Think with the teacher as the selector."""
    return Policy("s2t", trigger, threshold, TeacherSelector(), top_k, warmup)


def takeover(trigger: Trigger, threshold: float, top_k: int = 8, warmup: int = 0) -> Policy:
    """The same steps, decided by the teacher's argmax over the vocabulary."""
    return Policy("takeover", trigger, threshold, TakeoverSelector(), top_k, warmup)


def r2r(trigger: Trigger, threshold: float, top_k: int = 8, warmup: int = 0) -> Policy:
    """R2R: takeover under a router that was trained on divergent tokens."""
    return replace(takeover(trigger, threshold, top_k, warmup), name="r2r")


def s2t_local(trigger: Trigger, threshold: float, score: Score, top_k: int = 8, warmup: int = 0) -> Policy:
    """Select to Think with the student's own score as the selector (S2T-Local, and PPS)."""
    return Policy("s2t_local", trigger, threshold, LocalSelector(score), top_k, warmup)
