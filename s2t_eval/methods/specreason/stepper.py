"""SpecReason (arXiv 2504.07891) under the scheduler of every method.

The student drafts a step of reasoning token by token. The teacher prefills the complete draft, and behind it
the question of the score, in one chunk. An accepted draft becomes text; a rejected one is dropped in both
models, and the teacher writes the step itself, which is not scored. The published code samples at temperature
0.6 and stops at a budget; here drafts are greedy unless a request samples, and a text ends as in every other
method.
"""

from __future__ import annotations

import math
from collections import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2t_eval.engine.request import Finish, Request
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import (
    Finished,
    append_tokens,
    greedy_tokens,
    not_finite,
    prefill_student,
    prefill_teacher,
    sampled_tokens,
)
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.scores import StepScore, StepStates, content_of, score_without_content
from s2t_eval.selection.policy import Policy

SPECREASON = Policy("specreason")
"""Its description in results: no trigger and no selector."""


@dataclass
class StepwiseSequence(Sequence):
    """A request and its present step of reasoning; `observed` has the scores of its drafts, a list a score.

    Args:
        step: tokens of the step: a draft that is not text yet, or the teacher's tokens of it so far.
        is_teacher_writing: whether the teacher writes the step.
        student_state: the student's state behind text and draft, [hidden].
        teacher_state: the teacher's state behind the last token of the text that it has processed, [hidden].
    """

    step: list[int] = field(default_factory=list)
    is_teacher_writing: bool = False
    student_state: Tensor = field(default_factory=lambda: torch.empty(0))
    teacher_state: Tensor = field(default_factory=lambda: torch.empty(0))


class SpecReasonStepper:
    """One step of decoding: a token for every row, and a score for the rows whose draft is complete.

    Args:
        student: drafts the steps.
        teacher: scores them, and writes those that it rejects.
        ends: when a step is complete.
        score: the teacher's score.
        accept: smallest score of an accepted draft; 0 accepts all drafts, a value above 1 none.
        also: further scores, recorded without deciding anything; each has the question of `score` or none.
    """

    def __init__(
        self,
        student: ModelRunner,
        teacher: ModelRunner,
        ends: StepEnds,
        score: StepScore,
        accept: float,
        also: abc.Sequence[StepScore],
    ) -> None:
        assert all(other.question in ((), score.question) for other in also)
        self.student = student
        self.teacher = teacher
        self.ends = ends
        self.score = score
        self.accept = accept
        self.also = also
        self.runners = [student, teacher]

    @property
    def extra_slots(self) -> int:
        """Slots for the question of the score, which follows a text."""
        return len(self.score.question) + 1

    def sequence(self, index: int, request: Request, stop: StopRule) -> StepwiseSequence:
        """The state of a new request."""
        return StepwiseSequence(index, request, stop, num_observed=1 + len(self.also))

    def prefill(self, seqs: abc.Sequence[StepwiseSequence], first: int) -> None:
        """Prefill the prompts of `seqs[first:]` with both models."""
        rows = range(first, len(seqs))
        student_states = prefill_student(self.student, seqs, rows)
        tokens_before = [seqs[row].usage.teacher_tokens for row in rows]
        teacher_states = prefill_teacher(self.teacher, seqs, rows)
        for i, row in enumerate(rows):
            seq = seqs[row]
            seq.student_state, seq.teacher_state = student_states[i], teacher_states[i]
            seq.usage.teacher_prefilled += seq.usage.teacher_tokens - tokens_before[i]

    def emit(self, seqs: abc.Sequence[StepwiseSequence]) -> Finished:
        """The teacher's tokens, and the accepted drafts among those that have become complete."""
        writing = [row for row, seq in enumerate(seqs) if seq.is_teacher_writing]
        drafting = [row for row, seq in enumerate(seqs) if not seq.is_teacher_writing]
        finished = self._emit_teacher_tokens(seqs, writing) if writing else []
        completed = self._draft_tokens(seqs, drafting) if drafting else []
        return sorted(
            finished + (self._score_drafts(seqs, completed) if completed else []),
            key=lambda row_finish: row_finish[0],
        )

    def keep(self, order: list[int]) -> None:
        """Does nothing, because every state is an attribute of its sequence."""

    def advance(self, seqs: abc.Sequence[StepwiseSequence]) -> None:
        """Each row's next model processes the tokens of the row's text that it lacks."""
        drafting = [row for row, seq in enumerate(seqs) if not seq.is_teacher_writing]
        texts = [[*seqs[row].ids, *seqs[row].step] for row in drafting]
        for row, states in zip(drafting, _extend_to(self.student, drafting, texts), strict=True):
            seqs[row].student_state = states[-1]
            seqs[row].usage.forwards += 1
        writing = [row for row, seq in enumerate(seqs) if seq.is_teacher_writing]
        texts = [seqs[row].ids for row in writing]
        for row, states in zip(writing, _extend_to(self.teacher, writing, texts), strict=True):
            if len(states):  # a teacher that has just rejected a draft has processed the text already
                seqs[row].teacher_state = states[-1]
                seqs[row].usage.teacher_calls += 1
                seqs[row].usage.teacher_tokens += len(states)

    def _emit_teacher_tokens(self, seqs: abc.Sequence[StepwiseSequence], rows: list[int]) -> Finished:
        """The teacher's next token of these rows becomes text."""
        states = torch.stack([seqs[row].teacher_state for row in rows])
        tokens = _next_tokens(self.teacher, states, [seqs[row] for row in rows], rows)
        for row, token in zip(rows, tokens, strict=True):
            seq = seqs[row]
            seq.usage.teacher_generated += 1
            seq.step.append(token)
            if self.ends.is_end(seq.step):
                seq.is_teacher_writing, seq.step = False, []
        return append_tokens((row, seqs[row], token) for row, token in zip(rows, tokens, strict=True))

    def _draft_tokens(self, seqs: abc.Sequence[StepwiseSequence], rows: list[int]) -> list[int]:
        """The student's next token of these rows; returns the rows whose draft is complete."""
        states = torch.stack([seqs[row].student_state for row in rows])
        tokens = _next_tokens(self.student, states, [seqs[row] for row in rows], rows)
        complete = []
        for row, token in zip(rows, tokens, strict=True):
            seq = seqs[row]
            seq.step.append(token)
            is_last = seq.stop.would_finish([*seq.output, *seq.step]) is not None
            if is_last or self.ends.is_end(seq.step):
                complete.append(row)
        return complete

    def _score_drafts(self, seqs: abc.Sequence[StepwiseSequence], rows: list[int]) -> Finished:
        """Score the drafts of these rows in one ragged pass; accept or reject each."""
        question = list(self.score.question)
        contents = [self._content(seqs[row]) for row in rows]
        texts = [
            [*seqs[row].ids, *content, *(question if content else [])]
            for row, content in zip(rows, contents, strict=True)
        ]
        cached_lengths = [len(self.teacher.tokens[row]) for row in rows]
        finished = []
        all_states = _extend_to(self.teacher, rows, texts)
        end_states = self._end_states(seqs, rows, contents)
        for row, cached_length, content, states, ended in zip(
            rows, cached_lengths, contents, all_states, end_states, strict=True
        ):
            seq = seqs[row]
            num_read = len(states) + len(ended)
            seq.usage.teacher_calls += num_read > 0
            seq.usage.teacher_tokens += num_read
            seq.usage.teacher_prefilled += num_read
            seq.usage.evaluation_tokens += len(question) if content else 0
            boundary = len(seq.ids) - 1 - cached_length
            before = seq.teacher_state[None] if boundary < 0 else states[boundary : boundary + 1]
            first = boundary + 1
            read = states[first : first + len(content)] if content else before[:0]
            draft_states = torch.cat([before, read, ended])
            after = states[-1] if content else None
            self._observe(seq, StepStates(draft_states[: len(seq.step)], seq.step, after))
            if (seq.observed[0][-1] if content else score_without_content(seq)) >= self.accept:
                finish = self._accept_draft(seq, draft_states[-1])  # of an ended text, the state is not used
                if finish is not None:
                    finished.append((row, finish))
            else:
                self._reject_draft(seq, row, draft_states[0])
            self.teacher.truncate(row, len(seq.ids))
        return finished

    def _content(self, seq: StepwiseSequence) -> list[int]:
        """The tokens of a draft that the teacher reads; a score without a question reads the end as well."""
        return content_of(seq.step, seq, self.ends.decode) if self.score.question else seq.step

    def _end_states(
        self, seqs: abc.Sequence[StepwiseSequence], rows: list[int], contents: abc.Sequence[list[int]]
    ) -> list[Tensor]:
        """The states of the tokens between each draft's content and its last token, for further scores.

        They follow the draft, not the question. Where no further score reads a draft's own tokens, none are
        computed.
        """
        texts = []
        for row, content in zip(rows, contents, strict=True):
            seq = seqs[row]
            rest = seq.step[len(content) : -1] if any(not one.question for one in self.also) else []
            if rest:
                self.teacher.truncate(row, len(seq.ids) + len(content))
            texts.append([*seq.ids, *content, *rest] if rest else self.teacher.tokens[row])
        states = _extend_to(self.teacher, rows, texts)
        empty = [seqs[row].teacher_state[None][:0] for row in rows]
        return [own if len(own) else none for own, none in zip(states, empty, strict=True)]

    def _observe(self, seq: StepwiseSequence, states: StepStates) -> None:
        """Record the scores of a draft: of one without content, those that have no question.

        Raises:
            NonFiniteLogitsError: the teacher's logits are NaN or infinite.
        """
        for scores, one in zip(seq.observed, (self.score, *self.also), strict=True):
            if one.question and states.after is None:
                continue
            scores.append(one(self.teacher, states))
            if math.isnan(scores[-1]):
                raise not_finite(self.teacher, seq)

    def _accept_draft(self, seq: StepwiseSequence, teacher_state: Tensor) -> Finish | None:
        """The draft becomes text; only its last token can end the text."""
        seq.usage.drafted_steps += 1
        seq.teacher_state = teacher_state
        tokens, seq.step = seq.step, []
        return [seq.append(token) for token in tokens][-1]

    def _reject_draft(self, seq: StepwiseSequence, row: int, teacher_state: Tensor) -> None:
        """The draft is dropped, and the teacher writes from the end of the text."""
        seq.usage.drafted_steps += 1
        seq.usage.rejected_steps += 1
        seq.usage.discarded_tokens += len(seq.step)
        seq.teacher_state = teacher_state
        seq.step, seq.is_teacher_writing = [], True
        self.student.truncate(row, len(seq.ids))


def _extend_to(runner: ModelRunner, rows: list[int], texts: abc.Sequence[abc.Sequence[int]]) -> list[Tensor]:
    """The states at the tokens of the texts that are not in the cache rows yet."""
    uncached = [text[len(runner.tokens[row]) :] for row, text in zip(rows, texts, strict=True)]
    return runner.extend(rows, uncached) if rows else []


def _next_tokens(
    runner: ModelRunner, states: Tensor, seqs: abc.Sequence[Sequence], rows: abc.Sequence[int]
) -> list[int]:
    """A model's next token of these sequences: its argmax, or sampled where the request samples."""
    logits = runner.head(states)
    most_likely = logits.max(-1)
    greedy = greedy_tokens(runner, seqs, most_likely.values, most_likely.indices)
    return sampled_tokens(seqs, logits, greedy)


class SpecReasonDecoder(Scheduler[StepwiseSequence]):
    """Decoding with SpecReason.

    Args:
        student: drafts the steps.
        teacher: scores them, and writes those that it rejects.
        ends: when a step is complete.
        score: the teacher's score.
        accept: smallest score of an accepted draft; 0 accepts all drafts, a value above 1 none.
        rows: sequences decoded at once.
        decode: token ids to text, for requests with stop strings.
        answer_of: extracts the answer outside of a text's thoughts, for requests with thoughts.
        also: further scores, recorded without deciding anything; each has the question of `score` or none.
    """

    def __init__(
        self,
        student: ModelRunner,
        teacher: ModelRunner,
        ends: StepEnds,
        score: StepScore,
        accept: float,
        rows: int = 32,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
        also: abc.Sequence[StepScore] = (),
    ) -> None:
        stepper = SpecReasonStepper(student, teacher, ends, score, accept, also)
        super().__init__(stepper, rows, decode, answer_of)
