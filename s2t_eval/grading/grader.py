"""Compares answers in a process that is killed where it takes too long."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import time

from s2t_eval.sandbox.pipes import ClosedError, LateError, Lines

MOST = 1 << 16
START_SECONDS = 120.0
"""The first comparison loads sympy, which on a busy machine takes its time."""
WORKER = (sys.executable, "-m", "s2t_eval.grading.worker")


class Grader:
    """One worker process; started when first needed, killed when late, started again.

    Args:
        seconds: limit of one comparison.
        command: the worker.
    """

    def __init__(self, seconds: float = 10.0, command: tuple[str, ...] = WORKER) -> None:
        self.seconds = seconds
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: Lines | None = None
        self._known: dict[tuple[str, str, float], bool | None] = {}

    def same(self, gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
        """Whether the answers are equal; None where the comparison did not come to an end."""
        key = (gold, answer, tolerance)
        if key not in self._known:
            self._known[key] = self._ask(key)
        return self._known[key]

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = self._lines = None

    def _ask(self, key: tuple[str, str, float]) -> bool | None:
        if len(key[1]) > MOST:
            return None
        for _ in range(2):  # a worker that somebody else killed is no verdict
            lines = self._ready()
            deadline = time.monotonic() + self.seconds
            try:
                lines.send(json.dumps(key).encode() + b"\n", deadline)
                equal = json.loads(lines.receive(deadline))[0]
                return None if equal is None else bool(equal)
            except LateError:
                self.close()
                return None
            except ClosedError:
                self.close()
        return None

    def _ready(self) -> Lines:
        """The worker's lines, once it has answered a first question."""
        if self._lines is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
            self._lines = Lines(self._process, MOST)
            deadline = time.monotonic() + START_SECONDS
            try:
                self._lines.send(b'["x+1", "1+x", 0]\n', deadline)
                self._lines.receive(deadline)
            except (ClosedError, LateError) as error:
                self.close()
                raise RuntimeError(
                    f"the grader's worker ({' '.join(self.command[1:])}) does not start; math-verify "
                    "has to be installed: `pip install math-verify`"
                ) from error
        return self._lines


@functools.cache
def shared_grader() -> Grader:
    """The grader of this process."""
    grader = Grader()
    atexit.register(grader.close)
    return grader
