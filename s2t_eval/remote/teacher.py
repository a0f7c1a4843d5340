"""The teacher behind a server: its scores at one step, or at every step of a chunk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence as Seq
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.protocol import (
    SUPPORT,
    DraftedStep,
    Rows,
    Scored,
    draft_body,
    read_draft,
    read_rows,
    read_scores,
    rows_body,
    score_body,
)
from s2t_eval.remote.settings import ServerError

logger = logging.getLogger(__name__)


class TeacherStep(NamedTuple):
    """The teacher at one step."""

    log_probs: list[float]
    """of the tokens that were named, in their order"""
    token: int | None
    """its argmax token of the text vocabulary; None where it is not known"""


class RemoteTeacher:
    """Scores tokens that the student proposes.

    Args:
        pool: its servers.
        text_vocab: ids from here on are no text.
        has_rows: whether the servers return the steps of a chunk in one request (the V2 model runner does).
    """

    def __init__(self, pool: Pool, text_vocab: int, has_rows: bool) -> None:
        self.pool = pool
        self.text_vocab = text_vocab
        self.has_rows = has_rows
        if not has_rows:
            logger.warning(
                "the teacher's servers score one step a request, so trigger=kl and labels take about ten "
                "times as many requests; start them with VLLM_USE_V2_MODEL_RUNNER=1 to score a chunk in one"
            )

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        return self.pool.pin(seq.index)

    def release(self, seq: Sequence) -> None:
        """Nothing is kept for a text."""

    def close(self) -> None:
        """The HTTP session is the caller's."""

    async def step(self, pin: Pin, seq: Sequence, ids: Seq[int], scored: Seq[int]) -> TeacherStep:
        """The teacher after `ids`: log-probabilities of the tokens `scored`, and its argmax."""

        def read(answer: object) -> Scored:
            return read_scores(answer, scored)

        result = await self.pool.generate(pin, score_body(ids, scored), read)
        _count(seq, result.usage.computed)
        token = result.token
        if token >= self.text_vocab:  # a row that pads the vocabulary
            token = await self._text_token(pin, seq, ids)
        return TeacherStep(result.log_probs, token)

    async def _text_token(self, pin: Pin, seq: Sequence, prompt: Seq[int]) -> int:
        body = draft_body(prompt, 1, (), SUPPORT)
        drafted = await self.pool.generate(
            pin, body, lambda answer: read_draft(answer, 1, self.text_vocab, SUPPORT)
        )
        _count(seq, drafted.usage.computed)
        ids = drafted.steps[0].ids
        if not ids:
            raise ServerError(
                f"teacher server {pin.server.url}: none of its {SUPPORT} most likely tokens is text"
            )
        return ids[0]

    async def chunk(self, pin: Pin, seq: Sequence, steps: Seq[DraftedStep]) -> list[TeacherStep]:
        """The teacher at every step of a chunk that follows `seq.ids`: the tokens `ids` of each step."""
        if not self.has_rows:
            return await self._step_by_step(pin, seq, steps)
        rows = await self._rows(pin, seq, steps)
        return [
            TeacherStep(row[: len(step.ids)], None)
            for row, step in zip(rows.log_probs.tolist(), steps, strict=True)
        ]

    async def _rows(self, pin: Pin, seq: Sequence, steps: Seq[DraftedStep]) -> Rows:
        """One request; a second one without the cache where the cache reached into the chunk."""
        tokens, scored = [step.token for step in steps], [step.ids for step in steps]
        for reads_cache in (True, False):
            body = rows_body(seq.ids, tokens, scored, reads_cache)
            rows = await self.pool.generate(pin, body, lambda answer: read_rows(answer, scored))
            if rows is not None:
                _count(seq, rows.usage.computed)
                return rows
            _count(seq, 0)
        raise ServerError(
            f"teacher server {pin.server.url}: it returns no prompt_token_id_logprobs, also without its "
            "prefix cache"
        )

    async def _step_by_step(self, pin: Pin, seq: Sequence, steps: Seq[DraftedStep]) -> list[TeacherStep]:
        """One request a step, the longest first: the others find their tokens in its prefix cache."""
        text = [*seq.ids, *(step.token for step in steps)]
        prompts = [text[: len(seq.ids) + place] for place in range(len(steps))]
        last = await self.step(pin, seq, prompts[-1], steps[-1].ids)
        pairs = zip(prompts[:-1], steps[:-1], strict=True)
        others = await asyncio.gather(*(self.step(pin, seq, ids, step.ids) for ids, step in pairs))
        return [*others, last]


def log_prob_table(columns: Seq[Seq[float]]) -> Tensor:
    """Lists of log-probabilities as float32 [steps, m]; shorter ones end in minus infinity."""
    width = max(map(len, columns))
    return torch.tensor([[*column, *[-torch.inf] * (width - len(column))] for column in columns])


def _count(seq: Sequence, computed: int) -> None:
    seq.usage.server_requests += 1
    seq.usage.teacher_calls += 1
    seq.usage.teacher_tokens += computed
