"""SpecReason with its student or its teacher, or both, on servers.

Drafts, scores and decisions are those of `stepper.py`. A server generates chunks, so a draft is cut where its
step ends. What the student has generated behind an accepted step begins the next one; behind a rejected step,
and behind a step of the teacher, the rest of a chunk is discarded.
"""

from __future__ import annotations

import secrets
from collections import abc
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from s2t_eval.engine.request import Finish, Request, Result, longest_text
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.scores import StepScore, content_of, score_without_content
from s2t_eval.methods.specreason.stepper import SPECREASON
from s2t_eval.remote.build import Fleet, LocalModels, Roles
from s2t_eval.remote.many_texts import decode_texts, require_room
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.remote.roles import Teacher, Writer
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.remote.student import UNBOUNDED_CHUNK
from s2t_eval.remote.text import default_token


class PinnedWriter(NamedTuple):
    """A model that writes steps of a text, at the text's place."""

    model: Writer
    pin: Any
    """the text's server, or its cache row"""
    chunk: int
    """most tokens of a request"""


class WrittenStep(NamedTuple):
    """A step of reasoning that a model has written."""

    tokens: list[int]
    rest: list[DraftedStep]
    """what it has generated behind the step"""


@dataclass(frozen=True)
class SpecReasonText:
    """Decodes one text at a time; see `SpecReasonStepper` for the arguments that both have.

    Args:
        student: drafts the steps.
        teacher: scores them, and writes those that it rejects.
        ends: when a step is complete.
        score: the teacher's score.
        accept: smallest score of an accepted draft.
        student_chunk: most tokens of a request to the student.
        teacher_chunk: most tokens of a request to the teacher.
    """

    student: Writer
    teacher: Teacher
    ends: StepEnds
    score: StepScore
    accept: float
    student_chunk: int
    teacher_chunk: int

    def close(self) -> None:
        """End the work of models of this process."""
        self.student.close()
        self.teacher.close()

    async def decode(self, seq: Sequence) -> Result:
        """The whole text of a sequence; the scores of its drafts are `observed[0]`."""
        student = PinnedWriter(self.student, self.student.pin(seq), self.student_chunk)
        teacher = PinnedWriter(self.teacher, self.teacher.pin(seq), self.teacher_chunk)
        finish: Finish | None = None
        generated: list[DraftedStep] = []
        while finish is None:
            draft = await self._write(student, seq, generated)
            seq.usage.drafted_steps += 1
            score = await self._scored(teacher.pin, seq, draft.tokens)
            if score >= self.accept:
                finish, generated = _append(seq, draft.tokens), draft.rest
            else:
                seq.usage.rejected_steps += 1
                seq.usage.discarded_tokens += len(draft.tokens) + len(draft.rest)
                finish, generated = await self._rewrite(teacher, seq), []
        seq.usage.discarded_tokens += len(generated)
        self.student.release(seq)
        self.teacher.release(seq)
        return seq.result(finish)

    async def _rewrite(self, teacher: PinnedWriter, seq: Sequence) -> Finish | None:
        """The teacher writes the step, which is not scored."""
        step = await self._write(teacher, seq, [])
        seq.usage.teacher_generated += len(step.tokens)  # the surplus is among the teacher's tokens already
        return _append(seq, step.tokens)

    async def _write(self, writer: PinnedWriter, seq: Sequence, generated: list[DraftedStep]) -> WrittenStep:
        """The next step of a text, which begins with tokens that the model has generated already."""
        tokens: list[int] = []
        rest = list(generated)
        while True:
            if not rest:
                room = seq.request.max_new_tokens - len(seq.output) - len(tokens)
                limit, is_plain = min(writer.chunk, room), seq.request.sampling is None
                rest = await writer.model.draft(writer.pin, seq, limit, is_plain, tokens)
            step = rest.pop(0)
            tokens.append(default_token(seq, step))
            if tokens[-1] != step.token:
                if writer.model is self.student:  # the teacher's are among its tokens already
                    seq.usage.discarded_tokens += len(rest)
                rest = []
            is_last = seq.stop.would_finish([*seq.output, *tokens]) is not None
            if is_last or self.ends.is_end(tokens):
                return WrittenStep(tokens, rest)

    async def _scored(self, pin: Any, seq: Sequence, step: list[int]) -> float:
        """The teacher's score of a drafted step, which is observed where the step has content."""
        question, named = self.score.question, self.score.named
        tokens_before = seq.usage.teacher_tokens
        if named:
            content = content_of(step, seq, self.ends.decode)
            if not content:
                return score_without_content(seq)
            ids = [*seq.ids, *content, *question]
            score = self.score.of_log_probs(*await self.teacher.step(pin, seq, ids, named))
        else:
            drafted = [DraftedStep(token, [token], [0.0]) for token in step]
            scored = await self.teacher.chunk(pin, seq, drafted)
            score = self.score.of_log_probs([one.log_probs[0] for one in scored], None)
        seq.usage.evaluation_tokens += len(question)
        seq.usage.teacher_prefilled += seq.usage.teacher_tokens - tokens_before
        seq.observed[0].append(score)
        return score


def _append(seq: Sequence, tokens: abc.Sequence[int]) -> Finish | None:
    """A step becomes text; only its last token can end the text."""
    return [seq.append(token) for token in tokens][-1]


@dataclass(frozen=True)
class ServedSpecReason:
    """Many texts at once; concurrency, chunks and the servers' number do not change one.

    Args:
        fleet: the servers.
        ends: when a step is complete.
        score: the teacher's score.
        accept: smallest score of an accepted draft; 0 accepts all drafts, a value above 1 none.
        text_vocab: size of the text vocabulary; ids from there on are never proposed.
        settings: chunk, concurrency, timeouts.
        decode: token ids to text, for requests with stop strings.
        answer_of: the answer outside of a text's thoughts, for requests with thoughts.
        local: the models of this process, where one role is not on servers.
    """

    fleet: Fleet
    ends: StepEnds
    score: StepScore
    accept: float
    text_vocab: int
    settings: RemoteSettings = field(default_factory=RemoteSettings)
    decode: Decode | None = None
    answer_of: AnswerOf | None = None
    local: LocalModels = field(default_factory=LocalModels)

    def run(self, requests: abc.Sequence[Request], on_round: OnRound | None = None) -> abc.Iterator[Result]:
        """Generate; each result is yielded as soon as its text has ended, in no fixed order.

        Args:
            requests: the texts to generate.
            on_round: called when texts end and twice a second, for progress bars and displays.

        Raises:
            ValueError: a request that no server can serve.
            ServerError: a server refuses a request or answers it wrongly.
            ServersUnavailableError: no server of a pool answers.
        """
        question = len(self.score.question)
        require_room(requests, self.fleet.longest_before(question))
        longest = longest_text(requests) + question
        settings = self.settings
        # Of a greedy step nothing but its token is needed, which no other request of a batch takes away.
        draws = any(request.sampling is not None for request in requests)

        def decoder(session: aiohttp.ClientSession, local: LocalModels) -> SpecReasonText:
            roles = Roles(self.fleet, local, SPECREASON, self.text_vocab, settings, longest)
            salt, gates = secrets.token_hex(8), roles.gates(does_teacher_write=draws)
            return SpecReasonText(
                roles.student(session, salt, gates, self.ends.is_end),
                roles.teacher(session, salt, gates, not self.score.named, self.ends.is_end),
                self.ends,
                self.score,
                self.accept,
                settings.chunk if local.student is None else UNBOUNDED_CHUNK,
                settings.chunk if local.teacher is None else UNBOUNDED_CHUNK,
            )

        def sequence(index: int, request: Request) -> Sequence:
            stop = StopRule(request, self.decode, self.answer_of)
            return Sequence(index, request, stop, num_observed=1)

        return decode_texts(requests, sequence, decoder, settings, self.local, on_round)
