"""One worker of the pool: a checker that stays, and a fresh sandbox for every program."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from dataclasses import asdict
from types import TracebackType

from s2t_eval.evaluation.sandbox.isolation import INSTALL, Isolation, SandboxFailedError
from s2t_eval.evaluation.sandbox.limits import Limits, Program, Verdict
from s2t_eval.evaluation.sandbox.pipes import ClosedError, LateError, Lines, TooLongError
from s2t_eval.evaluation.sandbox.process import NotStartedError, SandboxProcess, is_shortage

CHECKER_LINE = 1 << 26
STARTED, READY = b'["started"]\n', b'["ready"]\n'
MOST_ERROR = 1 << 14
"""Longest report of a program's error, in bytes; `program.py` keeps to 500 characters."""
ATTEMPTS = 2
"""A sandbox that does not start, or that somebody else kills, is started once more."""
START_SECONDS = 30.0
PATIENCE, IMPATIENCE = 10.0, 1.0
"""Seconds to wait where the machine lacks processes or memory, and once it has done so in vain."""


class KilledError(Exception):
    """A sandbox was killed, and neither by us nor by its limits."""


class Session:
    """Runs programs one after another. Not shared between threads, and used as a context manager.

    The thread that makes it has to live as long: bubblewrap dies with the thread that started it.
    """

    def __init__(self, isolation: Isolation, limits: Limits) -> None:
        self.isolation = isolation
        self.limits = limits
        self._checker: SandboxProcess | None = None
        self._lines: Lines | None = None
        self._patience = PATIENCE

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the checker."""
        if self._checker is not None:
            self._checker.end()
        self._checker = self._lines = None

    def run(self, program: Program) -> Verdict:
        """Run one program to its verdict; never raises for what a program does.

        Raises:
            SandboxFailedError: the sandbox worked before and does no more.
        """
        began = time.monotonic()
        passed, reason = self._result(program)
        return Verdict(passed, reason, time.monotonic() - began, self.isolation.name)

    def _result(self, program: Program) -> tuple[bool | None, str]:
        """What one of a few attempts finds out; (None, why) where the machine lets none come to an end."""
        give_up = time.monotonic() + self._patience
        for attempt in itertools.count(1):
            try:
                result = self._attempt(program)
            except KilledError as error:
                if attempt >= ATTEMPTS:
                    return None, str(error)
            except NotStartedError as error:
                self.close()
                if error.is_shortage and time.monotonic() < give_up:
                    time.sleep(min(0.05 * 2**attempt, 1.0))
                elif error.is_shortage or attempt >= ATTEMPTS:
                    return self._no_score(error)
            else:
                self._patience = PATIENCE
                return result
        raise AssertionError("attempts are counted without end")

    def _no_score(self, error: NotStartedError) -> tuple[None, str]:
        """The result of a program whose sandbox does not start, unless no sandbox starts any more."""
        if error.is_shortage:
            self._patience = IMPATIENCE
        elif self.isolation.command:
            fault = self.isolation.fault()
            if fault is not None and not is_shortage(fault):
                raise SandboxFailedError(
                    f"the sandbox worked when this run began and fails now ({fault}); the programs that are "
                    f"left have no score; {INSTALL}; then run again (with the same --use_cache no text is "
                    "generated twice)"
                ) from error
        return None, f"the sandbox could not be started: {error}"

    def _attempt(self, program: Program) -> tuple[bool | None, str]:
        source = repr(program.source)
        if len(source) > self.limits.message_bytes:
            return False, f"it does not load: its source is longer than {self.limits.message_bytes} bytes"
        checker = self._ready_checker()
        process = self.isolation.start("program.py", self.limits)
        try:
            lines = Lines(process.popen, self.limits.message_bytes)
            job = f"{{'source': {source}, 'limits': {asdict(self.limits)!r}}}\n"
            _start(process, lines, job.encode())
            deadline = time.monotonic() + self.limits.wall_seconds
            return self._converse(program, checker, _Talk(process, lines, self.isolation, deadline))
        except LateError:
            self.close()
            return False, f"it ran longer than {self.limits.wall_seconds:g} s"
        except KilledError:
            self.close()  # the checks, too, are in the middle of something
            raise
        finally:
            process.end()

    def _converse(self, program: Program, checker: Lines, talk: _Talk) -> tuple[bool | None, str]:
        reply = talk.reply()
        if reply != b"=" + READY:
            return False, f"it does not load: {_explanation(reply)}"
        try:
            checker.send(_job(program), talk.deadline)
            while True:
                message = json.loads(checker.receive(talk.deadline))
                if message[0] == "verdict":
                    return message[1], message[2]
                checker.send(talk.ask(message[1].encode() + b"\n"), talk.deadline)
        except ClosedError:
            raise KilledError("the sandbox of the checks was killed from outside") from None

    def _ready_checker(self) -> Lines:
        if self._checker is None or self._lines is None:
            self._checker = self.isolation.start("checker.py", self.limits)
            self._lines = Lines(self._checker.popen, CHECKER_LINE)
            _start(self._checker, self._lines, json.dumps(asdict(self.limits)).encode() + b"\n")
        return self._lines


class _Talk:
    """Calls to a program, and its replies as the checker reads them.

    Args:
        process: the program.
        lines: its pipes.
        isolation: what it runs in.
        deadline: until when it has to reply.
    """

    def __init__(self, process: SandboxProcess, lines: Lines, isolation: Isolation, deadline: float) -> None:
        self.process = process
        self.lines = lines
        self.isolation = isolation
        self.deadline = deadline

    def ask(self, line: bytes) -> bytes:
        """`=` and the program's reply to a line, or `!` and why there is none."""
        try:
            self.lines.send(line, self.deadline)
        except ClosedError:
            return _dead(self._obituary())
        return self.reply()

    def reply(self) -> bytes:
        """The same for what the program says by itself."""
        try:
            return b"=" + self.lines.receive(self.deadline)
        except TooLongError as error:
            return _dead(f"a result is longer than {error} bytes")
        except ClosedError:
            return _dead(self._obituary())

    def _obituary(self) -> str:
        """How a program ended. Bubblewrap itself dies of a signal only if someone outside sends it."""
        try:
            status = self.process.popen.wait(5)
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


def _start(process: SandboxProcess, lines: Lines, job: bytes) -> None:
    """Hand over a job and wait for the mark that Python runs in the sandbox.

    Raises:
        NotStartedError: it does not.
    """
    deadline = time.monotonic() + START_SECONDS
    try:
        lines.send(job, deadline)
        line = lines.receive(deadline)
    except ClosedError:
        raise process.not_started() from None
    except LateError:
        raise NotStartedError(f"nothing runs in it after {START_SECONDS:g} s", is_shortage=True) from None
    assert line == STARTED, line


def _job(program: Program) -> bytes:
    parts = {
        "prelude": program.prelude,
        "checks": program.checks,
        "functions": list(program.functions),
    }
    return json.dumps(parts).encode() + b"\n"


def _dead(why: str) -> bytes:
    return b"!" + json.dumps(why).encode() + b"\n"


def _explanation(reply: bytes) -> str:
    """The text of a program's error; what it says may be anything."""
    if reply[:1] == b"!":
        return str(json.loads(reply[1:]))
    if len(reply) <= MOST_ERROR:
        try:
            return bytes.fromhex(json.loads(reply[1:])[2]).decode("utf-8", "surrogatepass")
        except (ValueError, TypeError, LookupError, RecursionError):
            pass  # said below
    return "it says nothing that can be read"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
