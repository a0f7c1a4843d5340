"""The loop that every method runs in: continuous batches, steps that may fire, one forward a token."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeGuard

import torch
from torch import Tensor

from s2t_eval.engine.request import Finish, FiredStep, Request, Result, Usage
from s2t_eval.engine.sampling import sample
from s2t_eval.engine.slot_model import SlotModel
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.scores import Evidence
from s2t_eval.selection.selectors import LocalSelector, Selection
from s2t_eval.selection.top_tokens import top_tokens
from s2t_eval.selection.triggers import Step, Trigger

logger = logging.getLogger(__name__)


class NonFiniteLogitsError(RuntimeError):
    """A model gave NaN or infinite logits; the message names model, request and step."""


@dataclass
class Row:
    """One request in a row: what was said so far, and its own random numbers."""

    index: int
    request: Request
    stop: StopRule
    num_observed: int = 0
    ids: list[int] = field(init=False)
    output: list[int] = field(default_factory=list)
    steps: list[FiredStep] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.ids = list(self.request.prompt_ids)
        self.observed: list[list[float]] = [[] for _ in range(self.num_observed)]
        self.tops: list[tuple[Tensor, Tensor]] = []
        # Two streams, so that a random trigger does not change what is sampled.
        self.token_numbers = random.Random(self.request.seed)
        self.trigger_numbers = random.Random(self.request.seed + 1)

    def append(self, token: int) -> Finish | None:
        """Take a token; says whether it ended the text."""
        self.ids.append(token)
        self.output.append(token)
        self.usage.tokens += 1
        return self.stop.finish(self.output)

    def result(self, finish: Finish) -> Result:
        """The finished text."""
        self.usage.seconds = time.perf_counter() - self.started
        tops = [torch.stack(column) for column in zip(*self.tops, strict=True)]
        return Result(self.index, self.output, finish, self.steps, self.usage, self.observed, *tops)


@dataclass
class Choice:
    """Tokens of one step [n], as the trigger found the rows before anything was selected."""

    default: list[int]
    greedy: Tensor
    fired: list[int]
    divergence: Tensor
    candidates: Tensor
    """of the fired rows, [fired, K]"""
    log_probs: Tensor
    """of the candidates, [fired, K]"""


class Decoder:
    """Generates texts for requests under one policy.

    Rows 0..n-1 are at work; a finished row is filled by the last one, and new requests enter behind.
    Batch size, order and refilling do not change a text, but for rounding.

    Args:
        student: proposes every token.
        policy: which steps fire and who picks there.
        teacher: where the policy or an observed trigger needs one.
        rows: sequences at work at once.
        decode: token ids to text, for requests with stop strings.
        observe: triggers whose divergence is recorded at every step (for calibration).
        scorer: the model that scores a local selector's candidates, with slots of its own that catch
            up where a step fires (proposer `base`, PPS). None: the student scores its own branches.
        keep_top: at every step record this many of the student's most likely tokens (for labels).
        answer_of: what a text says outside of its thoughts, for requests that tell them apart.

    Raises:
        ValueError: the policy needs a teacher and none is given, or `top_k` exceeds the vocabulary.

    Example:
        >>> decoder = Decoder(SlotModel(model), greedy(), rows=32)
        >>> texts = {r.index: r.text_ids for r in decoder.run([Request((1, 2, 3), 64)])}
    """

    ROW: ClassVar[type[Row]] = Row

    def __init__(
        self,
        student: SlotModel,
        policy: Policy,
        teacher: SlotModel | None = None,
        rows: int = 32,
        decode: Decode | None = None,
        observe: Sequence[Trigger] = (),
        scorer: SlotModel | None = None,
        keep_top: int = 0,
        answer_of: AnswerOf | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows: expected at least 1, got {rows}")
        if policy.top_k > student.text_vocab:
            raise ValueError(
                f"top_k: expected at most the student's vocabulary of {student.text_vocab} tokens, "
                f"got {policy.top_k}"
            )
        self.lockstep = policy.needs_lockstep or any(trigger.needs_teacher for trigger in observe)
        if teacher is None and (policy.needs_teacher or self.lockstep):
            raise ValueError(f"policy {policy.name}: it needs a teacher and none is given")
        self.student = student
        self.policy = policy
        self.teacher = teacher
        self.rows = rows
        self.decode = decode
        self.observe = tuple(observe)
        self.scorer = scorer
        self.keep_top = min(keep_top, student.text_vocab)
        self.answer_of = answer_of
        self._models = [model for model in (student, teacher, scorer) if model is not None]
        self._active: list[Row] = []
        self._ended: list[Result] = []
        self._state = torch.empty(0)
        self._teacher_state = torch.empty(0)

    def run(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Generate; each result comes as soon as its text has ended, in no fixed order.

        When memory runs out, the rows are halved and unfinished texts begin again (to the same end).

        Raises:
            NonFiniteLogitsError: a model gave NaN or infinite logits.
        """
        queue = deque(enumerate(requests))
        rows = min(self.rows, len(requests))
        capacity = self.policy.branches + max(
            (len(r.prompt_ids) + r.max_new_tokens for r in requests), default=0
        )
        self._active = []
        self._ended = []
        while queue:
            try:
                self._allocate(rows, capacity)
                while queue or self._active:
                    self._admit(queue, rows)
                    self._step()
                    yield from self._take_ended()
            except Exception as error:
                self._release()  # a pass that broke off may have left slots unwritten
                if not is_out_of_memory(error) or rows == 1:
                    raise
                queue.extendleft((row.index, row.request) for row in reversed(self._active))
                self._active = []
                rows //= 2
                logger.warning("out of memory: going on with %d rows at once", rows)
            yield from self._take_ended()  # also those that ended in the step that broke off

    def _take_ended(self) -> list[Result]:
        ended, self._ended = self._ended, []
        return ended

    # ---------------------------------------------------------------- rows

    def _allocate(self, rows: int, capacity: int) -> None:
        for model in self._models:
            model.allocate(rows, capacity)

    def _release(self) -> None:
        for model in self._models:
            model.release()

    @torch.inference_mode()
    def _admit(self, queue: deque[tuple[int, Request]], rows: int) -> None:
        """Let waiting requests into free rows: one ragged prefill, shared beginnings computed once."""
        first = len(self._active)
        while queue and len(self._active) < rows:
            index, request = queue.popleft()
            stop = StopRule(request, self.decode, self.answer_of)
            self._active.append(self.ROW(index, request, stop, len(self.observe)))
        new = range(first, len(self._active))
        if not new:
            return
        prompts = [self._active[row].ids for row in new]
        hidden, computed = self.student.sync(new, prompts)
        self._state = _joined(self._state[:first], hidden)
        for row, tokens in zip(new, computed, strict=True):
            self._active[row].usage.forwards += 1
            self._active[row].usage.prefill_tokens += tokens
        if self.lockstep:
            self._teacher_state = _joined(self._teacher_state[:first], self._ask_teacher(list(new)))

    def _retire(self, finished: Sequence[int]) -> None:
        """Free rows, the last row at work moving into each hole; states move along."""
        order = list(range(len(self._active)))
        for row in sorted(finished, reverse=True):
            last = len(self._active) - 1
            if row != last:
                for model in self._models:
                    model.move(last, row)
                self._active[row] = self._active[last]
                order[row] = order[last]
            self._active.pop()
            order.pop()
        if finished:
            self._state = self._state[order]
            if self.lockstep:
                self._teacher_state = self._teacher_state[order]

    # ---------------------------------------------------------------- one step

    @torch.inference_mode()
    def _step(self) -> None:
        """One token for every row at work; texts that end with it leave their rows."""
        choice = self._choose()
        selector = self.policy.selector
        if choice.fired and self._branches_in_place(selector):
            alive = self._append(self._try_candidates(choice, selector))
        else:
            alive = self._append(self._picks(choice) if choice.fired else choice.default)
            if alive:
                self._state = self.student.append(torch.tensor(alive, device=self.student.device))
                for sequence in self._active:
                    sequence.usage.forwards += 1
        if alive and self.lockstep:
            assert self.teacher is not None
            self._teacher_state = self.teacher.append(torch.tensor(alive, device=self.teacher.device))
            for sequence in self._active:
                sequence.usage.teacher_calls += 1
                sequence.usage.teacher_tokens += 1

    def _branches_in_place(self, selector: object) -> TypeGuard[LocalSelector]:
        """Whether the student tries the candidates in its own rows."""
        return isinstance(selector, LocalSelector) and selector.score.looks_ahead and self.scorer is None

    def _choose(self) -> Choice:
        """The student's tokens, and which rows fire with which candidates."""
        logits = self.student.head(self._state)
        step = Step(logits, self._teacher_at if self.lockstep else None, self._draw, self._state)
        highest, best = (column[:, 0] for column in step.top)
        self._require_finite(self.student, highest, range(len(self._active)))
        default = self._sampled(logits, best)
        policy = self.policy
        if self.keep_top:
            self._keep_top(step)
        if policy.trigger.name == "never" and not self.observe:
            return Choice(default, best, [], highest, best[:0, None], highest[:0, None])
        for i, trigger in enumerate(self.observe):
            for sequence, value in zip(self._active, trigger.divergence(step).tolist(), strict=True):
                sequence.observed[i].append(value)
        divergence = policy.trigger.divergence(step)
        fires = (divergence > policy.threshold).tolist()
        fired = [
            row
            for row, sequence in enumerate(self._active)
            if fires[row] and len(sequence.output) >= policy.warmup
        ]
        # Log-probabilities serve a local selector alone: a teacher's selection skips the sum.
        top = top_tokens(logits[fired], policy.top_k)
        log_probs = top.values
        if fired and isinstance(policy.selector, LocalSelector):
            log_probs = log_probs - step.log_total[fired]
        return Choice(default, best, fired, divergence, top.indices, log_probs)

    def _keep_top(self, step: Step) -> None:
        top = top_tokens(step.logits, self.keep_top)
        log_probs = (top.values - step.log_total).cpu()
        for sequence, row in zip(
            self._active, zip(top.indices.int().cpu(), log_probs, strict=True), strict=True
        ):
            sequence.tops.append(row)

    def _picks(self, choice: Choice) -> list[int]:
        """Selection at the fired rows by the teacher, or by the student's score without branching."""
        selector = self.policy.selector
        assert selector is not None
        if isinstance(selector, LocalSelector):
            return self._record(choice, self._ask_scorer(choice, selector))
        assert self.teacher is not None
        fired = choice.fired
        hidden = self._teacher_state[fired] if self.lockstep else self._ask_teacher(fired)
        logits = self.teacher.head(hidden)
        self._require_finite(self.teacher, logits.amax(-1), fired)
        selection = selector.select(choice.candidates.to(logits.device), logits)
        return self._record(choice, selection)

    def _ask_scorer(self, choice: Choice, selector: LocalSelector) -> Selection:
        """Scores without branching in the student's row: by another model, or from the step's own logits."""
        if self.scorer is None:
            # The adapted model proposes and scores, so its logits rank the candidates as they stand.
            evidence = Evidence(choice.log_probs, own_logits=choice.log_probs)
            return selector.select(choice.candidates, evidence)
        fired = choice.fired
        looked_at = choice.candidates if selector.score.looks_ahead else choice.candidates[:, :0]
        state, lanes, computed = self.scorer.peek(fired, [self._active[row].ids for row in fired], looked_at)
        for row, tokens in zip(fired, computed, strict=True):
            self._active[row].usage.scorer_calls += 1
            self._active[row].usage.scorer_tokens += tokens
        if selector.score.looks_ahead:
            return selector.select(choice.candidates, Evidence(choice.log_probs, hidden=lanes))
        logits = self.scorer.head_at(state, choice.candidates)
        self._require_finite(self.scorer, logits.amax(-1), fired)
        return selector.select(choice.candidates, Evidence(choice.log_probs, own_logits=logits))

    def _try_candidates(self, choice: Choice, selector: LocalSelector) -> list[int]:
        """Branch in place, commit one: the winner's state already holds the next token's logits."""
        rows, k = len(self._active), self.policy.top_k
        first = torch.tensor(choice.default, device=choice.candidates.device)
        first[choice.fired] = choice.candidates[:, 0]
        hidden = self.student.branch(first, choice.fired, choice.candidates)
        others = hidden[rows:].view(len(choice.fired), k - 1, hidden.shape[-1])
        lanes = torch.cat([hidden[choice.fired][:, None], others], dim=1)
        selection = selector.select(choice.candidates, Evidence(choice.log_probs, hidden=lanes))
        winner = (choice.candidates == selection.picked[:, None]).int().argmax(-1)
        tokens = self._record(choice, selection)
        winners = winner.tolist()
        self.student.commit(choice.fired, winners, [tokens[row] for row in choice.fired])
        self._state = hidden[:rows].clone()
        self._state[choice.fired] = lanes[torch.arange(len(winners)), winners]
        for sequence in self._active:
            sequence.usage.forwards += 1
        return tokens

    def _append(self, tokens: list[int]) -> list[int]:
        """Hand each row its token; returns the tokens of the rows that go on."""
        finished = []
        for row, (sequence, token) in enumerate(zip(self._active, tokens, strict=True)):
            finish = sequence.append(token)
            if finish is not None:
                finished.append(row)
                self._ended.append(sequence.result(finish))
        self._retire(finished)
        return [sequence.output[-1] for sequence in self._active]

    def _record(self, choice: Choice, selection: Selection) -> list[int]:
        """Note every fired step; returns the tokens of all rows."""
        tokens = list(choice.default)
        columns = (
            choice.divergence[choice.fired].tolist(),
            choice.candidates.tolist(),
            selection.scores.tolist(),
            choice.greedy[choice.fired].tolist(),
            selection.picked.tolist(),
            [None] * len(choice.fired) if selection.teacher is None else selection.teacher.tolist(),
        )
        for row, *values in zip(choice.fired, *columns, strict=True):
            sequence = self._active[row]
            step = FiredStep(len(sequence.output), *values)
            sequence.steps.append(step)
            sequence.usage.triggers += 1
            sequence.usage.flips += step.picked != step.greedy
            if step.teacher is not None:
                is_hit = step.teacher in step.candidates
                sequence.usage.hits += is_hit
                sequence.usage.misses += not is_hit
            tokens[row] = step.picked
        return tokens

    # ---------------------------------------------------------------- what a step may look at

    def _sampled(self, logits: Tensor, greedy: Tensor) -> list[int]:
        """Greedy tokens, and for rows that sample a drawn one."""
        tokens = greedy.tolist()
        groups: dict[object, list[int]] = {}
        for row, sequence in enumerate(self._active):
            if sequence.request.sampling is not None:
                groups.setdefault(sequence.request.sampling, []).append(row)
        for rows in groups.values():
            sampling = self._active[rows[0]].request.sampling
            assert sampling is not None
            numbers = [self._active[row].token_numbers.random() for row in rows]
            drawn = sample(logits[rows], sampling, numbers).tolist()
            for row, token in zip(rows, drawn, strict=True):
                tokens[row] = token
        return tokens

    def _ask_teacher(self, rows: list[int]) -> Tensor:
        """The teacher's states at the end of these rows' texts; it computes only what it has not seen."""
        assert self.teacher is not None
        hidden, computed = self.teacher.sync(rows, [self._active[row].ids for row in rows])
        for row, tokens in zip(rows, computed, strict=True):
            self._active[row].usage.teacher_calls += 1
            self._active[row].usage.teacher_tokens += tokens
        return hidden

    def _teacher_at(self, ids: Tensor) -> Tensor:
        assert self.teacher is not None
        logits = self.teacher.head_at(self._teacher_state, ids.to(self.teacher.device))
        self._require_finite(self.teacher, logits.amax(-1), range(len(self._active)))
        return logits

    def _draw(self) -> Tensor:
        numbers = [sequence.trigger_numbers.random() for sequence in self._active]
        return torch.tensor(numbers, device=self.student.device)

    def _require_finite(self, model: SlotModel, top: Tensor, rows: Sequence[int]) -> None:
        """Raise unless the largest logit of each of these rows is a number."""
        finite = top.isfinite()
        if bool(finite.all()):
            return
        row = self._active[rows[int((~finite).nonzero()[0])]]
        raise NonFiniteLogitsError(
            f"{model.name}: logits are not finite at step {len(row.output)} of request {row.index}; the "
            "weights may be damaged, or the dtype too narrow for this model (try dtype=bfloat16 or "
            "float32)"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )


def _joined(states: Tensor, new: Tensor) -> Tensor:
    return new if len(states) == 0 else torch.cat([states, new.to(states)])
