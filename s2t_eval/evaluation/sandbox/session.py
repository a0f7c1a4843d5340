"""One worker of the pool: a long-lived checker process, and a new sandbox for every program."""

from __future__ import annotations

import itertools
import json
import secrets
import signal
import subprocess
import time
from dataclasses import asdict
from types import TracebackType

from s2t_eval.evaluation.sandbox.isolation import INSTALL_HINT, Isolation, SandboxFailedError
from s2t_eval.evaluation.sandbox.limits import UNCHECKABLE, Limits, Program, ProgramVerdict
from s2t_eval.evaluation.sandbox.pipes import DeadlineError, LinePipes, LineTooLongError, PipeClosedError
from s2t_eval.evaluation.sandbox.process import NotStartedError, SandboxProcess, is_shortage
from s2t_eval.evaluation.sandbox.separability import required_modules

MAX_CHECKER_LINE = 1 << 26
STARTED, READY = b'["started"]\n', b'["ready"]\n'
MAX_ERROR_BYTES = 1 << 14
"""Maximum length of a program's error report in bytes; `program.py` sends at most 500 characters."""
ATTEMPTS = 2
"""Number of attempts for a sandbox that does not start or is killed from outside."""
START_SECONDS = 30.0
SHORTAGE_SECONDS, REPEATED_SHORTAGE_SECONDS = 10.0, 1.0
"""Seconds of waiting for processes or memory: the first time, and after waiting was unsuccessful."""


class MissingModuleError(Exception):
    """A module that the checks import is not in the sandbox; its name is the exception's argument."""


class SandboxKilledError(Exception):
    """A sandbox was killed, but neither by this process nor by its limits."""


class Session:
    """Runs programs one after another; a context manager that must not be shared between threads.

    The creating thread must outlive the session: bubblewrap ends with the thread that started it.

    Args:
        isolation: the sandbox, from `find_isolation`.
        limits: limits of each program.

    Example:
        >>> with Session(find_isolation(), Limits()) as session:
        ...     verdict = session.run(Program("def f(): return 1", "assert f() == 1"))
    """

    def __init__(self, isolation: Isolation, limits: Limits) -> None:
        self.isolation = isolation
        self.limits = limits
        self._checker: SandboxProcess | None = None
        self._lines: LinePipes | None = None
        self._shortage_seconds = SHORTAGE_SECONDS

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Terminate the checker."""
        if self._checker is not None:
            self._checker.terminate()
        self._checker = self._lines = None

    def run(self, program: Program) -> ProgramVerdict:
        """Run one program with its checks and return the verdict; no behaviour of a program raises an error.

        Raises:
            SandboxFailedError: the sandbox worked before but no longer does.
        """
        start = time.monotonic()
        passed, reason = self._run_with_retries(program)
        return ProgramVerdict(passed, reason, time.monotonic() - start, self.isolation.name)

    def _run_with_retries(self, program: Program) -> tuple[bool | None, str]:
        """Run the program with retries; `passed` is None if the machine lets no attempt finish."""
        retry_deadline = time.monotonic() + self._shortage_seconds
        for attempt in itertools.count(1):
            try:
                result = self._attempt(program)
            except SandboxKilledError as error:
                if attempt >= ATTEMPTS:
                    return None, str(error)
            except NotStartedError as error:
                self.close()
                if error.is_shortage and time.monotonic() < retry_deadline:
                    time.sleep(min(0.05 * 2**attempt, 1.0))
                elif error.is_shortage or attempt >= ATTEMPTS:
                    return self._unscored(error)
            else:
                self._shortage_seconds = SHORTAGE_SECONDS
                return result
        raise AssertionError("unreachable: the attempts are unbounded")

    def _unscored(self, error: NotStartedError) -> tuple[None, str]:
        """The result for a sandbox that did not start; raises if the sandbox no longer works at all."""
        if error.is_shortage:
            self._shortage_seconds = REPEATED_SHORTAGE_SECONDS
        elif self.isolation.command:
            problem = self.isolation.confinement_problem()
            if problem is not None and not is_shortage(problem):
                raise SandboxFailedError(
                    f"the sandbox worked when this run began and fails now ({problem}); the remaining "
                    f"programs have no score; {INSTALL_HINT}; then run again (with the same --use_cache no "
                    "text is generated twice)"
                ) from error
        return None, f"the sandbox could not be started: {error}"

    def _attempt(self, program: Program) -> tuple[bool | None, str]:
        source = repr(program.source)
        if len(source) > self.limits.message_bytes:
            return False, f"it does not load: its source is longer than {self.limits.message_bytes} bytes"
        checker = None if program.shares_process else self._ready_checker()
        modules = required_modules(program.checks) if program.shares_process else None
        process = self.isolation.start("program.py", self.limits)
        try:
            lines = LinePipes(process.popen, self.limits.message_bytes)
            job = f"{{'source': {source}, 'limits': {asdict(self.limits)!r}, 'modules': {modules!r}}}\n"
            _send_job(process, lines, job.encode())
            deadline = time.monotonic() + self.limits.wall_seconds
            connection = _ProgramConnection(process, lines, self.isolation, deadline)
            if checker is None:
                return _run_checks_inside(program, connection)
            return self._relay_calls(program, checker, connection)
        except MissingModuleError as error:
            return None, f"{UNCHECKABLE}: they import {error}, which it does not have"
        except DeadlineError:
            self.close()
            return False, f"it ran longer than {self.limits.wall_seconds:g} s"
        except SandboxKilledError:
            self.close()  # the checker, too, is in an unknown state
            raise
        finally:
            process.terminate()

    def _relay_calls(
        self, program: Program, checker: LinePipes, connection: _ProgramConnection
    ) -> tuple[bool | None, str]:
        reply = connection.receive_reply()
        if reply != b"=" + READY:
            return False, f"it does not load: {_error_text(reply)}"
        try:
            checker.send(_encode_job(program), connection.deadline)
            while True:
                message = json.loads(checker.receive(connection.deadline))
                if message[0] == "verdict":
                    is_uncheckable = message[1] is None
                    return message[1], f"{UNCHECKABLE}: {message[2]}" if is_uncheckable else message[2]
                checker.send(connection.call(message[1].encode() + b"\n"), connection.deadline)
        except PipeClosedError:
            raise SandboxKilledError("the sandbox of the checks was killed from outside") from None

    def _ready_checker(self) -> LinePipes:
        if self._checker is None or self._lines is None:
            self._checker = self.isolation.start("checker.py", self.limits)
            self._lines = LinePipes(self._checker.popen, MAX_CHECKER_LINE)
            _send_job(self._checker, self._lines, json.dumps(asdict(self.limits)).encode() + b"\n")
        return self._lines


class _ProgramConnection:
    """Forwards calls to a program, and its replies in the format that the checker expects.

    Args:
        process: the program's process.
        lines: its pipes.
        isolation: its sandbox.
        deadline: value of `time.monotonic()` until which it must reply.
    """

    def __init__(
        self, process: SandboxProcess, lines: LinePipes, isolation: Isolation, deadline: float
    ) -> None:
        self.process = process
        self.lines = lines
        self.isolation = isolation
        self.deadline = deadline

    def call(self, line: bytes) -> bytes:
        """Send a call; return `=` with the program's reply, or `!` with the reason why there is none."""
        try:
            self.lines.send(line, self.deadline)
        except PipeClosedError:
            return _error_reply(self._exit_reason())
        return self.receive_reply()

    def receive_reply(self) -> bytes:
        """Receive the program's next line, in the same format."""
        try:
            return b"=" + self.lines.receive(self.deadline)
        except LineTooLongError as error:
            return _error_reply(f"a result is longer than {error} bytes")
        except PipeClosedError:
            return _error_reply(self._exit_reason())

    def _exit_reason(self) -> str:
        """Describe how a program ended.

        Raises:
            SandboxKilledError: bubblewrap itself ended by a signal, which can only come from outside.
        """
        try:
            status = self.process.popen.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its pipes"
        if status < 0 and self.isolation.command:
            raise SandboxKilledError(f"the sandbox was killed from outside (signal {-status})")
        number = -status if status < 0 else status - 128
        if number > 0:
            limits = {signal.SIGKILL, signal.SIGXCPU}
            reason = " (a limit)" if number in limits else ""
            return f"it was ended by {_signal_name(number)}{reason} before its checks were done"
        return f"it ended with status {status} before its checks were done"


def _run_checks_inside(program: Program, connection: _ProgramConnection) -> tuple[bool, str]:
    """Run the checks in the program's process, which proves by a token that it reached their end.

    The token is random and sent with the checks, after the program was loaded: what a program prints, its
    exit status and its exceptions cannot contain it.
    """
    reply = connection.receive_reply()
    if reply != b"=" + READY:
        return False, f"it does not load: {_error_text(reply)}"
    token = secrets.token_hex(16)
    reply = connection.call(f"{(program.checks, token)!r}\n".encode())
    if reply == f"={token}\n".encode():
        return True, "passed (its checks ran in its own process)"
    return False, f"a check failed: {_error_text(reply)}".removesuffix(": ")


def _send_job(process: SandboxProcess, lines: LinePipes, job: bytes) -> None:
    """Send a job and wait for the message that Python has started in the sandbox.

    Raises:
        NotStartedError: the message did not arrive.
        MissingModuleError: the checks import a module that the sandbox does not have.
    """
    deadline = time.monotonic() + START_SECONDS
    try:
        lines.send(job, deadline)
        line = lines.receive(deadline)
    except PipeClosedError:
        raise process.start_error() from None
    except DeadlineError:
        raise NotStartedError(f"nothing runs in it after {START_SECONDS:g} s", is_shortage=True) from None
    if line != STARTED:  # nothing of the program has run yet, so the line is the script's own
        _, name = json.loads(line)
        raise MissingModuleError(name)


def _encode_job(program: Program) -> bytes:
    parts = {
        "prelude": program.prelude,
        "checks": program.checks,
        "functions": list(program.functions),
    }
    return json.dumps(parts).encode() + b"\n"


def _error_reply(reason: str) -> bytes:
    return b"!" + json.dumps(reason).encode() + b"\n"


def _error_text(reply: bytes) -> str:
    """The text of a program's error report, which is untrusted and may be malformed."""
    if reply[:1] == b"!":
        return str(json.loads(reply[1:]))
    if len(reply) <= MAX_ERROR_BYTES:
        try:
            return bytes.fromhex(json.loads(reply[1:])[2]).decode("utf-8", "surrogatepass")
        except (ValueError, TypeError, LookupError, RecursionError):
            pass  # malformed: see below
    return "its error report is malformed"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
