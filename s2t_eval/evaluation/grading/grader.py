"""Compares answers in a process that is killed where it takes too long."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import time

from s2t_eval.evaluation.grading.spelling import is_too_long
from s2t_eval.evaluation.sandbox.pipes import ClosedError, LateError, Lines, TooLongError

MOST = 1 << 16
START_SECONDS = 120.0
"""The first comparison loads sympy, which on a busy machine takes its time."""
WORKER = (sys.executable, "-m", "s2t_eval.evaluation.grading.worker")


class GraderBrokenError(RuntimeError):
    """No answer can be compared on this machine; a score would be zero for want of a grader."""


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
        """Whether the answers are equal; None where this one comparison broke or did not end in time.

        Raises:
            GraderBrokenError: the grader itself does not work, whatever it compares.
        """
        key = (gold, answer, tolerance)
        if key not in self._known:
            self._known[key] = False if is_too_long(gold, answer) else self._compare(key)
        return self._known[key]

    def check(self) -> None:
        """Start the worker, which tries itself on known pairs.

        Raises:
            GraderBrokenError: with what was found, what is expected and the command that installs it.
        """
        self._ready()

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = self._lines = None

    def _compare(self, key: tuple[str, str, float]) -> bool | None:
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
        """The worker's lines, once it has said that it works."""
        if self._lines is None:
            lines = self._start()
            try:
                works, reason = json.loads(lines.receive(time.monotonic() + START_SECONDS))
            except (ClosedError, LateError, TooLongError, ValueError) as error:
                self.close()
                raise GraderBrokenError(
                    f"the grader's worker ({' '.join(self.command[1:])}) does not start; math-verify "
                    "has to be installed: `pip install math-verify`"
                ) from error
            if works is not True:
                self.close()
                raise GraderBrokenError(str(reason))
            self._lines = lines
        return self._lines

    def _start(self) -> Lines:
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
        return Lines(self._process, MOST)


@functools.cache
def shared_grader() -> Grader:
    """The grader of this process."""
    grader = Grader()
    atexit.register(grader.close)
    return grader
