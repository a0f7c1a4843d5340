"""The step of every selection method: decide which rows fire, select a candidate there, append it.

Greedy decoding is the policy that never fires, so all methods share this loop.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from s2t_eval.engine.request import FiredStep, Request
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import (
    Finished,
    append_tokens,
    greedy_tokens,
    joined,
    prefill_student,
    prefill_teacher,
    require_finite,
    sampled_tokens,
    text_positions,
)
from s2t_eval.engine.stop import StopRule
from s2t_eval.engine.transfer import to_device
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.scores import Evidence
from s2t_eval.selection.selectors import LocalSelector, Selection
from s2t_eval.selection.step import Step, TextPositions
from s2t_eval.selection.triggers import Trigger


@dataclass(frozen=True)
class StepDecision:
    """One step of a batch before the selection."""

    default: list[int]
    """the token of each row if it does not fire: the argmax, or sampled"""
    greedy: Tensor
    """the student's argmax, [batch]"""
    fired: list[int]
    """rows that fire, in ascending order"""
    divergence: Tensor
    """of every row, [batch]"""
    candidates: Tensor
    """of the fired rows, most likely first, [fired, K]"""
    log_probs: Tensor
    """of the candidates under the student, [fired, K]; logits where the selector is no local one"""

    @classmethod
    def of_no_trigger(cls, default: list[int], greedy: Tensor, logits: Tensor) -> StepDecision:
        """A step at which no row can fire; `logits` of the argmax take the place of divergences, [batch]."""
        return cls(default, greedy, [], logits, greedy[:0, None], logits[:0, None])


class Observers(NamedTuple):
    """What is recorded at every step in addition to the text."""

    triggers: tuple[Trigger, ...] = ()
    """whose divergence is recorded (for calibration)"""
    keep_top: int = 0
    """number of the student's most likely tokens recorded (for labels)"""


class SelectionStepper:
    """Decoding under a policy: the student proposes, and at steps that fire a selector chooses.

    Args:
        student: proposes every token.
        policy: which steps fire, and which selector picks the token there.
        teacher: the larger model, where the policy or an observed trigger needs one.
        scorer: the model that scores a local selector's candidates (proposer `base`, PPS). Its own cache
            is prefilled up to the current token where a step fires. None: the student scores.
        observers: what is recorded at every step.
    """

    def __init__(
        self,
        student: ModelRunner,
        policy: Policy,
        teacher: ModelRunner | None = None,
        scorer: ModelRunner | None = None,
        observers: Observers | None = None,
    ) -> None:
        self.student = student
        self.policy = policy
        self.teacher = teacher
        self.scorer = scorer
        self.observers = observers or Observers()
        self.lockstep = policy.needs_lockstep or any(t.needs_teacher for t in self.observers.triggers)
        self.runners = [model for model in (student, teacher, scorer) if model is not None]
        self._hidden = torch.empty(0)
        self._teacher_hidden = torch.empty(0)
        self._is_advanced = False
        # The tokens that `emit` appended, where they are on the student's device already.
        self._next_ids: Tensor | None = None

    @property
    def extra_slots(self) -> int:
        """Slots for the branches, one for each candidate."""
        return self.policy.branches

    def sequence(self, index: int, request: Request, stop: StopRule) -> Sequence:
        """The state of a new request."""
        return Sequence(index, request, stop, len(self.observers.triggers))

    def prefill(self, seqs: abc.Sequence[Sequence], first: int) -> None:
        """Prefill the prompts of `seqs[first:]`, in the teacher too where it runs in lockstep."""
        rows = range(first, len(seqs))
        self._hidden = joined(self._hidden[:first], prefill_student(self.student, seqs, rows))
        if self.lockstep:
            teacher_hidden = self._teacher_prefill(seqs, rows)
            self._teacher_hidden = joined(self._teacher_hidden[:first], teacher_hidden)

    def emit(self, seqs: abc.Sequence[Sequence]) -> Finished:
        """One token for every sequence."""
        decision = self._decide(seqs)
        selector = self.policy.selector
        tokens = decision.default
        self._is_advanced = False
        if decision.fired:
            self._next_ids = None
        if decision.fired and self._branches_in_place(selector):
            tokens = self._branch(seqs, decision, selector)
            self._is_advanced = True
        elif decision.fired:
            tokens = record(seqs, decision, self._select(seqs, decision), self.policy)
        return append_tokens(zip(range(len(seqs)), seqs, tokens, strict=True))

    def keep(self, order: list[int]) -> None:
        """Reorder the states like the rows."""
        rows = to_device(torch.tensor(order, dtype=torch.long), self._hidden.device)
        self._hidden = self._hidden[rows]
        if self._next_ids is not None:
            self._next_ids = self._next_ids[rows.to(self._next_ids.device)]
        if self.lockstep:
            self._teacher_hidden = self._teacher_hidden[rows.to(self._teacher_hidden.device)]

    def advance(self, seqs: abc.Sequence[Sequence]) -> None:
        """Run the student over the new tokens unless a branch already did, and a teacher in lockstep."""
        last = [seq.ids[-1] for seq in seqs]
        if not self._is_advanced:
            self._hidden = self.student.append(last, self._next_ids)
            for seq in seqs:
                seq.usage.forwards += 1
        if self.lockstep:
            assert self.teacher is not None
            self._teacher_hidden = self.teacher.append(last, self._ids_on(self.teacher.device))
            for seq in seqs:
                seq.usage.teacher_calls += 1
                seq.usage.teacher_tokens += 1

    def _ids_on(self, device: torch.device) -> Tensor | None:
        """The tokens that `emit` appended, if they are on this device already."""
        ids = self._next_ids
        return ids if ids is not None and ids.device == device else None

    # ---------------------------------------------------------------- decide

    def _decide(self, seqs: abc.Sequence[Sequence]) -> StepDecision:
        """The student's tokens, and which rows fire with which candidates."""
        if self._is_greedy(seqs):
            return self._decide_greedily(seqs)
        logits = self.student.head(self._hidden)
        step = Step(
            logits,
            (lambda ids: self._teacher_logits_at(seqs, ids)) if self.lockstep else None,
            lambda: self._uniform(seqs),
            self._hidden,
            lambda: self._positions(seqs),
        )
        policy = self.policy
        is_plain = policy.trigger.name == "never" and not any(self.observers)
        # Of equal logits both take the smaller id; the list of top tokens costs more kernels.
        highest, best = logits.max(-1) if is_plain else (column[:, 0] for column in step.top)
        greedy = greedy_tokens(self.student, seqs, highest, best)
        default = sampled_tokens(seqs, logits, greedy)
        self._next_ids = best if default == greedy else None
        if self.observers.keep_top:
            for seq, row in zip(seqs, label_columns(step, self.observers.keep_top), strict=True):
                seq.tops.append(row)
        if policy.trigger.name == "never" and not self.observers.triggers:
            return StepDecision.of_no_trigger(default, best, highest)
        for i, trigger in enumerate(self.observers.triggers):
            for seq, value in zip(seqs, trigger.divergence(step).tolist(), strict=True):
                seq.observed[i].append(value)
        divergence = policy.trigger.divergence(step)
        fires = (divergence > policy.trigger_threshold).tolist()
        fired = [
            row for row, seq in enumerate(seqs) if fires[row] and len(seq.output) >= policy.warmup_tokens
        ]
        # Only a local selector needs log-probabilities; without one the sum is not computed.
        top = step.top_of_rows(fired, policy.top_k)
        log_probs = top.values
        if fired and isinstance(policy.selector, LocalSelector):
            log_probs = log_probs - step.log_total[fired]
        return StepDecision(default, best, fired, divergence, top.indices, log_probs)

    def _is_greedy(self, seqs: abc.Sequence[Sequence]) -> bool:
        """Whether nothing but each row's argmax is needed."""
        is_plain = self.policy.trigger.name == "never" and not any(self.observers)
        return is_plain and all(seq.request.sampling is None for seq in seqs)

    def _decide_greedily(self, seqs: abc.Sequence[Sequence]) -> StepDecision:
        """The argmax of every row; no step fires."""
        highest, best = self.student.best_tokens(self._hidden)
        self._next_ids = best
        return StepDecision.of_no_trigger(greedy_tokens(self.student, seqs, highest, best), best, highest)

    def _teacher_logits_at(self, seqs: abc.Sequence[Sequence], ids: Tensor) -> Tensor:
        assert self.teacher is not None
        logits = self.teacher.head_at(self._teacher_hidden, ids.to(self.teacher.device))
        require_finite(self.teacher, logits.amax(-1), seqs, range(len(seqs)))
        return logits

    def _uniform(self, seqs: abc.Sequence[Sequence]) -> Tensor:
        numbers = [seq.trigger_numbers.random() for seq in seqs]
        return to_device(torch.tensor(numbers), self.student.device)

    def _positions(self, seqs: abc.Sequence[Sequence]) -> TextPositions:
        ids, counts = [seq.ids[-1] for seq in seqs], [len(seq.output) for seq in seqs]
        return text_positions(ids, counts, self.student.device)

    # ---------------------------------------------------------------- select

    def _select(self, seqs: abc.Sequence[Sequence], decision: StepDecision) -> Selection:
        """Selection at the fired rows by the teacher, or by a score without a branch of the student."""
        selector, fired = self.policy.selector, decision.fired
        assert selector is not None
        if isinstance(selector, LocalSelector):
            return self._select_locally(seqs, decision, selector, self._evidence(seqs, decision, selector))
        assert self.teacher is not None
        hidden = self._teacher_hidden[fired] if self.lockstep else self._teacher_prefill(seqs, fired)
        logits = self.teacher.head(hidden)
        require_finite(self.teacher, logits.amax(-1), seqs, fired)
        return selector.select(decision.candidates.to(logits.device), logits)

    def _select_locally(
        self,
        seqs: abc.Sequence[Sequence],
        decision: StepDecision,
        selector: LocalSelector,
        evidence: Evidence,
    ) -> Selection:
        """Selection by the student's own scores, which are checked: the largest of them may be no number."""
        selection = selector.select(decision.candidates, evidence)
        require_finite(self.scorer or self.student, selection.scores.amax(-1), seqs, decision.fired)
        return selection

    def _teacher_prefill(self, seqs: abc.Sequence[Sequence], rows: abc.Sequence[int]) -> Tensor:
        """The teacher's hidden states at the ends of these rows' texts; only uncached tokens are computed."""
        assert self.teacher is not None
        return prefill_teacher(self.teacher, seqs, rows)

    def _evidence(
        self, seqs: abc.Sequence[Sequence], decision: StepDecision, selector: LocalSelector
    ) -> Evidence:
        """The inputs of a score, from another model or from the step's own logits."""
        if self.scorer is None:
            # The adapted model both proposes and scores, so its own logits already rank the candidates.
            return Evidence(decision.log_probs, own_logits=decision.log_probs)
        fired, candidates = decision.fired, decision.candidates
        tried = candidates if selector.score.looks_ahead else candidates[:, :0]
        hidden, lanes, computed = self.scorer.score_candidates(fired, [seqs[row].ids for row in fired], tried)
        for row, tokens in zip(fired, computed, strict=True):
            seqs[row].usage.scorer_calls += 1
            seqs[row].usage.scorer_tokens += tokens
        if selector.score.looks_ahead:
            return Evidence(decision.log_probs, hidden=lanes)
        logits = self.scorer.head_at(hidden, candidates)
        require_finite(self.scorer, logits.amax(-1), seqs, fired)
        return Evidence(decision.log_probs, own_logits=logits)

    def _branches_in_place(self, selector: object) -> TypeGuard[LocalSelector]:
        """Whether the student scores the candidates in branches of its own rows."""
        return isinstance(selector, LocalSelector) and selector.score.looks_ahead and self.scorer is None

    def _branch(
        self, seqs: abc.Sequence[Sequence], decision: StepDecision, selector: LocalSelector
    ) -> list[int]:
        """Branch in place and commit one lane: its hidden state already gives the next token's logits."""
        num, k = len(seqs), self.policy.top_k
        fired, candidates = decision.fired, decision.candidates
        planned = candidates.cpu()  # the host plans the pass: it reads them once and sends them with the rest
        first = torch.tensor(decision.default)
        first[fired] = planned[:, 0]
        hidden = self.student.branch(first, fired, planned)
        others = hidden[num:].view(len(fired), k - 1, hidden.shape[-1])
        lanes = torch.cat([hidden[fired][:, None], others], dim=1)
        evidence = Evidence(decision.log_probs, hidden=lanes)
        selection = self._select_locally(seqs, decision, selector, evidence)
        winners = (candidates == selection.picked[:, None]).int().argmax(-1).tolist()
        tokens = record(seqs, decision, selection, self.policy)
        self.student.commit(fired, winners, [tokens[row] for row in fired])
        self._hidden = hidden[:num].clone()
        self._hidden[fired] = lanes[torch.arange(len(winners)), winners]
        for seq in seqs:
            seq.usage.forwards += 1
        for row in fired:  # the lane of the selected candidate is a token of the text
            seqs[row].usage.scorer_tokens += k - 1
        return tokens


def record(
    seqs: abc.Sequence[Sequence], decision: StepDecision, selection: Selection, policy: Policy
) -> list[int]:
    """Record every fired step in its sequence; returns the tokens of all rows."""
    tokens = list(decision.default)
    fired = decision.fired
    columns = (
        decision.divergence[fired].tolist(),
        decision.candidates.tolist(),
        selection.scores.tolist(),
        decision.greedy[fired].tolist(),
        selection.picked.tolist(),
        [None] * len(fired) if selection.teacher is None else selection.teacher.tolist(),
    )
    for row, *values in zip(fired, *columns, strict=True):
        step = FiredStep(len(seqs[row].output), *values)
        record_step(seqs[row], step, policy)
        tokens[row] = step.picked
    return tokens


def record_step(seq: Sequence, step: FiredStep, policy: Policy) -> None:
    """Note a fired step of a policy in its sequence."""
    seq.steps.append(step)
    seq.usage.triggers += 1
    seq.usage.flips += step.picked != step.greedy
    seq.usage.teacher_generated += policy.teacher_writes
    if step.teacher is not None:
        is_hit = step.teacher in step.candidates
        seq.usage.hits += is_hit
        seq.usage.misses += not is_hit


def label_columns(step: Step, count: int) -> list[tuple[Tensor, Tensor]]:
    """Each row's most likely tokens and their log-probabilities, [count] each."""
    top = step.top_of(count)
    log_probs = (top.values - step.log_total).cpu()
    return list(zip(top.indices.int().cpu(), log_probs, strict=True))
