"""The teacher behind a server: its scores at one step, or at every step of a chunk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence as Seq
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.protocol import (
    DraftedStep,
    Scored,
    ServerUsage,
    read_rows,
    read_scores,
    rows_body,
    score_body,
)
from s2t_eval.remote.settings import ServerError
from s2t_eval.remote.writer import RemoteWriter, draft_chunk

logger = logging.getLogger(__name__)


class TeacherStep(NamedTuple):
    """The teacher at one step."""

    log_probs: list[float]
    """of the tokens that were named, in their order"""
    token: int | None
    """its argmax token of the text vocabulary; None where it is not known"""


class RemoteTeacher(RemoteWriter):
    """Scores tokens that the student proposes, and writes tokens of its own.

    Args:
        pool: its servers.
        text_vocab: ids from here on are no text.
        has_rows: whether the servers return the steps of a chunk in one request (the V2 model runner does).
    """

    def __init__(self, pool: Pool, text_vocab: int, has_rows: bool) -> None:
        super().__init__(pool, text_vocab, _count_draft)
        self.has_rows = has_rows
        if not has_rows:
            logger.warning(
                "the teacher's servers score one step a request, so trigger=kl, score=logprob and labels "
                "take about ten times as many requests; start them with VLLM_USE_V2_MODEL_RUNNER=1 to score "
                "a chunk in one"
            )

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
        """Its most likely token that is text."""
        [step] = await draft_chunk(
            self.pool, pin, prompt, (), 1, False, self.text_vocab, lambda usage: _count(seq, usage.computed)
        )
        return step.ids[0]

    async def chunk(self, pin: Pin, seq: Sequence, steps: Seq[DraftedStep]) -> list[TeacherStep]:
        """The teacher at every step of a chunk that follows `seq.ids`: the tokens `ids` of each step."""
        if not self.has_rows:
            return await self._step_by_step(pin, seq, steps)
        rows = await self._rows(pin, seq, steps)
        return [
            TeacherStep(row[: len(step.ids)], None) for row, step in zip(rows.tolist(), steps, strict=True)
        ]

    async def _rows(self, pin: Pin, seq: Sequence, steps: Seq[DraftedStep]) -> Tensor:
        """One request; a second one without the cache where the cache reached into the chunk.

        Both are counted with the tokens that the server computed for them.
        """
        tokens, scored = [step.token for step in steps], [step.ids for step in steps]
        for reads_cache in (True, False):
            body = rows_body(seq.ids, tokens, scored, reads_cache)
            rows = await self.pool.generate(pin, body, lambda answer: read_rows(answer, scored))
            _count(seq, rows.usage.computed)
            if rows.log_probs is not None:
                return rows.log_probs
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
    # By numpy, which reads lists several times as fast as torch does.
    table = np.full((len(columns), max(map(len, columns))), -np.inf, np.float32)
    for row, column in zip(table, columns, strict=True):
        row[: len(column)] = column
    return torch.from_numpy(table)


def _count_draft(seq: Sequence, usage: ServerUsage, is_begun: bool) -> None:
    _count(seq, usage.computed + usage.generated - 1)
    seq.usage.teacher_calls += usage.generated - 1  # a pass for each token, as in this process


def _count(seq: Sequence, computed: int) -> None:
    seq.usage.server_requests += 1
    seq.usage.teacher_calls += 1
    seq.usage.teacher_tokens += computed
