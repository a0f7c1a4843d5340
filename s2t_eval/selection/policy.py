"""A decoding policy: which steps fire, the number of candidates and the selector; one preset a method."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch

from s2t_eval.selection.scores import Score
from s2t_eval.selection.selectors import LocalSelector, TakeoverSelector, TeacherSelector
from s2t_eval.selection.triggers import ConstantTrigger, Trigger

NEVER = ConstantTrigger("never")

PERSISTED_KEYS = {"trigger_threshold": "threshold", "warmup_tokens": "warmup"}
"""Names in this code -> keys in results, traces and calibration files, which keep their format's names."""


@dataclass(frozen=True)
class Policy:
    """One decoding method. All methods run in the same loop; greedy decoding is the policy that never fires.

    Args:
        name: the method's name in results and traces.
        trigger: computes the divergence of each step.
        trigger_threshold: a step fires if its divergence is above this.
        selector: chooses the token at a fired step; None requires the trigger `never`.
        top_k: candidates, the student's most likely tokens (K of the paper).
        warmup_tokens: steps at the start of a text that never fire.

    Raises:
        ValueError: a value outside its range.
    """

    name: str
    trigger: Trigger = NEVER
    trigger_threshold: float = 0.0
    selector: TeacherSelector | TakeoverSelector | LocalSelector | None = None
    top_k: int = 8
    warmup_tokens: int = 0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k: expected at least 1 candidate, got {self.top_k}")
        if self.warmup_tokens < 0:
            raise ValueError(f"warmup_tokens: expected 0 or more, got {self.warmup_tokens}")
        if math.isnan(self.trigger_threshold):
            raise ValueError("trigger_threshold: expected a number, got nan")
        if self.selector is None and self.trigger.name != "never":
            raise ValueError(f"policy {self.name}: trigger {self.trigger.name!r} needs a selector")

    def fires(self, divergence: float) -> bool:
        """Whether a step behind the warm-up tokens fires, as where a whole batch is compared: in float32.

        Args:
            divergence: of the step, a float32 number.
        """
        return divergence > self._float32_threshold

    @cached_property
    def _float32_threshold(self) -> float:
        return float(torch.tensor(self.trigger_threshold, dtype=torch.float32))

    @property
    def needs_teacher(self) -> bool:
        """Whether the policy uses a teacher at all."""
        by_teacher = isinstance(self.selector, TeacherSelector | TakeoverSelector)
        return self.trigger.needs_teacher or (by_teacher and self.trigger.name != "never")

    @property
    def teacher_writes(self) -> bool:
        """Whether a fired step takes the teacher's own token (takeover), not a candidate that it picks."""
        return isinstance(self.selector, TakeoverSelector)

    @property
    def needs_lockstep(self) -> bool:
        """Whether the teacher runs at every step, or is prefilled only where a step fires."""
        return self.trigger.needs_teacher

    @property
    def branches(self) -> int:
        """Slots that a row needs in addition to its text: one for each candidate of a branch."""
        selector = self.selector
        return self.top_k if isinstance(selector, LocalSelector) and selector.score.looks_ahead else 1

    def describe(self) -> dict[str, Any]:
        """The policy in plain JSON values, for results and fingerprints."""
        return {
            "method": self.name,
            "trigger": _plain_fields(self.trigger),
            PERSISTED_KEYS["trigger_threshold"]: json_number(self.trigger_threshold),
            "selector": type(self.selector).__name__ if self.selector else None,
            **_score_fields(self.selector),
            "top_k": self.top_k,
            PERSISTED_KEYS["warmup_tokens"]: self.warmup_tokens,
        }


def json_number(value: float) -> float | str:
    """A number as JSON can express it: an infinite one, which is no JSON, as the text `inf` or `-inf`."""
    return value if math.isfinite(value) else str(value)


def _score_fields(selector: object) -> dict[str, Any]:
    """A local selector's form, and the weight of the proposer's log-probability unless it is 0."""
    if not isinstance(selector, LocalSelector):
        return {"score": None}
    weight = getattr(selector.score, "proposal_weight", 0.0)
    return {"score": selector.score.form, **({"proposal_weight": weight} if weight else {})}


def _plain_fields(trigger: Trigger) -> dict[str, Any]:
    """A trigger's settings; the selector folder's hash identifies a router's weights."""
    values = {item.name: getattr(trigger, item.name) for item in fields(trigger)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if isinstance(value, str | int | float)}


def greedy() -> Policy:
    """The student's own argmax at every step."""
    return Policy("greedy")


def topk_distilled() -> Policy:
    """Greedy decoding of a student that was distilled on the labels' top-K candidates.

    S2T-Local with the score form `direct` and the adapted model as proposer: the score of a candidate is
    the logit by which it was proposed, so the selection at any step is the argmax.
    """
    return Policy("topk_distilled")


def s2t(trigger: Trigger, trigger_threshold: float, top_k: int = 8, warmup_tokens: int = 0) -> Policy:
    """Select to Think with the teacher as the selector."""
    return Policy("s2t", trigger, trigger_threshold, TeacherSelector(), top_k, warmup_tokens)


def takeover(trigger: Trigger, trigger_threshold: float, top_k: int = 8, warmup_tokens: int = 0) -> Policy:
    """The same steps with the teacher's argmax over the vocabulary as the token."""
    return Policy("takeover", trigger, trigger_threshold, TakeoverSelector(), top_k, warmup_tokens)


def r2r(trigger: Trigger, trigger_threshold: float, top_k: int = 8, warmup_tokens: int = 0) -> Policy:
    """R2R: takeover under a router that was trained on divergent tokens."""
    return replace(takeover(trigger, trigger_threshold, top_k, warmup_tokens), name="r2r")


def s2t_local(
    trigger: Trigger, trigger_threshold: float, score: Score, top_k: int = 8, warmup_tokens: int = 0
) -> Policy:
    """Select to Think with the student's own score as the selector (S2T-Local, and PPS)."""
    return Policy("s2t_local", trigger, trigger_threshold, LocalSelector(score), top_k, warmup_tokens)
