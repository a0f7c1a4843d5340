"""Parallel execution of programs: one session per thread, by default one thread per core."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from s2t_eval.evaluation.sandbox.isolation import Isolation, find_isolation
from s2t_eval.evaluation.sandbox.limits import Limits, Program, ProgramVerdict
from s2t_eval.evaluation.sandbox.session import Session


def run_programs(
    programs: Sequence[Program],
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Callable[[], object] | None = None,
) -> list[ProgramVerdict]:
    """Run programs with their checks in the sandbox.

    Args:
        programs: untrusted programs with trusted checks.
        limits: limits of each program; None (default) for `Limits()`.
        workers: number of programs that run at once; None (default) for the number of usable cores.
        progress: called after each program; default None.

    Returns:
        The verdicts in the order of the programs.

    Raises:
        SandboxUnavailableError: no sandbox works on this machine, or it stopped working during the run.

    Example:
        >>> program = Program("def add(a, b): return a + b", "assert add(2, 3) == 5")
        >>> [verdict.passed for verdict in run_programs([program])]
        [True]
    """
    limits, isolation = limits or Limits(), find_isolation()
    pending: SimpleQueue[tuple[int, Program]] = SimpleQueue()
    for item in enumerate(programs):
        pending.put(item)
    results: SimpleQueue[tuple[int, ProgramVerdict] | BaseException] = SimpleQueue()
    count = min(workers or usable_cores(), max(1, len(programs)))
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_run_worker, args=(isolation, limits, pending, results, stop), name=f"sandbox {i}"
        )
        for i in range(count)
    ]
    started = _start_threads(threads)
    if not started:  # no thread could be started
        _run_worker(isolation, limits, pending, results, stop)
    verdicts: dict[int, ProgramVerdict] = {}
    try:
        for index, verdict in _collect(results, len(programs)):
            verdicts[index] = verdict
            if progress is not None:
                progress()
    finally:
        stop.set()
        for thread in started:
            thread.join()
    return [verdicts[index] for index in range(len(programs))]


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_threads(threads: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Start the threads and return those that the machine could start."""
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # out of process ids: fewer threads do the same work
            break
        started.append(thread)
    return started


def _collect(
    results: SimpleQueue[tuple[int, ProgramVerdict] | BaseException], expected: int
) -> Iterator[tuple[int, ProgramVerdict]]:
    for _ in range(expected):
        result = results.get()
        if isinstance(result, BaseException):
            raise result
        yield result


def _run_worker(
    isolation: Isolation,
    limits: Limits,
    pending: SimpleQueue[tuple[int, Program]],
    results: SimpleQueue[tuple[int, ProgramVerdict] | BaseException],
    stop: threading.Event,
) -> None:
    try:
        with Session(isolation, limits) as session:
            while not stop.is_set():
                index, program = pending.get_nowait()
                results.put((index, session.run(program)))
    except Empty:
        return
    except BaseException as error:
        results.put(error)
