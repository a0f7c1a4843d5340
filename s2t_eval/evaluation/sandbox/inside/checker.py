"""Script that runs the checks of programs, one after another, in its own sandbox.

The program runs in another process, and its functions are `RemoteFunction` objects here: a call is sent as a
line, and the returned value is data of built-in types. A program therefore has no means to patch or end the
checks, and the verdict is sent only after the last check returned.

Input lines: the limits in JSON, then jobs; after each call `=` with the program's reply, or `!` with the
reason why there is none. The prefix prevents a program from forging messages of the session. Output
lines: `["started"]` once, then `["call", ...]` or `["verdict", passed, reason]`.
"""

from __future__ import annotations

import builtins
import json
import os
import resource
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, BinaryIO

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append("/packages")  # the mount point of numpy, which checks may import

import values

MAX_DIGITS = 50_000
"""Maximum number of decimal digits of integers in the checks; the conversion takes quadratic time."""
MAX_TEXT_LENGTH = 300


class EndOfChecks(BaseException):
    """The remaining checks cannot run.

    It derives from `BaseException`, so that an `except Exception` in the checks, which expects an error of
    the program, does not catch it.
    """


class ProgramError(EndOfChecks):
    """The program ended, or sent a malformed reply."""


class UncheckableError(EndOfChecks):
    """The checks use a value that cannot be sent to the program."""


class RemoteFunction(values.Reference):
    """A proxy for a function of the program."""

    def __init__(self, name: str, caller: Caller) -> None:
        super().__init__(f"program[{name!r}]")
        self.__name__ = name
        self._caller = caller

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._caller(self.__name__, args, kwargs)

    def __repr__(self) -> str:
        return f"<the program's {self.__name__}>"


def global_names(code: CodeType) -> set[str]:
    """Return the global names used by a code object and the code objects nested in it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_names(constant)
    return names


class Caller:
    """Calls functions of the program: one line is sent, one line is received.

    Args:
        lines: input from the session.
        send: function that sends a message to the session.
        max_bytes: maximum length of a call in bytes.
    """

    def __init__(self, lines: BinaryIO, send: Callable[[list[Any]], None], max_bytes: int) -> None:
        self.end: EndOfChecks | None = None
        self._lines = lines
        self._send = send
        self._max_bytes = max_bytes
        self._has_reply = False

    def __call__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the program and return its result.

        Raises:
            Exception: the exception that the function raised.
            EndOfChecks: there is no reply; every later call raises it again.
        """
        try:
            if self.end is not None:
                raise self.end
            self._send(["call", self._encode_call(name, args, kwargs)])
            kind, value = read_reply(self._lines.readline())
            self._has_reply = True
            if kind == "dead":
                raise ProgramError(value)
        except EndOfChecks as error:
            self.end = error
            raise
        if kind == "raised":
            raise value
        if kind == "changed":
            value, changed = value
            values.update_arguments(args, kwargs, changed)
        return value

    def _encode_call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        try:
            text = values.to_literal((name, args, kwargs))
        except values.UnsupportedValueError as error:
            raise UncheckableError(f"an argument of {name} is {error}") from None
        except values.ProgramValueError as error:
            raise ProgramError(f"an argument of {name} is the program's own: {error}") from None
        if len(text) > self._max_bytes:
            # Before its first reply a program cannot have influenced the arguments.
            reason = f"an argument of {name} is longer than {self._max_bytes} bytes"
            raise ProgramError(reason) if self._has_reply else UncheckableError(reason)
        return text


def read_reply(line: bytes) -> tuple[str, Any]:
    """Decode a reply.

    Returns:
        `("value", value)`, `("changed", (value, arguments))`, `("raised", exception)` or `("dead", reason)`.
    """
    if line[:1] == b"!":
        return "dead", str(json.loads(line[1:]))
    try:
        reply = json.loads(line[1:])
        if reply[0] == "raised":
            return "raised", values.rebuild_exception(
                values.decode_text(reply[1]), values.decode_text(reply[2])
            )
        if reply[0] == "changed":
            return "changed", (values.decode(reply[1]), values.decode(reply[2]))
        return "value", values.decode(reply)
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError):
        return "dead", "the program's reply is malformed"


def run_checks(job: dict[str, Any], caller: Caller) -> None:
    """Run the checks; their exceptions are propagated."""
    namespace: dict[str, Any] = {"__name__": "checks"}
    exec(compile(job["prelude"], "prelude.py", "exec"), namespace)
    try:
        code = compile(job["checks"], "checks.py", "exec")
    except (MemoryError, RecursionError) as error:
        raise UncheckableError(f"they are too long or too deep ({type(error).__name__})") from None
    missing = global_names(code) - namespace.keys() - set(dir(builtins))
    for name in missing | set(job["functions"]):
        namespace[name] = RemoteFunction(name, caller)
    exec(code, namespace)


def compute_verdict(job: dict[str, Any], caller: Caller) -> tuple[bool | None, str]:
    """Return whether every check succeeded (None if the checks cannot run), and the reason in one line."""
    try:
        run_checks(job, caller)
        if caller.end is not None:
            raise caller.end  # a bare `except` of the checks caught it
    except ProgramError as error:
        return False, str(error)
    except UncheckableError as error:
        return None, str(error)
    except ModuleNotFoundError as error:
        if not values.is_raised_by_program(error):
            return None, f"they import {error.name}, which it does not have"
        return False, f"a check failed: ModuleNotFoundError: {error_text(error)}"
    except AssertionError as error:
        return False, f"a check failed: AssertionError: {error_text(error)}".rstrip(": ")
    except MemoryError:
        return False, "a check failed: MemoryError"
    except Exception as error:
        return False, f"a check failed: {type(error).__name__}: {error_text(error)}"
    return True, "passed"


def error_text(error: Exception) -> str:
    """The text of an exception, whose argument may be a value of the program without a text form."""
    try:
        return str(error)[:MAX_TEXT_LENGTH]
    except Exception as nested_error:
        return f"(its text cannot be formatted: {type(nested_error).__name__})"


def lower_limit(kind: int, value: int) -> None:
    """Set a resource limit, unless the inherited limit is lower."""
    _, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (limit, limit))


def main() -> None:
    """Process jobs until standard input ends."""
    sys.set_int_max_str_digits(MAX_DIGITS)
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS aborts if it cannot start threads
    lines = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null_fd = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null_fd, standard)

    def send(message: list[Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    limits = json.loads(lines.readline())
    lower_limit(resource.RLIMIT_AS, limits["memory_bytes"])
    lower_limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    send(["started"])
    for line in lines:
        passed, reason = compute_verdict(json.loads(line), Caller(lines, send, limits["message_bytes"]))
        send(["verdict", passed, reason])


if __name__ == "__main__":
    main()
