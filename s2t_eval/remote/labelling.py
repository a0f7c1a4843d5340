"""A teacher on servers at every step of whole texts: scores of the student's tokens, and its own token.

One request scores all steps of a text. The teacher's own token is known without a further request where the
best of the scored tokens is more likely than all others together.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
import torch
from torch import Tensor

from s2t_eval.engine.request import Request
from s2t_eval.engine.sequence import Sequence as TextSequence
from s2t_eval.engine.stop import StopRule
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.jobs import Work, run_jobs
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.settings import RemoteSettings, ServerError
from s2t_eval.remote.teacher import RemoteTeacher, TeacherStep, log_prob_table

ROWS_A_REQUEST = 2048
"""Most steps of one request: 64 token ids each are about half a megabyte of JSON."""
STEPS_AT_ONCE = 16
"""Steps of a text that are scored at once where each is a request of its own."""
CERTAIN = 1e-4
"""Probability by which a token has to exceed all unscored ones to be the argmax: more than float32 rounds."""


class ScoredText(NamedTuple):
    """A text with the tokens to score at each step."""

    prompt_ids: Sequence[int]
    """the teacher's prompt"""
    output_ids: Sequence[int]
    """the student's text, at least one token"""
    top_ids: Tensor
    """the student's most likely tokens at each step, int32 [steps, m]"""
    top_log_probs: Tensor
    """their log-probabilities, float32 [steps, m]; tokens of probability 0 are not scored"""


@dataclass(frozen=True)
class TextScores:
    """The teacher at every step of a text.

    Args:
        index: of the text in the list that is scored.
        text: the text.
        log_probs: of the student's most likely tokens, float32 [steps, m]; minus infinity where one was not
            scored.
        argmax: the teacher's most likely token of the text vocabulary, int32 [steps], if it was wanted.
    """

    index: int
    text: ScoredText
    log_probs: Tensor
    argmax: Tensor | None


class RemoteScorer:
    """Scores texts on the teacher's servers.

    Args:
        fleet: the servers; without rows each step is a request of its own.
        text_vocab: size of the text vocabulary.
        settings: texts at once, timeouts.

    Raises:
        ServerError: there is no teacher.
    """

    def __init__(self, fleet: Fleet, text_vocab: int, settings: RemoteSettings) -> None:
        if not fleet.teachers:
            raise ServerError(
                "teacher_url: labels need servers of a teacher, and there are none; give teacher_url=URL"
            )
        self.fleet = fleet
        self.text_vocab = text_vocab
        self.settings = settings

    def run(self, texts: Sequence[Callable[[], ScoredText]], with_argmax: bool) -> Iterator[TextScores]:
        """Score texts; each is yielded as soon as it is scored, in no fixed order.

        Args:
            texts: functions that return a text when its turn comes, so that few are in memory.
            with_argmax: whether the teacher's own token is found at every step.

        Raises:
            ServerError: a server refuses a request or answers it wrongly, or a text is too long for it.
            ServersUnavailableError: no server answers.
        """

        def start(session: aiohttp.ClientSession) -> Work[Callable[[], ScoredText], TextScores]:
            pool = Pool("teacher", self.fleet.teachers, session, self.settings, secrets.token_hex(8))
            teacher = RemoteTeacher(pool, self.text_vocab, self.fleet.has_rows)

            async def work(index: int, load: Callable[[], ScoredText]) -> TextScores:
                text = load()
                self._require_room(text)
                scorer = _TextScorer(teacher, pool.pin(index), text)
                log_probs, scored = await scorer.log_probs()
                argmax = await scorer.argmax(scored) if with_argmax else None
                return TextScores(index, text, log_probs, argmax)

            return work

        return run_jobs(texts, start, self.settings)

    def _require_room(self, text: ScoredText) -> None:
        length = len(text.prompt_ids) + len(text.output_ids) + 1
        longest = min(server.max_length for server in self.fleet.teachers)
        if length > longest:
            raise ServerError(
                f"teacher servers: a text of {len(text.prompt_ids)} prompt tokens and {len(text.output_ids)} "
                f"generated ones needs a length of {length}, they have {longest}; raise their --max-model-len"
            )


class _TextScorer:
    """The requests of one text."""

    def __init__(self, teacher: RemoteTeacher, pin: Pin, text: ScoredText) -> None:
        self.teacher = teacher
        self.pin = pin
        self.ids = [*text.prompt_ids, *text.output_ids]
        self.first = len(text.prompt_ids)
        columns = zip(text.output_ids, text.top_ids.tolist(), text.top_log_probs.tolist(), strict=True)
        self.steps = [DraftedStep(token, *_likely(ids, log_probs)) for token, ids, log_probs in columns]
        self.width = text.top_ids.shape[1]

    async def log_probs(self) -> tuple[Tensor, list[TeacherStep]]:
        """Of the student's most likely tokens at every step, as a table [steps, m] and as lists."""
        size = ROWS_A_REQUEST if self.teacher.has_rows else STEPS_AT_ONCE
        scored: list[TeacherStep] = []
        for begin in range(0, len(self.steps), size):
            seq = self._beginning(begin)
            scored += await self.teacher.chunk(self.pin, seq, self.steps[begin : begin + size])
        table = log_prob_table([step.log_probs for step in scored])
        # Every text has the student's m columns, also where fewer tokens were scored at all steps.
        return torch.nn.functional.pad(table, (0, self.width - table.shape[1]), value=-torch.inf), scored

    async def argmax(self, scored: Sequence[TeacherStep]) -> Tensor:
        """The teacher's most likely token at every step, int32 [steps]; a request where it is not certain."""
        tokens = [
            step.token if step.token is not None else certain_argmax(drafted.ids, step.log_probs)
            for drafted, step in zip(self.steps, scored, strict=True)
        ]
        unknown = [place for place, token in enumerate(tokens) if token is None]
        for begin in range(0, len(unknown), STEPS_AT_ONCE):
            places = unknown[begin : begin + STEPS_AT_ONCE]
            steps = await asyncio.gather(*(self._single(place) for place in places))
            for place, step in zip(places, steps, strict=True):
                tokens[place] = step.token
        return torch.tensor(tokens, dtype=torch.int32)

    async def _single(self, place: int) -> TeacherStep:
        seq = self._beginning(place)
        return await self.teacher.step(self.pin, seq, seq.ids, self.steps[place].ids[:1])

    def _beginning(self, num_steps: int) -> TextSequence:
        """The text up to a step, as the teacher's requests take it."""
        request = Request(tuple(self.ids[: self.first + num_steps]), 1)
        return TextSequence(0, request, StopRule(request, None))


def certain_argmax(ids: Sequence[int], log_probs: Sequence[float]) -> int | None:
    """The most likely token, if it is more likely than all tokens that were not scored; else None.

    Args:
        ids: the scored tokens.
        log_probs: their log-probabilities over the whole vocabulary.
    """
    probs = torch.tensor(log_probs, dtype=torch.float64).exp()
    largest = float(probs.max())
    if largest <= 1 - float(probs.sum()) + CERTAIN:
        return None
    # Of equal probabilities the smaller id is the argmax, as everywhere.
    return min(token for token, prob in zip(ids, probs.tolist(), strict=True) if prob == largest)


def _likely(ids: list[int], log_probs: list[float]) -> tuple[list[int], list[float]]:
    """The leading tokens of a probability above 0."""
    count = sum(value > -torch.inf for value in log_probs)
    return ids[:count], log_probs[:count]
