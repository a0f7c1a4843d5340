"""Two kinds of requests to a server that are never open together."""

from __future__ import annotations

import asyncio
import copy
import random

import pytest

from s2t_eval.remote.build import Fleet, LocalModels, Roles
from s2t_eval.remote.client import Server
from s2t_eval.remote.gates import DRAFT, SCORE, Gate, Kind, kind_of
from s2t_eval.remote.protocol import AnswerError, draft_body, read_draft, rows_body, score_body
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import s2t
from s2t_eval.selection.triggers import make_trigger
from tests.remote.fake_server import RECORDED


def test_kinds_are_never_open_together_and_all_pass() -> None:
    gate, numbers = Gate(), random.Random(0)
    open_now: list[Kind] = []
    most = {DRAFT: 0, SCORE: 0}

    async def request(kind: Kind) -> None:
        async with gate.passing(kind):
            open_now.append(kind)
            assert set(open_now) == {kind}
            most[kind] = max(most[kind], len(open_now))
            await asyncio.sleep(numbers.random() / 1000)
            open_now.remove(kind)

    async def text() -> None:
        for _ in range(20):
            await request(numbers.choice([DRAFT, SCORE]))

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(text() for _ in range(16))), 60)

    asyncio.run(run())
    assert min(most.values()) > 1  # requests of one kind pass together


def test_a_stream_of_one_kind_does_not_hold_up_the_other() -> None:
    gate = Gate()
    is_scored = False

    async def drafts() -> None:
        while not is_scored:
            async with gate.passing(DRAFT):
                await asyncio.sleep(0.001)

    async def run() -> None:
        nonlocal is_scored
        tasks = [asyncio.create_task(drafts()) for _ in range(4)]
        await asyncio.sleep(0.01)
        async with gate.passing(SCORE):
            is_scored = True
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_request_that_is_cancelled_while_it_waits_leaves_the_gate_open() -> None:
    gate = Gate()

    async def score() -> None:
        async with gate.passing(SCORE):
            raise AssertionError("it was cancelled before")

    async def run() -> None:
        async with gate.passing(DRAFT):
            waiting = asyncio.create_task(score())
            await asyncio.sleep(0)
            late = asyncio.create_task(gate.passing(DRAFT).__aenter__())
            await asyncio.sleep(0.01)
            assert not late.done()  # the score that waits goes first
            waiting.cancel()
            await asyncio.wait_for(late, 10)
            assert waiting.cancelled()

    asyncio.run(run())


A, B = (Server(f"http://{name}", "m", 512, "0.32.0") for name in "ab")


@pytest.mark.parametrize(
    ("fleet", "does_teacher_write", "gated"),
    [
        (Fleet((A,), (B,)), False, ""),
        (Fleet((A,), (B,)), True, "b"),
        (Fleet((A,), (B,), has_rows=True), True, ""),
        (Fleet((A, B), (B,)), False, "b"),
        (Fleet((A,), (A,), has_shared_batches=True), False, ""),
        (Fleet((), (A, B)), True, "ab"),
    ],
)
def test_servers_that_draft_and_score_get_gates(fleet: Fleet, does_teacher_write: bool, gated: str) -> None:
    """Only a selector's students had some: a teacher that writes, or that is the student too, lost drafts."""
    policy = s2t(make_trigger("margin"), 0.5, 4)
    roles = Roles(fleet, LocalModels(), policy, 443, RemoteSettings(), 64)
    assert set(roles.gates(does_teacher_write)) == {f"http://{name}" for name in gated}


def test_the_kind_of_a_request_is_that_of_its_body() -> None:
    assert kind_of(draft_body([1], 8, [2], 64)) == kind_of(rows_body([1], [2], [[3]], True)) == DRAFT
    assert kind_of(score_body([1], [2, 3])) == SCORE


def test_a_step_without_all_requested_tokens_is_no_answer() -> None:
    """Such steps were read as ones whose student is sure of one token: no margin ever fired there."""
    with pytest.raises(AnswerError, match="expected the 64 most likely tokens of a step, got 5; requests"):
        read_draft(RECORDED["draft"], 3, 1000, 64)
    assert len(read_draft(RECORDED["draft"], 3, 1000, 5).steps) == 3


def test_steps_before_one_without_all_requested_tokens_are_kept() -> None:
    answer = copy.deepcopy(RECORDED["draft"])
    del answer["choices"][0]["logprobs"]["content"][1]["top_logprobs"][1:]
    assert len(read_draft(answer, 3, 1000, 5).steps) == 1


@pytest.mark.parametrize("name", ["token_id", "logprob"])
def test_a_token_without_its_id_or_number_is_no_answer(name: str) -> None:
    """It ended the run with a KeyError; as any other answer that cannot be read, it is requested again."""
    answer = copy.deepcopy(RECORDED["draft"])
    del answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0][name]
    with pytest.raises(AnswerError, match="expected token_id and logprob of each token, got none named"):
        read_draft(answer, 3, 1000, 5)
