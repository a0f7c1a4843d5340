"""Selection with a teacher that verifies in chunks: the student runs ahead, the teacher reads many tokens
in one pass.

Every choice is the one that lockstep makes (`selection_step.py`). In each round the student drafts one
token a row. When the chunk of a row is verified, the teacher reads it in one pass and the trigger is
evaluated at all of its steps. The text is cut at the first step at which another token than the drafted one
is taken; what stands before it is committed in order, what stands behind it is discarded in both models.
"""

from __future__ import annotations

import math
import time
from collections import abc
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.engine.chunk_schedule import ChunkSchedule, Outcome
from s2t_eval.engine.drafts import NUM_KEPT, Chunk, Draft, DraftedSteps
from s2t_eval.engine.request import Finish, FiredStep, Request
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.selection_step import Observers, label_columns, record_step
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import (
    Finished,
    joined,
    not_finite,
    prefill_student,
    prefill_teacher,
    sampled_tokens,
    text_positions,
)
from s2t_eval.engine.stop import StopRule
from s2t_eval.engine.transfer import to_device
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.step import Step, TextPositions
from s2t_eval.selection.top_tokens import TopTokens
from s2t_eval.selection.triggers import Trigger

STEPS_AT_ONCE = {"cpu": 64}
STEPS_AT_ONCE_ELSEWHERE = 1024
"""Steps whose triggers are evaluated together: bounds the rows of the teacher's head that are gathered."""


class StepVerdict(NamedTuple):
    """What the teacher makes of one drafted step."""

    observed: dict[int, float]
    """divergences of the observed triggers that need the teacher, by their place"""
    is_finite: bool
    """whether all logits of the teacher that were read are numbers"""
    fired: FiredStep | None = None


class Verification(NamedTuple):
    """What a commit made of one row's chunk."""

    outcome: Outcome
    finish: Finish | None


@dataclass
class TeacherSteps:
    """The teacher's logits at drafted steps, and whether those that were read are numbers."""

    runner: ModelRunner
    hidden: Tensor
    """[steps, hidden]"""

    def __post_init__(self) -> None:
        self.finite = torch.ones(len(self.hidden), dtype=torch.bool, device=self.hidden.device)

    def logits_at(self, ids: Tensor) -> Tensor:
        """Of ids [steps, m]."""
        logits = self.runner.head_at(self.hidden, ids.to(self.runner.device))
        self.finite &= logits.amax(-1).isfinite().to(self.finite.device)  # the head may be on another one
        return logits

    def logits_of(self, steps: abc.Sequence[int]) -> Tensor:
        """Of the whole vocabulary at some of the steps."""
        logits = self.runner.head(self.hidden[steps])
        self.finite[steps] &= logits.amax(-1).isfinite().to(self.finite.device)
        return logits


class VerifyingStepper:
    """Decoding under a policy whose trigger, or an observed one, needs the teacher at every step.

    Sampled requests are verified token by token: a discarded draft would use up random numbers of its
    request, and the text would depend on the chunks.

    Args:
        student: proposes every token.
        policy: which steps fire; the teacher or nobody picks there (`can_verify`).
        teacher: reads the drafts.
        schedule: when a row's drafts are verified; no text depends on it.
        observers: what is recorded at every step.
    """

    def __init__(
        self,
        student: ModelRunner,
        policy: Policy,
        teacher: ModelRunner,
        schedule: ChunkSchedule,
        observers: Observers,
    ) -> None:
        self.student = student
        self.policy = policy
        self.teacher = teacher
        self.schedule = schedule
        self.observers = observers
        self.runners = [student, teacher]
        self._num_kept = max(NUM_KEPT, policy.top_k, self.observers.keep_top)
        self._hidden = torch.empty(0)
        self._chunks: list[Chunk] = []
        # The last draft of every row, where it is on the student's device already.
        self._next_ids: Tensor | None = None
        self._advance_seconds: float | None = None

    @property
    def extra_slots(self) -> int:
        """As in lockstep: a chunk ends where its text would, so it needs no slots of its own."""
        return self.policy.branches

    def sequence(self, index: int, request: Request, stop: StopRule) -> Sequence:
        """The state of a new request."""
        return Sequence(index, request, stop, len(self.observers.triggers))

    def prefill(self, seqs: abc.Sequence[Sequence], first: int) -> None:
        """Read the prompts of `seqs[first:]` with both models."""
        rows = range(first, len(seqs))
        self._hidden = joined(self._hidden[:first], prefill_student(self.student, seqs, rows))
        states = prefill_teacher(self.teacher, seqs, rows)
        self._chunks[first:] = [Chunk(first_state=state[None]) for state in states]
        self._advance_seconds = None

    def emit(self, seqs: abc.Sequence[Sequence]) -> Finished:
        """One more draft for every row, then the tokens of the rows that are verified."""
        began = time.perf_counter()
        self._draft(seqs)
        if self._advance_seconds is not None:
            self.schedule.drafted(len(seqs), self._advance_seconds + time.perf_counter() - began)
        rows = self.schedule.due(self._chunks)
        if not rows:
            return []
        self._next_ids = None
        return self._verify(seqs, rows)

    def keep(self, order: list[int]) -> None:
        """Reorder the states as the rows were."""
        self._hidden = self._hidden[to_device(torch.tensor(order, dtype=torch.long), self._hidden.device)]
        self._chunks = [self._chunks[row] for row in order]

    def advance(self, seqs: abc.Sequence[Sequence]) -> None:
        """The student reads each row's last token, a draft or one that a verification left."""
        began = time.perf_counter()
        self._hidden = self.student.append(self._last_ids(seqs), self._next_ids)
        for seq in seqs:
            seq.usage.forwards += 1
        self._advance_seconds = time.perf_counter() - began

    # ---------------------------------------------------------------- draft

    def _draft(self, seqs: abc.Sequence[Sequence]) -> None:
        """The student's next token of every row, with what the triggers will read of the step.

        A row whose text would end only waits: its further tokens are read and discarded.
        """
        for seq, chunk, draft in zip(seqs, self._chunks, self._next_drafts(seqs), strict=True):
            if chunk.has_ended:
                chunk.idle += 1
            elif draft is None:
                chunk.is_broken = True
            else:
                chunk.drafts.append(draft)
                chunk.has_ended = seq.stop.would_finish([*seq.output, *chunk.tokens]) is not None
            chunk.last = None if draft is None else draft.token
            chunk.is_spoiled |= draft is None
            is_full = len(seq.output) + chunk.rounds >= seq.request.max_new_tokens
            chunk.is_closed = is_full or draft is None or seq.request.sampling is not None

    def _next_drafts(self, seqs: abc.Sequence[Sequence]) -> list[Draft | None]:
        """The draft of each row; None where the logits are not finite behind drafts that may not stand."""
        logits = self.student.head(self._hidden)
        step = Step(logits, None, _no_draw, self._hidden, lambda: self._positions(seqs))
        top = step.top_of(self._num_kept)
        entropies = torch.special.entr(top.values.softmax(-1)).sum(-1)
        # Read from the device at once; float32 holds every token id.
        columns = torch.stack([top.values[:, 0], entropies, top.indices[:, 0].float()])
        highest, entropy, first = columns.tolist()
        finite = self._finite(seqs, highest)
        greedy = [int(token) for token in first]
        tokens = sampled_tokens(seqs, step.logits, greedy)
        self._next_ids = top.indices[:, 0] if tokens == greedy else None
        observed = self._observed_locally(step)
        labels = label_columns(step, self.observers.keep_top) if self.observers.keep_top else None
        return [
            Draft(
                tokens[row],
                greedy[row],
                self._hidden[row],
                TopTokens(top.values[row], top.indices[row]),
                entropy[row] if self._may_fire(seq, self._chunks[row]) else None,
                {i: values[row] for i, values in observed.items()},
                labels[row] if labels is not None else None,
            )
            if finite[row]
            else None
            for row, seq in enumerate(seqs)
        ]

    def _finite(self, seqs: abc.Sequence[Sequence], highest: abc.Sequence[float]) -> list[bool]:
        """Whether each row's logits are numbers; an error where lockstep would come to those that are not.

        Behind drafts it comes to them only if the drafts stand.
        """
        finite = [math.isfinite(logit) for logit in highest]
        for seq, chunk, is_finite in zip(seqs, self._chunks, finite, strict=True):
            if not is_finite and not chunk.drafts:
                raise not_finite(self.student, seq)
        return finite

    def _positions(self, seqs: abc.Sequence[Sequence]) -> TextPositions:
        """The position of each row's next draft: behind its text and its drafts."""
        counts = [len(seq.output) + len(chunk.drafts) for seq, chunk in zip(seqs, self._chunks, strict=True)]
        return text_positions(self._last_ids(seqs), counts, self.student.device)

    def _last_ids(self, seqs: abc.Sequence[Sequence]) -> list[int]:
        """The token behind which each row drafts next."""
        pairs = zip(seqs, self._chunks, strict=True)
        return [seq.ids[-1] if chunk.last is None else chunk.last for seq, chunk in pairs]

    def _observed_locally(self, step: Step) -> dict[int, list[float]]:
        """Divergences of the observed triggers that need no teacher, [batch] each, by their place."""
        triggers = enumerate(self.observers.triggers)
        return {i: t.divergence(step).tolist() for i, t in triggers if not t.needs_teacher}

    def _may_fire(self, seq: Sequence, chunk: Chunk) -> bool:
        """Whether the policy may fire at the next draft of a chunk."""
        return (
            self.policy.trigger.needs_teacher
            and len(seq.output) + len(chunk.drafts) >= self.policy.warmup_tokens
        )

    # ---------------------------------------------------------------- verify

    def _verify(self, seqs: abc.Sequence[Sequence], rows: list[int]) -> Finished:
        """Verify and commit the chunks of some rows; returns those whose text has ended."""
        began = time.perf_counter()
        before = self.teacher.counters.tokens
        hidden = self._teacher_states(seqs, rows)
        verdicts = iter(self._verdicts(seqs, rows, hidden))
        seconds = time.perf_counter() - began
        finished, outcomes = [], []
        for row in rows:
            seq, chunk = seqs[row], self._chunks[row]
            outcome, finish = self._commit(seq, chunk, [next(verdicts) for _ in chunk.drafts])
            outcomes.append(outcome)
            if finish is not None:
                finished.append((row, finish))
            self.student.truncate(row, len(seq.ids) - 1, not chunk.is_spoiled)
            self.teacher.truncate(row, len(seq.ids) - 1)
            self._chunks[row] = Chunk()
        self.schedule.verified(self.teacher.counters.tokens - before, seconds, outcomes)
        return finished

    def _teacher_states(self, seqs: abc.Sequence[Sequence], rows: list[int]) -> Tensor:
        """The teacher's states that predict each drafted token of these rows, [steps, hidden].

        Read are the committed tokens that it lacks and all drafts but the last.
        """
        unread = []
        for row in rows:
            text = [*seqs[row].ids, *self._chunks[row].tokens]
            unread.append(text[len(self.teacher.tokens[row]) : -1])
        states = []
        for row, tokens, new in zip(rows, unread, self.teacher.extend(rows, unread), strict=True):
            seqs[row].usage.teacher_calls += bool(tokens)
            seqs[row].usage.teacher_tokens += len(tokens)
            first = self._chunks[row].first_state
            states += [part for part in (first, new) if part is not None and len(part)]
        return torch.cat(states)

    def _verdicts(self, seqs: abc.Sequence[Sequence], rows: list[int], hidden: Tensor) -> list[StepVerdict]:
        """Verdicts on all drafts of these rows, row by row, some steps at a time."""
        steps = [
            (len(seqs[row].output) + place, draft)
            for row in rows
            for place, draft in enumerate(self._chunks[row].drafts)
        ]
        assert len(steps) == len(hidden), "one state of the teacher for each drafted step"
        verdicts: list[StepVerdict] = []
        size = STEPS_AT_ONCE.get(hidden.device.type, STEPS_AT_ONCE_ELSEWHERE)
        for start in range(0, len(steps), size):
            part = slice(start, start + size)
            verdicts += self._judge_steps(steps[part], TeacherSteps(self.teacher, hidden[part]))
        return verdicts

    def _judge_steps(
        self, steps: abc.Sequence[tuple[int, Draft]], teacher: TeacherSteps
    ) -> list[StepVerdict]:
        """Verdicts on (place in the text, draft) pairs."""
        drafts = [draft for _, draft in steps]
        view = DraftedSteps(drafts, self.student.head, teacher.logits_at)
        observed = {
            i: trigger.divergence(view).tolist()
            for i, trigger in enumerate(self.observers.triggers)
            if trigger.needs_teacher
        }
        fired = self._fired(steps, view, teacher) if self.policy.trigger.needs_teacher else {}
        return [
            StepVerdict({i: values[at] for i, values in observed.items()}, is_finite, fired.get(at))
            for at, is_finite in enumerate(teacher.finite.tolist())
        ]

    def _fired(
        self, steps: abc.Sequence[tuple[int, Draft]], view: DraftedSteps, teacher: TeacherSteps
    ) -> dict[int, FiredStep]:
        """The steps that fire, by their index among these, and what the teacher picks there."""
        policy = self.policy
        divergence = policy.trigger.divergence(view)
        fires = (divergence > policy.trigger_threshold).tolist()
        fired = [at for at, (place, _) in enumerate(steps) if fires[at] and place >= policy.warmup_tokens]
        if not fired:
            return {}
        assert policy.selector is not None and not isinstance(policy.selector, LocalSelector)
        logits = teacher.logits_of(fired)
        candidates = view.top_of(policy.top_k).indices[fired]
        selection = policy.selector.select(candidates.to(logits.device), logits)
        assert selection.teacher is not None
        columns = (
            divergence[fired].tolist(),
            candidates.tolist(),
            selection.scores.tolist(),
            [steps[at][1].greedy for at in fired],
            selection.picked.tolist(),
            selection.teacher.tolist(),
        )
        return {at: FiredStep(steps[at][0], *values) for at, *values in zip(fired, *columns, strict=True)}

    # ---------------------------------------------------------------- commit

    def _commit(self, seq: Sequence, chunk: Chunk, verdicts: abc.Sequence[StepVerdict]) -> Verification:
        """Append the drafts up to the first that is replaced, or to the text's end; discard the others."""
        finish, is_cut, committed = None, False, 0
        for draft, verdict in zip(chunk.drafts, verdicts, strict=True):
            if not verdict.is_finite:
                raise not_finite(self.teacher, seq)
            _record(seq, draft, verdict, self.policy)
            token = draft.token if verdict.fired is None else verdict.fired.picked
            finish, is_cut, committed = seq.append(token), token != draft.token, committed + 1
            if is_cut or finish is not None:
                break
        else:
            if chunk.is_broken:
                raise not_finite(self.student, seq)
        seq.usage.discarded_tokens += chunk.rounds + chunk.is_broken - committed
        return Verification(Outcome(chunk.drafts, committed, is_cut), finish)


def _record(seq: Sequence, draft: Draft, verdict: StepVerdict, policy: Policy) -> None:
    """Note a step that becomes text, as lockstep notes it."""
    for place, value in {**draft.observed, **verdict.observed}.items():
        seq.observed[place].append(value)
    if draft.labels is not None:
        seq.tops.append(draft.labels)
    if verdict.fired is not None:
        record_step(seq, verdict.fired, policy)


def _no_draw() -> Tensor:
    raise AssertionError("a random trigger is decoded in lockstep")


def can_verify(policy: Policy, observed: abc.Sequence[Trigger]) -> bool:
    """Whether chunks are worth anything under a policy, and leave its texts as lockstep makes them.

    They serve a teacher that reads every token, for the policy's trigger or for an observed one beside plain
    greedy decoding. A random trigger would draw numbers at discarded steps. A local selector runs in lockstep
    under a trigger of the teacher, a combination for comparison alone: the student's own branches need the
    text up to the step that fires, and a scorer with rows of its own would have to read the candidates of
    every fired step of a chunk, which is not built.
    """
    trigger = policy.trigger
    if isinstance(policy.selector, LocalSelector) or any(other.name == "random" for other in observed):
        return False
    return trigger.needs_teacher or (trigger.name == "never" and any(t.needs_teacher for t in observed))
