"""Comparison of answers in a worker process with a time limit."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import time

from s2t_eval.artifacts.child_process import module_environment
from s2t_eval.evaluation.grading.equivalence.normalisation import is_too_long
from s2t_eval.evaluation.sandbox.pipes import DeadlineError, LinePipes, LineTooLongError, PipeClosedError

MAX_LINE_BYTES = 1 << 16
START_SECONDS = 120.0
"""Time limit of the worker's start, which imports sympy and is slow on a busy machine."""
WORKER = (sys.executable, "-m", "s2t_eval.evaluation.grading.worker")


class GraderBrokenError(RuntimeError):
    """No answer can be compared on this machine; without this error every score would be zero."""


class Grader:
    """Compares answers in one worker process; verdicts are cached.

    The worker is started on the first comparison. It is killed if a comparison exceeds the time limit, and
    restarted for the next one.

    Args:
        seconds: time limit of one comparison in seconds; default 10.
        command: command line of the worker.

    Example:
        >>> Grader().is_equivalent(r"\\frac{1}{2}", "0.5")
        True
    """

    def __init__(self, seconds: float = 10.0, command: tuple[str, ...] = WORKER) -> None:
        self.seconds = seconds
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: LinePipes | None = None
        self._verdicts: dict[tuple[str, str, float], bool | None] = {}

    def is_equivalent(self, gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
        """Return whether the answers are equivalent; None if the comparison failed or timed out.

        Args:
            gold: the reference answer.
            answer: the extracted answer.
            tolerance: relative tolerance for gold answers in decimal notation; default 0 (exact).

        Raises:
            GraderBrokenError: no answer can be compared on this machine.
        """
        key = (gold, answer, tolerance)
        if key not in self._verdicts:
            self._verdicts[key] = False if is_too_long(gold, answer) else self._compare(key)
        return self._verdicts[key]

    def check(self) -> None:
        """Start the worker, which checks itself on pairs with known verdicts.

        Raises:
            GraderBrokenError: the check failed; the message names installed and expected versions and the
                command that installs them.
        """
        self._ready_lines()

    def close(self) -> None:
        """Terminate the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = self._lines = None

    def _compare(self, key: tuple[str, str, float]) -> bool | None:
        for _ in range(2):  # retry once: another process may have killed the worker
            lines = self._ready_lines()
            deadline = time.monotonic() + self.seconds
            try:
                lines.send(json.dumps(key).encode() + b"\n", deadline)
                equal = json.loads(lines.receive(deadline))[0]
                return None if equal is None else bool(equal)
            except DeadlineError:
                self.close()
                return None
            except PipeClosedError:
                self.close()
        return None

    def _ready_lines(self) -> LinePipes:
        """The worker's pipes, after its self-check succeeded."""
        if self._lines is None:
            lines = self._start()
            try:
                works, reason = json.loads(lines.receive(time.monotonic() + START_SECONDS))
            except (PipeClosedError, DeadlineError, LineTooLongError, ValueError) as error:
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

    def _start(self) -> LinePipes:
        environment = {**module_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        return LinePipes(self._process, MAX_LINE_BYTES)


@functools.cache
def shared_grader() -> Grader:
    """The grader of this process."""
    grader = Grader()
    atexit.register(grader.close)
    return grader
