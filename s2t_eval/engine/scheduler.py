"""Which requests are active: admission, retirement, results, and recovery when memory runs out."""

from __future__ import annotations

import logging
from collections import abc, deque
from typing import Generic, NamedTuple

import torch

from s2t_eval.engine.out_of_memory import is_out_of_memory
from s2t_eval.engine.request import Request, Result, longest_text
from s2t_eval.engine.stepper import Finished, OnRound, Round, S, Stepper
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule

logger = logging.getLogger(__name__)


class Compaction(NamedTuple):
    """How the remaining rows are made contiguous after some have ended."""

    order: list[int]
    """row i now contains what row `order[i]` contained"""
    moves: list[tuple[int, int]]
    """cache rows to move, (source, target), in this order"""


class Scheduler(Generic[S]):
    """Continuous batching: rows 0..n-1 are active, and a request is admitted when a row is free.

    Where the pass over a new prompt takes as long as several steps, however short the prompt, rows stay
    free until what that costs has reached what the pass costs, so that several prompts share it; the last
    prompts, for which all rows are free that they need, do not wait. Batch size, order and refilling do not
    change a text, except by rounding.

    Args:
        stepper: the decoding method.
        rows: sequences decoded at once.
        decode: token ids to text, for requests with stop strings.
        answer_of: extracts the answer outside of a text's thoughts, for requests with thoughts.

    Raises:
        ValueError: fewer than one row.
    """

    def __init__(
        self,
        stepper: Stepper[S],
        rows: int = 32,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows: expected at least 1, got {rows}")
        self.stepper = stepper
        self.rows = rows
        self.decode = decode
        self.answer_of = answer_of
        self._active: list[S] = []
        self._results: list[Result] = []
        self._on_round: OnRound | None = None
        self._lost_steps = 0.0

    def run(self, requests: abc.Sequence[Request], on_round: OnRound | None = None) -> abc.Iterator[Result]:
        """Generate; each result is yielded as soon as its text has ended, in no fixed order.

        When memory runs out, the number of rows is halved and unfinished texts are generated again.

        Args:
            requests: the texts to generate.
            on_round: called after every round, for progress bars and displays.

        Raises:
            NonFiniteLogitsError: a model's logits are NaN or infinite.
        """
        queue = deque(enumerate(requests))
        rows = min(self.rows, len(requests))
        longest = longest_text(requests)
        self._active, self._results, self._on_round = [], [], on_round
        self._lost_steps = 0.0
        while queue:
            try:
                for runner in self.stepper.runners:
                    runner.allocate(rows, longest, self.stepper.extra_slots)
                while queue or self._active:
                    self._round(queue, rows)
                    yield from self._take_results()
            except GeneratorExit:  # the caller takes no further text, and may be decoding others by now
                raise
            except BaseException as error:  # Ctrl-C too, after which a session goes on with these models
                for runner in self.stepper.runners:
                    runner.release()
                if not is_out_of_memory(error) or rows == 1:
                    raise
                queue.extendleft((seq.index, seq.request) for seq in reversed(self._active))
                self._active = []
                rows //= 2
                logger.warning("out of memory: continuing with %d rows at once", rows)
            yield from self._take_results()  # also those that ended in the interrupted round

    @torch.inference_mode()
    def _round(self, queue: deque[tuple[int, Request]], rows: int) -> None:
        """Admit waiting requests, emit tokens, retire ended sequences, run the models."""
        self._admit(queue, rows)
        finished = self.stepper.emit(self._active)
        self._show(finished)
        self._retire(finished)
        if self._active:
            self.stepper.advance(self._active)

    def _show(self, finished: Finished) -> None:
        """Call the observer with the active sequences."""
        if self._on_round is not None:
            self._on_round(Round(self._active, finished))

    def _admit(self, queue: deque[tuple[int, Request]], rows: int) -> None:
        """Admit waiting requests into free rows: one ragged prefill that computes shared prefixes once."""
        first = len(self._active)
        if first and len(queue) > rows - first:
            self._lost_steps += (rows - first) / rows
            if self._lost_steps < max((runner.admission_steps for runner in self.stepper.runners), default=0):
                return
        self._lost_steps = 0.0
        while queue and len(self._active) < rows:
            index, request = queue.popleft()
            self._active.append(
                self.stepper.sequence(index, request, StopRule(request, self.decode, self.answer_of))
            )
        if len(self._active) > first:
            self._show([])
            self.stepper.prefill(self._active, first)

    def _retire(self, finished: Finished) -> None:
        """Collect ended texts and close the gaps that they leave."""
        if not finished:
            return
        self._results += [self._active[row].result(finish) for row, finish in finished]
        order, moves = compact(len(self._active), [row for row, _ in finished])
        self._active = [self._active[row] for row in order]
        for runner in self.stepper.runners if moves else ():
            runner.move(moves)
        self.stepper.keep(order)

    def _take_results(self) -> list[Result]:
        results, self._results = self._results, []
        return results


def compact(num: int, finished: abc.Sequence[int]) -> Compaction:
    """Close the gaps of finished rows: the last active row moves into each, the highest gap first."""
    order, moves = list(range(num)), []
    for row in sorted(finished, reverse=True):
        last = len(order) - 1
        if row != last:
            moves.append((last, row))
            order[row] = order[last]
        order.pop()
    return Compaction(order, moves)
