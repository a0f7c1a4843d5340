"""Many programs at once: a session a thread, as many threads as there are cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from s2t_eval.evaluation.sandbox.isolation import Isolation, find_isolation
from s2t_eval.evaluation.sandbox.limits import Limits, Program, Verdict
from s2t_eval.evaluation.sandbox.session import Session


def run_programs(
    programs: Sequence[Program],
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Callable[[], object] | None = None,
) -> list[Verdict]:
    """Run programs in the sandbox, and say of each whether its checks ran to the end and held.

    Args:
        programs: hostile sources with trusted checks.
        limits: of each program; the default ones if None.
        workers: programs at once; as many as this process may use cores if None.
        progress: called once a program.

    Returns:
        Verdicts in the order of the programs.

    Raises:
        SandboxUnavailableError: no sandbox works here, or none works any more.
    """
    limits, ours = limits or Limits(), find_isolation()
    waiting: SimpleQueue[tuple[int, Program]] = SimpleQueue()
    for item in enumerate(programs):
        waiting.put(item)
    done: SimpleQueue[tuple[int, Verdict] | BaseException] = SimpleQueue()
    count = min(workers or usable_cores(), max(1, len(programs)))
    stop = threading.Event()
    threads = [
        threading.Thread(target=_work, args=(ours, limits, waiting, done, stop), name=f"sandbox {i}")
        for i in range(count)
    ]
    started = _start(threads)
    if not started:  # the machine has no thread to spare
        _work(ours, limits, waiting, done, stop)
    verdicts: dict[int, Verdict] = {}
    try:
        for place, verdict in _arrivals(done, len(programs)):
            verdicts[place] = verdict
            if progress is not None:
                progress()
    finally:
        stop.set()
        for thread in started:
            thread.join()
    return [verdicts[place] for place in range(len(programs))]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(threads: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Those of the threads that the machine can start."""
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # out of process ids: fewer do the same work
            break
        started.append(thread)
    return started


def _arrivals(
    done: SimpleQueue[tuple[int, Verdict] | BaseException], expected: int
) -> Iterator[tuple[int, Verdict]]:
    for _ in range(expected):
        arrived = done.get()
        if isinstance(arrived, BaseException):
            raise arrived
        yield arrived


def _work(
    ours: Isolation,
    limits: Limits,
    waiting: SimpleQueue[tuple[int, Program]],
    done: SimpleQueue[tuple[int, Verdict] | BaseException],
    stop: threading.Event,
) -> None:
    try:
        with Session(ours, limits) as session:
            while not stop.is_set():
                place, program = waiting.get_nowait()
                done.put((place, session.run(program)))
    except Empty:
        return
    except BaseException as error:
        done.put(error)
