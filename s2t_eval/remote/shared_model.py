"""A model of this process that many coroutines use: one pass serves all texts that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

Job = TypeVar("Job")
Out = TypeVar("Out")


class SharedModel(Generic[Job, Out]):
    """Runs passes in a thread of its own as long as jobs are unfinished.

    The event loop stays free for the servers of the other role. Jobs that are submitted during a pass join
    the next one.

    Args:
        run_pass: called with the jobs that are new; returns the jobs that are finished, with their results.
            Jobs that it does not return stay with it, and it is called again.
    """

    def __init__(self, run_pass: Callable[[Sequence[Job]], Sequence[tuple[Job, Out]]]) -> None:
        self._run_pass = run_pass
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="s2t-eval-model")
        self._waiting: list[Job] = []
        self._futures: dict[int, asyncio.Future[Out]] = {}
        self._is_running = False

    def close(self) -> None:
        """Wait for a pass that is running: afterwards no pass uses the model."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def submit(self, job: Job) -> Out:
        """The result of a job, once enough passes have been made."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._futures[id(job)] = future
        self._waiting.append(job)
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._begin, loop)  # after texts that submit a job in this turn of the loop
        return await future

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a pass, unless no job is left."""
        self._is_running = bool(self._futures)
        if not self._is_running:
            return
        new, self._waiting = self._waiting, []

        def done(finished: Future[Sequence[tuple[Job, Out]]]) -> None:
            with suppress(RuntimeError):  # the loop was closed: the run has ended
                loop.call_soon_threadsafe(self._end, loop, finished)

        self._thread.submit(self._run_pass, new).add_done_callback(done)

    def _end(self, loop: asyncio.AbstractEventLoop, finished: Future[Sequence[tuple[Job, Out]]]) -> None:
        """Hand out the results of a pass; its exception ends all jobs."""
        if finished.cancelled():
            return
        error = finished.exception()
        if error is not None:
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(error)
            self._futures, self._waiting, self._is_running = {}, [], False
            return
        for job, result in finished.result():
            future = self._futures.pop(id(job))
            if not future.done():  # its text may have been cancelled
                future.set_result(result)
        loop.call_soon(self._begin, loop)  # after the texts that go on at once


class FreeRows:
    """Which cache row of a model each text has.

    Args:
        count: rows of the model.
    """

    def __init__(self, count: int) -> None:
        self._free = list(reversed(range(count)))
        self._rows: dict[int, int] = {}

    def take(self, index: int) -> int:
        """The row of the text with this index; a free one at its first call."""
        if index not in self._rows:
            assert self._free, "at most as many texts at once as rows"
            self._rows[index] = self._free.pop()
        return self._rows[index]

    def give_back(self, index: int) -> None:
        """Free the row of a text that has ended; its tokens stay, for prompts with the same beginning."""
        row = self._rows.pop(index, None)
        if row is not None:
            self._free.append(row)
