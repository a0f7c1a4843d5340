"""A teacher of this process beside a student on servers: it scores and writes as `RemoteTeacher` does."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.engine.prefix_cache import cached_prefix
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import not_finite
from s2t_eval.remote.drafting import IsEnd, RemoteDraft
from s2t_eval.remote.local_writer import LocalWriter
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.teacher import TeacherStep
from s2t_eval.selection.policy import greedy

STEPS_AT_ONCE = 64
"""Steps whose logits of the whole vocabulary are in memory at once."""


@dataclass(eq=False)
class _Reading:
    """Steps of one text that are to be scored: the text's next one, and those behind drafted tokens."""

    seq: Sequence
    row: int
    ids: list[int]
    """the text, of which the first step is the next"""
    drafted: list[int]
    """tokens at the steps but the last"""
    scored: list[list[int]]
    """tokens to score at each step"""


Job = _Reading | RemoteDraft
Out = list[TeacherStep] | list[DraftedStep]


class LocalTeacher(LocalWriter):
    """Scores and continues many texts in common passes; only tokens that it has not read are computed.

    Args:
        runner: the teacher.
        rows: texts read at once.
        capacity: longest text in tokens, with its prompt and a question behind it.
        is_end: ends a step of reasoning that it writes; None where it writes none.
    """

    def __init__(self, runner: ModelRunner, rows: int, capacity: int, is_end: IsEnd | None) -> None:
        super().__init__(runner, greedy(), _count, rows, capacity, is_end)

    async def step(
        self, pin: int, seq: Sequence, ids: abc.Sequence[int], scored: abc.Sequence[int]
    ) -> TeacherStep:
        """The teacher after `ids`; see `RemoteTeacher.step`."""
        [step] = await self._read(_Reading(seq, pin, list(ids), [], [list(scored)]))
        return step

    async def chunk(self, pin: int, seq: Sequence, steps: abc.Sequence[DraftedStep]) -> list[TeacherStep]:
        """The teacher at every step of a chunk that follows `seq.ids`; see `RemoteTeacher.chunk`."""
        drafted = [step.token for step in steps[:-1]]
        return await self._read(_Reading(seq, pin, list(seq.ids), drafted, [step.ids for step in steps]))

    async def _read(self, reading: _Reading) -> list[TeacherStep]:
        steps: list[TeacherStep] = await self.submit(reading)
        return steps

    @torch.inference_mode()
    def _pass(self, new: abc.Sequence[Job]) -> list[tuple[Job, Out]]:
        """Score all steps that are to be scored, and write a token of every text that it continues."""
        finished: list[tuple[Job, Out]] = []
        finished += self._score([job for job in new if isinstance(job, _Reading)])
        finished += self.drafting.run([job for job in new if isinstance(job, RemoteDraft)])
        return finished

    def _score(self, new: abc.Sequence[_Reading]) -> list[tuple[_Reading, list[TeacherStep]]]:
        """Read all texts, and score their steps."""
        if not new:
            return []
        readings = sorted(new, key=lambda reading: reading.row)
        self._prefill([reading for reading in readings if len(reading.ids) > 1])
        states = self._extend(readings)
        steps = [
            step
            for start in range(0, len(states), STEPS_AT_ONCE)
            for step in self._scores(readings, states, start)
        ]
        rest = iter(steps)
        return [(reading, [next(rest) for _ in reading.scored]) for reading in readings]

    def _prefill(self, readings: abc.Sequence[_Reading]) -> None:
        """Read what rows lack of the texts without their last token; prompts share their beginnings."""
        far = [
            reading
            for reading in readings
            if cached_prefix(reading.ids, self.runner.tokens[reading.row]) < len(reading.ids) - 1
        ]
        if not far:
            return
        rows, texts = [reading.row for reading in far], [reading.ids[:-1] for reading in far]
        for reading, tokens in zip(far, self.runner.prefill(rows, texts).computed, strict=True):
            reading.seq.usage.teacher_tokens += tokens

    def _extend(self, readings: abc.Sequence[_Reading]) -> Tensor:
        """The states that predict every step of these texts, [steps, hidden]."""
        unread = []
        for reading in readings:
            self.runner.truncate(reading.row, len(reading.ids) - 1)
            unread.append([reading.ids[-1], *reading.drafted])
            reading.seq.usage.teacher_calls += 1
            reading.seq.usage.teacher_tokens += len(unread[-1])
        return torch.cat(self.runner.extend([reading.row for reading in readings], unread))

    def _scores(self, readings: abc.Sequence[_Reading], states: Tensor, start: int) -> list[TeacherStep]:
        """The scores of some of the steps."""
        places = [(reading.seq, ids) for reading in readings for ids in reading.scored]
        places = places[start : start + STEPS_AT_ONCE]
        logits = self.runner.head(states[start : start + STEPS_AT_ONCE])
        largest, best = logits.max(-1)
        for (seq, _), is_finite in zip(places, largest.isfinite().tolist(), strict=True):
            if not is_finite:
                raise not_finite(self.runner, seq)
        width = max(len(ids) for _, ids in places)
        padded = torch.tensor([[*ids, *[0] * (width - len(ids))] for _, ids in places], device=logits.device)
        log_probs = (logits.gather(-1, padded) - logits.logsumexp(-1, keepdim=True)).tolist()
        return [
            TeacherStep(row[: len(ids)], token)
            for (_, ids), row, token in zip(places, log_probs, best.tolist(), strict=True)
        ]


def _count(seq: Sequence, prompt_tokens: int, tokens: int) -> None:
    seq.usage.teacher_calls += 1
    seq.usage.teacher_tokens += prompt_tokens + tokens
