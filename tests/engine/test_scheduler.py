"""How rows close up after texts have ended, and what a method may do in a round."""

from __future__ import annotations

import itertools
from collections import abc
from typing import Any

import pytest
import torch

from s2t_eval.engine import Finish, ModelRunner, Request
from s2t_eval.engine.scheduler import Scheduler, compact
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import Finished, Round, append_tokens
from s2t_eval.engine.stop import StopRule
from tests.twins import tiny_model


@pytest.mark.parametrize("num", range(1, 6))
def test_moves_give_the_order_that_they_claim(num: int) -> None:
    for size in range(num + 1):
        for finished in itertools.combinations(range(num), size):
            order, moves = compact(num, finished)
            cache = list(range(num))
            for source, target in moves:
                cache[target] = cache[source]
            assert cache[: len(order)] == order
            assert sorted(order) == [row for row in range(num) if row not in finished]


class Counting:
    """A method without a model that says 1, 2, 3 ...: as many tokens a round as its turn allows, or none."""

    runners: tuple[Any, ...] = ()
    extra_slots = 0

    def __init__(self, burst: abc.Iterator[int]) -> None:
        self.burst = burst
        self.rows: list[int] = []

    def sequence(self, index: int, request: Request, stop: StopRule) -> Sequence:
        return Sequence(index, request, stop)

    def prefill(self, seqs: abc.Sequence[Sequence], first: int) -> None:
        self.rows[first:] = [seq.index for seq in seqs[first:]]

    def emit(self, seqs: abc.Sequence[Sequence]) -> Finished:
        assert self.rows == [seq.index for seq in seqs], "row i of the method is not seqs[i]"
        ended: dict[int, Finish] = {}
        for row, seq in enumerate(seqs):
            for _ in range(next(self.burst)):
                if row not in ended:
                    ended |= append_tokens([(row, seq, len(seq.output) + 1)])
        return sorted(ended.items())

    def keep(self, order: list[int]) -> None:
        self.rows = [self.rows[row] for row in order]

    def advance(self, seqs: abc.Sequence[Sequence]) -> None:
        assert seqs


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_method_may_emit_none_or_several_tokens_in_a_round(rows: int) -> None:
    limits = [3, 1, 5, 2, 4, 1, 1]
    method = Counting(itertools.cycle([0, 1, 3, 2, 0]))
    results = list(Scheduler(method, rows).run([Request((9,), limit) for limit in limits]))
    outputs = {result.index: result.output_ids for result in results}
    assert outputs == {i: list(range(1, limit + 1)) for i, limit in enumerate(limits)}
    assert all(result.finish is Finish.LENGTH for result in results)


def test_a_result_returns_its_request_with_the_label_of_the_caller() -> None:
    """Results come in no fixed order; the label tells the caller which text each of them is."""
    requests = [Request((1,), count, origin=("text", count)) for count in (5, 1, 3)]
    results = list(Scheduler(Counting(itertools.repeat(1)), rows=2).run(requests))
    assert [result.request for result in sorted(results, key=lambda result: result.index)] == requests
    for result in results:
        assert result.request.origin == ("text", len(result.output_ids))


def test_the_label_is_not_part_of_a_request_s_identity() -> None:
    assert Request((1, 2), 4, origin="a") == Request((1, 2), 4, origin="b")
    assert hash(Request((1, 2), 4, origin="a")) == hash(Request((1, 2), 4))
    assert Request((1, 2), 4) != Request((1, 2), 5)


class Rows:
    """Stands for a model: only how long its passes take matters here."""

    def __init__(self, admission_steps: float) -> None:
        self.admission_steps = admission_steps

    def allocate(self, rows: int, length: int, extra_slots: int) -> None:
        pass

    def move(self, moves: list[tuple[int, int]]) -> None:
        pass


class Waiting(Counting):
    """The same on a device whose passes over prompts take as long as several steps."""

    def __init__(self, admission_steps: float) -> None:
        super().__init__(itertools.repeat(1))
        self.runners = (Rows(admission_steps),)
        self.admitted: list[int] = []

    def prefill(self, seqs: abc.Sequence[Sequence], first: int) -> None:
        super().prefill(seqs, first)
        self.admitted.append(len(seqs) - first)


@pytest.mark.parametrize(("admission_steps", "fewest"), [(0.0, 1), (0.25, 2), (1.0, 3)])
def test_prompts_share_a_pass_that_takes_as_long_as_several_steps(
    admission_steps: float, fewest: int
) -> None:
    """With eight rows and a text that ends at each round, rows wait until that costs what a pass costs."""
    asked = [Request((1,), 8 + i) for i in range(40)]
    method = Waiting(admission_steps)
    scheduler: Scheduler[Sequence] = Scheduler(method, rows=8)  # type: ignore[arg-type]
    results = {result.index: result for result in scheduler.run(asked)}
    assert [len(results[i].output_ids) for i in range(40)] == [8 + i for i in range(40)]
    assert sum(method.admitted) == 40
    assert method.admitted[0] == 8
    assert min(method.admitted[1:-1]) >= fewest


def test_a_waiting_prompt_is_admitted_when_no_row_is_at_work() -> None:
    method = Waiting(1e9)
    scheduler: Scheduler[Sequence] = Scheduler(method, rows=2)  # type: ignore[arg-type]
    assert len(list(scheduler.run([Request((1,), 3)] * 5))) == 5
    assert method.admitted == [2, 2, 1]


def test_the_last_prompts_wait_for_none_to_share_their_pass() -> None:
    """None comes after them: a prompt that waited beside seven long texts began when these had ended."""
    method = Waiting(4.0)
    scheduler: Scheduler[Sequence] = Scheduler(method, rows=8)  # type: ignore[arg-type]
    rounds = 0

    def count(state: Round) -> None:
        nonlocal rounds
        rounds += bool(state.finished) or any(seq.output for seq in state.active)

    asked = [Request((1,), limit) for limit in (2, *[20] * 7, 20)]
    assert len(list(scheduler.run(asked, count))) == 9
    assert method.admitted == [8, 1]
    assert rounds <= 2 + 20 + 1


def test_moves_in_one_copy_are_those_made_one_after_the_other() -> None:
    """Rows that are moved on are copied once, and rows that were moved from are empty."""
    model = tiny_model("llama", 0)
    texts = [[row + 2] * (row + 3) for row in range(7)]
    for finished in ([0], [3, 5], [2, 3, 4], [0, 1, 2, 5], [6], [4, 6]):
        moves = compact(7, finished).moves
        at_once, one_by_one = ModelRunner(model), ModelRunner(model)
        with torch.inference_mode():
            for runner in (at_once, one_by_one):
                runner.allocate(7, 16)
                runner.prefill(range(7), texts)
            if moves:
                at_once.move(moves)
            for move in moves:
                one_by_one.move([move])
            rows = compact(7, finished).order
            assert at_once.tokens == one_by_one.tokens
            assert [at_once.tokens[row] for row in range(len(rows))] == [texts[row] for row in rows]
            states = [runner.append([9] * len(rows)) for runner in (at_once, one_by_one)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
