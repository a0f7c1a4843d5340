"""The decoding of one text on servers: draft a chunk, decide its steps in order, cut it.

Each step is decided as in the engine (`engine/selection_step.py`), by the same numbers. A chunk is the
student's greedy text. Where another token is taken at a step, the tokens behind it are discarded, so no text
depends on the length of the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from s2t_eval.engine.request import Finish, FiredStep, Result
from s2t_eval.engine.sampling import sample
from s2t_eval.engine.selection_step import record_step
from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.protocol import SUPPORT, DraftedStep
from s2t_eval.remote.roles import Teacher, Writer
from s2t_eval.remote.scorers import Scorer
from s2t_eval.remote.student import UNBOUNDED_CHUNK
from s2t_eval.remote.teacher import TeacherStep, log_prob_table
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import KlTrigger, kl_divergence, margin, top_entropy

TRIGGERS = ("kl", "entropy64", "margin", "random", "always", "never")
"""Triggers that can be computed from what servers return."""


class Pins(NamedTuple):
    """The places of a text: its servers, or its cache rows in models of this process."""

    student: Any
    teacher: Any = None
    scorer: Any = None


@dataclass(frozen=True)
class DraftedChunk:
    """A drafted chunk, and what decides its steps."""

    steps: list[DraftedStep]
    divergences: list[float] | None
    """of each step; None where they are drawn as the steps are decided"""
    teacher: list[TeacherStep] | None
    """at each step, where the trigger needs it"""


class TextDecoder:
    """Decodes texts under a policy.

    Args:
        policy: trigger and selector; with a student on servers the trigger is one of `TRIGGERS`.
        student: drafts.
        teacher: where the policy needs one.
        chunk: most tokens of a draft.
        scorer: where the selector is a local one; else None.
        keep_top: record the most likely tokens of every step.
    """

    def __init__(
        self,
        policy: Policy,
        student: Writer,
        teacher: Teacher | None,
        chunk: int,
        scorer: Scorer | None,
        keep_top: bool,
    ) -> None:
        self.policy = policy
        self.student = student
        self.teacher = teacher
        self.chunk = chunk
        self.scorer = scorer
        self.keep_top = keep_top

    def close(self) -> None:
        """End the work of models of this process."""
        self.student.close()
        if self.teacher is not None:
            self.teacher.close()

    async def decode(self, seq: Sequence) -> Result:
        """The whole text of a sequence."""
        pins = Pins(
            self.student.pin(seq),
            self.teacher.pin(seq) if self.teacher is not None else None,
            self.scorer.pin(seq) if self.scorer is not None else None,
        )
        while True:
            chunk = await self._draft(pins, seq)
            finish = await self._commit(pins, seq, chunk)
            if finish is not None:
                break
        self.student.release(seq)
        if self.teacher is not None:
            self.teacher.release(seq)
        return seq.result(finish)

    async def _draft(self, pins: Pins, seq: Sequence) -> DraftedChunk:
        """The next chunk, read by the teacher where the trigger needs it."""
        is_plain = self.policy.trigger.name == "never" and seq.request.sampling is None
        limit = min(UNBOUNDED_CHUNK if is_plain else self.chunk, seq.request.max_new_tokens - len(seq.output))
        steps = await self.student.draft(pins.student, seq, limit, is_plain and not self.keep_top)
        teacher = None
        may_fire = len(seq.output) + len(steps) > self.policy.warmup_tokens
        if isinstance(self.policy.trigger, KlTrigger) and may_fire:
            assert self.teacher is not None
            teacher = await self.teacher.chunk(pins.teacher, seq, steps)
        return DraftedChunk(steps, self._divergences(steps, teacher), teacher)

    def _divergences(self, steps: list[DraftedStep], teacher: list[TeacherStep] | None) -> list[float] | None:
        """The trigger's divergence at every step of a chunk."""
        trigger = self.policy.trigger
        if steps[0].divergence is not None:
            return [step.divergence for step in steps if step.divergence is not None]
        student = log_prob_table([step.log_probs for step in steps])
        match trigger.name:
            case "kl" if teacher is not None and isinstance(trigger, KlTrigger):
                other = log_prob_table([step.log_probs for step in teacher])
                pair = (student, other) if trigger.direction == "student_teacher" else (other, student)
                return _floats(kl_divergence(*pair))
            case "entropy64":
                return _floats(top_entropy(student))
            case "margin":
                return _floats(margin(student))
            case "always":
                return [torch.inf] * len(steps)
            case "random":
                return None
        return [-torch.inf] * len(steps)  # never, or warm-up steps alone

    async def _commit(self, pins: Pins, seq: Sequence, chunk: DraftedChunk) -> Finish | None:
        """Append the tokens of a chunk up to the first that differs, or to the text's end."""
        finish, kept = None, 0
        for place, step in enumerate(chunk.steps):
            token = default_token(seq, step)
            divergence = self._divergence(seq, chunk, place)
            is_past_warmup = len(seq.output) >= self.policy.warmup_tokens
            if is_past_warmup and self.policy.fires(divergence):
                fired = await self._select(pins, seq, chunk, place, divergence)
                record_step(seq, fired, self.policy)
                token = fired.picked
            finish, kept = seq.append(token), kept + 1
            if self.keep_top:
                seq.tops.append(top_columns(step))
            if finish is not None or token != step.token:
                break
        seq.usage.discarded_tokens += len(chunk.steps) - kept
        return finish

    def _divergence(self, seq: Sequence, chunk: DraftedChunk, place: int) -> float:
        if chunk.divergences is not None:
            return chunk.divergences[place]
        # In float32, as the engine compares it with the threshold.
        return float(torch.tensor(seq.trigger_numbers.random()))

    async def _select(
        self, pins: Pins, seq: Sequence, chunk: DraftedChunk, place: int, divergence: float
    ) -> FiredStep:
        """The selector's choice at a step that fires, the next one of the text."""
        step = chunk.steps[place]
        candidates = step.ids[: self.policy.top_k]
        if self.scorer is not None:
            log_probs = step.log_probs[: self.policy.top_k]
            scores = await self.scorer.scores(pins.scorer, seq, candidates, log_probs)
            picked = candidates[scores.index(max(scores))]
            return FiredStep(len(seq.output), divergence, candidates, scores, step.ids[0], picked)
        is_takeover = self.policy.teacher_writes
        teacher = chunk.teacher[place] if chunk.teacher is not None else None
        if teacher is None or (is_takeover and teacher.token is None):
            assert self.teacher is not None
            teacher = await self.teacher.step(pins.teacher, seq, seq.ids, candidates)
        scores = torch.tensor(teacher.log_probs[: len(candidates)]).exp().tolist()
        taken = teacher.token if is_takeover else candidates[scores.index(max(scores))]
        assert taken is not None
        return FiredStep(len(seq.output), divergence, candidates, scores, step.ids[0], taken, teacher.token)


def top_columns(step: DraftedStep) -> tuple[torch.Tensor, torch.Tensor]:
    """A step's most likely tokens, int32 [SUPPORT], and their log-probabilities, float32 [SUPPORT].

    Where a server returned fewer that are text, the rest has a log-probability of minus infinity.
    """
    missing = SUPPORT - len(step.ids)
    ids = [*step.ids[:SUPPORT], *[0] * missing]
    log_probs = [*step.log_probs[:SUPPORT], *[-torch.inf] * missing]
    return torch.tensor(ids, dtype=torch.int32), torch.tensor(log_probs)


def default_token(seq: Sequence, step: DraftedStep) -> int:
    """The token of a step that does not fire: the argmax, or drawn by the request's own random numbers."""
    sampling = seq.request.sampling
    if sampling is None:
        return step.ids[0]
    assert 0 < sampling.top_k <= SUPPORT
    place = sample(torch.tensor([step.log_probs]), sampling, [seq.token_numbers.random()])
    return step.ids[int(place)]


def _floats(values: torch.Tensor) -> list[float]:
    numbers: list[float] = values.tolist()
    return numbers
