"""Many jobs at once in an event loop of a thread of its own, whose results the caller takes one by one.

The thread makes a run work where a loop is running already, as in a notebook; results and observers stay in
the caller's thread. What is in progress is bounded twice: by the number of jobs at once, and by the results
that the caller has not taken. A run over a million texts therefore needs no more memory than one over a
thousand.
"""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import aiohttp

from s2t_eval.remote.client import new_session
from s2t_eval.remote.settings import RemoteSettings

Item = TypeVar("Item")
Output = TypeVar("Output")

Work = Callable[[int, Item], Awaitable[Output]]
"""The work of one item, of which it gets the index as well."""

SECONDS_BETWEEN_CALLS = 0.5
"""How often `on_idle` is called while no job ends."""
ROOM = 2
"""Items in progress or not yet taken, for each job at once."""


class _End(NamedTuple):
    """The end of a run."""

    error: BaseException | None


def run_jobs(
    items: Sequence[Item],
    start: Callable[[aiohttp.ClientSession], Work[Item, Output]],
    settings: RemoteSettings,
    on_idle: Callable[[], object] = lambda: None,
) -> Iterator[Output]:
    """Do the work of all items; each result is yielded as soon as it is there, in no fixed order.

    The first error ends the run, after all results that were there before it. A caller that stops taking
    results ends the run too.

    Args:
        items: one job each.
        start: returns the work; called once, in the event loop.
        settings: jobs at once, timeouts.
        on_idle: called in the caller's thread twice a second while no job ends.
    """
    if not items:
        return
    run = _Run(items, start, settings)
    try:
        yield from run.results(on_idle)
    finally:
        run.stop()


class _Run(Generic[Item, Output]):
    """An event loop in a thread of its own, with one task that does all jobs."""

    def __init__(
        self,
        items: Sequence[Item],
        start: Callable[[aiohttp.ClientSession], Work[Item, Output]],
        settings: RemoteSettings,
    ) -> None:
        self._waiting = enumerate(items)
        self._num_workers = min(settings.concurrency, len(items))
        self._start = start
        self._settings = settings
        self._events: queue.SimpleQueue[Output | _End] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(ROOM * settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run_all())
        # The traceback of a caller's own error may hold the generator of the results, which stays open then.
        # Python does not wait for a daemon thread, which is stopped before Python ends.
        self._thread = threading.Thread(target=self._run, name="s2t-eval-servers", daemon=True)
        atexit.register(self.stop)
        self._thread.start()

    def results(self, on_idle: Callable[[], object]) -> Iterator[Output]:
        """The results until the run ends; its exception, if it ends with one."""
        while True:
            try:
                event = self._events.get(timeout=SECONDS_BETWEEN_CALLS)
            except queue.Empty:
                on_idle()
                continue
            if isinstance(event, _End):
                if event.error is not None:
                    raise event.error
                return
            self._loop.call_soon_threadsafe(self._room.release)
            yield event

    def stop(self) -> None:
        """End the task, whether it has finished or not, and wait for the thread."""
        with suppress(RuntimeError):  # the loop may have ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._loop.close()
        atexit.unregister(self.stop)

    def _run(self) -> None:
        end = _End(None)
        try:
            self._loop.run_until_complete(self._task)
        except BaseException as error:  # every end of the thread reaches the caller, who raises it
            end = _End(error)
        self._events.put(end)

    async def _run_all(self) -> None:
        """Do all jobs; the first error ends the others."""
        async with new_session(self._settings) as session:
            work = self._start(session)
            tasks = [asyncio.create_task(self._worker(work)) for _ in range(self._num_workers)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _worker(self, work: Work[Item, Output]) -> None:
        while True:
            await self._room.acquire()
            job = next(self._waiting, None)
            if job is None:
                self._room.release()
                return
            self._events.put(await work(*job))
