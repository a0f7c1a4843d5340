"""The client alone at a thousand texts at once: what it has in progress is bounded, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import pytest

from benchmarks.fast_server import fast_server
from s2t_eval.engine import Request
from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import OTHER_FILES, new_session
from s2t_eval.remote.jobs import ROOM, Work, run_jobs
from s2t_eval.remote.probe import connect
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import greedy, s2t
from s2t_eval.selection.triggers import make_trigger

AT_ONCE = 1000
SETTINGS = RemoteSettings(chunk=8, concurrency=AT_ONCE)
ENTROPY = s2t(make_trigger("entropy64"), 2.0)
"""At the fast server the last step of each chunk fires."""
NEW_TOKENS = 16


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fast_server() as address:
        yield address


def counts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url + "/counts", timeout=90) as answer:
        read: dict[str, int] = json.load(answer)
    return read


def requests(number: int) -> list[Request]:
    return [Request((1, 2, 3, i), NEW_TOKENS) for i in range(number)]


def live_texts() -> int:
    """Texts in progress anywhere in this process."""
    return sum(issubclass(type(thing), Sequence) for thing in gc.get_objects())


def test_a_thousand_texts_at_once(url: str) -> None:
    """Each text has its chunks and its fired steps; connections stay within their limit, threads end."""
    fleet = connect([url], [url], SETTINGS)
    before, threads = counts(url), set(threading.enumerate())
    scheduler = RemoteScheduler(fleet, ENTROPY, 1000, SETTINGS)
    results = list(scheduler.run(requests(AT_ONCE)))
    assert sorted(result.index for result in results) == list(range(AT_ONCE))
    num_chunks = NEW_TOKENS // SETTINGS.chunk
    for result in results:
        assert len(result.output_ids) == NEW_TOKENS
        assert [step.t for step in result.steps] == [7, 15]
        assert result.usage.server_requests == 2 * num_chunks
        assert result.usage.discarded_tokens == 0
    after = counts(url)
    assert after["requests"] - before["requests"] == 2 * AT_ONCE * num_chunks
    assert after["most_at_once"] <= 2 * AT_ONCE
    # Threads of earlier tests may end meanwhile.
    assert not set(threading.enumerate()) - threads


def test_texts_in_memory_do_not_grow_with_the_run(url: str) -> None:
    """Texts that had ended were once kept until the run's end where nothing observed it."""
    settings = replace(SETTINGS, concurrency=50)
    fleet = connect([url], [], settings)
    live = []
    for result in RemoteScheduler(fleet, greedy(), 1000, settings).run(requests(1000)):
        if result.index in (100, 500, 900):  # a look at all objects of the process takes seconds
            live.append(live_texts())
    assert len(live) == 3
    assert max(live) <= (ROOM + 1) * settings.concurrency


def test_a_slow_caller_holds_the_servers_back() -> None:
    """Results that nobody takes are bounded; what the caller takes makes room for as many again."""
    settings = RemoteSettings(concurrency=4)
    begun: list[int] = []
    idle = threading.Event()

    def start(session: aiohttp.ClientSession) -> Work[int, int]:
        async def work(index: int, item: int) -> int:
            begun.append(index)
            await asyncio.sleep(0)
            return item

        return work

    taken = []
    results = run_jobs(range(1000), start, settings)
    for number in results:
        taken.append(number)
        if len(taken) % 100 == 0:
            idle.wait(0.01)  # gives the thread time to run ahead as far as it may
        assert len(begun) <= len(taken) + ROOM * settings.concurrency
    assert sorted(taken) == list(range(1000))


FAILING_CALLER = """
from s2t_eval.remote.jobs import run_jobs
from s2t_eval.remote.settings import RemoteSettings

def start(session):
    async def work(index, item):
        return item
    return work

results = run_jobs(range(1000), start, RemoteSettings(concurrency=2))
for number in results:
    raise OSError("a fault of the caller")
"""


def test_a_caller_that_fails_ends_its_process() -> None:
    """Its traceback held the results, whose thread waited for ever to hand over the next ones."""
    ended = subprocess.run([sys.executable, "-c", FAILING_CALLER], capture_output=True, text=True, timeout=90)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("OSError: a fault of the caller")


def test_a_process_that_may_open_few_files_opens_few_connections(url: str) -> None:
    """With a thousand texts at once the usual limit of 1,024 files was once exceeded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def most(settings: RemoteSettings) -> int:
        async with new_session(settings) as session:
            assert session.connector is not None
            return session.connector.limit

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OTHER_FILES + 60, hard))
        assert asyncio.run(most(SETTINGS)) == 60
        fleet = connect([url], [], SETTINGS)
        results = list(RemoteScheduler(fleet, greedy(), 1000, SETTINGS).run(requests(AT_ONCE)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(results) == AT_ONCE
    assert asyncio.run(most(replace(SETTINGS, concurrency=8))) == 16
