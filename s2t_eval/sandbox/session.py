"""One worker of the pool: a checker that stays, and a fresh sandbox for every program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict
from types import TracebackType

from s2t_eval.sandbox.isolation import Isolation
from s2t_eval.sandbox.limits import Limits, Program, Verdict
from s2t_eval.sandbox.pipes import ClosedError, LateError, Lines, TooLongError

CHECKER_LINE = 1 << 26
READY = b'["ready"]\n'
ATTEMPTS = 2
"""A sandbox that somebody else kills is started once more."""


class KilledError(Exception):
    """A sandbox was killed, and neither by us nor by its limits."""


class Session:
    """Runs programs one after another. Not shared between threads, and used as a context manager.

    The thread that makes it has to live as long: bubblewrap dies with the thread that started it.
    """

    def __init__(self, isolation: Isolation, limits: Limits) -> None:
        self.isolation = isolation
        self.limits = limits
        self._checker: subprocess.Popen[bytes] | None = None
        self._lines: Lines | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the checker."""
        if self._checker is not None:
            end(self._checker)
        self._checker = self._lines = None

    def run(self, program: Program) -> Verdict:
        """Run one program to its verdict; never raises for what a program does."""
        began = time.monotonic()
        for _ in range(ATTEMPTS):
            try:
                passed, reason = self._attempt(program)
                break
            except KilledError as error:
                passed, reason = None, str(error)
        return Verdict(passed, reason, time.monotonic() - began, self.isolation.name)

    def _attempt(self, program: Program) -> tuple[bool | None, str]:
        deadline = time.monotonic() + self.limits.wall_seconds
        process = self.isolation.start("program.py", self.limits)
        try:
            return self._converse(program, process, deadline)
        except LateError:
            self.close()
            return False, f"it ran longer than {self.limits.wall_seconds:g} s"
        except KilledError:
            self.close()  # the checks, too, are in the middle of something
            raise
        finally:
            end(process)

    def _converse(
        self, program: Program, process: subprocess.Popen[bytes], deadline: float
    ) -> tuple[bool | None, str]:
        lines = Lines(process, self.limits.message_bytes)
        job = {"source": program.source, "limits": asdict(self.limits)}
        reply = self._ask(lines, process, repr(job).encode() + b"\n", deadline)
        if reply != READY:
            return False, f"it does not load: {_explanation(reply)}"
        try:
            checker = self._ready_checker(deadline)
            checker.send(_job(program), deadline)
            while True:
                message = json.loads(checker.receive(deadline))
                if message[0] == "verdict":
                    return message[1], message[2]
                call = message[1].encode() + b"\n"
                checker.send(self._ask(lines, process, call, deadline), deadline)
        except ClosedError:
            raise KilledError("the sandbox of the checks was killed from outside") from None

    def _ask(self, lines: Lines, process: subprocess.Popen[bytes], line: bytes, deadline: float) -> bytes:
        """The program's reply, or in its place why there is none."""
        try:
            lines.send(line, deadline)
            return lines.receive(deadline)
        except TooLongError:
            return _dead(f"a result is longer than {self.limits.message_bytes} bytes")
        except ClosedError:
            return _dead(self._obituary(process))

    def _obituary(self, process: subprocess.Popen[bytes]) -> str:
        """How a program ended. Bubblewrap itself dies of a signal only if someone outside sends it."""
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its pipes"
        if status < 0 and self.isolation.command:
            raise KilledError(f"the sandbox was killed from outside (signal {-status})")
        number = -status if status < 0 else status - 128
        if number > 0:
            limits = {signal.SIGKILL, signal.SIGXCPU}
            why = " (a limit)" if number in limits else ""
            return f"it was ended by {_signal_name(number)}{why} before its checks were done"
        return f"it ended with status {status} before its checks were done"

    def _ready_checker(self, deadline: float) -> Lines:
        if self._checker is None or self._lines is None:
            self._checker = self.isolation.start("checker.py", self.limits)
            self._lines = Lines(self._checker, CHECKER_LINE)
            self._lines.send(json.dumps(asdict(self.limits)).encode() + b"\n", deadline)
        return self._lines


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started: its namespace dies with it, or else its session."""
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _job(program: Program) -> bytes:
    parts = {
        "prelude": program.prelude,
        "checks": program.checks,
        "functions": list(program.functions),
    }
    return json.dumps(parts).encode() + b"\n"


def _dead(why: str) -> bytes:
    return json.dumps(["dead", why]).encode() + b"\n"


def _explanation(reply: bytes) -> str:
    """The text of a program's error; what it says may be anything."""
    try:
        kind, *said = json.loads(reply)
        text = str(said[0]) if kind == "dead" else bytes.fromhex(said[1]).decode(errors="replace")
    except (ValueError, TypeError, LookupError, RecursionError):
        text = "it says nothing that can be read"
    return " ".join(text.split())[:300]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
