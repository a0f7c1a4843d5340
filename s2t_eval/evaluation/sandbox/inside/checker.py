"""Runs in a sandbox of its own: the checks of one program after another.

The program is elsewhere, and its functions stand here as `Remote` objects: a call goes out as a
line, the value that comes back is data of Python's own types. So a program has nothing here to
patch, to overwrite or to end, and `verdict` is said only after the last check returned.

Lines in: the limits in JSON, then job after job; after each call `=` and the program's reply, or `!` and
why there is none, so that a program cannot speak for the session. Lines out: `["started"]` once, then
`["call", ...]` or `["verdict", passed, reason]`.
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

import values

MOST_DIGITS = 50_000
"""Longest whole number that the checks may read or write in decimal, which takes time in its square."""
MOST_TEXT = 300


class EndOfChecks(BaseException):
    """Nothing that follows can be checked. No `except Exception` of the checks takes it for an error of
    the program's that they wanted to see."""


class ProgramError(EndOfChecks):
    """The program is gone, or said something that is no reply."""


class UncheckableError(EndOfChecks):
    """The checks want something of the program that cannot be carried over."""


class Remote(values.Reference):
    """A function of the program."""

    def __init__(self, name: str, ask: Caller) -> None:
        super().__init__(f"program[{name!r}]")
        self.__name__ = name
        self._ask = ask

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask(self.__name__, args, kwargs)

    def __repr__(self) -> str:
        return f"<the program's {self.__name__}>"


def names_used(code: CodeType) -> set[str]:
    """Global names of a code object and of all that are nested in it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names_used(constant)
    return found


class Caller:
    """How a `Remote` calls: one line out, one line in.

    Args:
        lines: from the session.
        say: to the session.
        most: longest line out, in bytes.
    """

    def __init__(self, lines: BinaryIO, say: Callable[[list[Any]], None], most: int) -> None:
        self.end: EndOfChecks | None = None
        self._lines = lines
        self._say = say
        self._most = most
        self._has_reply = False

    def __call__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The program's result; raises what it raised, or `EndOfChecks`, now and at every later call."""
        try:
            if self.end is not None:
                raise self.end
            self._say(["call", self._written(name, args, kwargs)])
            kind, value = read(self._lines.readline())
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
            values.change_arguments(args, kwargs, changed)
        return value

    def _written(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        try:
            text = values.literal((name, args, kwargs))
        except values.NotPlainError as error:
            raise UncheckableError(f"an argument of {name} is {error}") from None
        except values.ForeignError as error:
            raise ProgramError(f"an argument of {name} is the program's own: {error}") from None
        if len(text) > self._most:
            # Before its first reply a program has no part in what the checks hand over.
            why = f"an argument of {name} is longer than {self._most} bytes"
            raise ProgramError(why) if self._has_reply else UncheckableError(why)
        return text


def read(line: bytes) -> tuple[str, Any]:
    """What a reply says: `("value", ...)`, `("changed", (value, arguments))`, `("raised", exception)` or
    `("dead", why)`."""
    if line[:1] == b"!":
        return "dead", str(json.loads(line[1:]))
    try:
        reply = json.loads(line[1:])
        if reply[0] == "raised":
            return "raised", values.exception(values.text_of(reply[1]), values.text_of(reply[2]))
        if reply[0] == "changed":
            return "changed", (values.decode(reply[1]), values.decode(reply[2]))
        return "value", values.decode(reply)
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError):
        return "dead", "the program's reply is not in the form that replies have"


def check(job: dict[str, Any], ask: Caller) -> None:
    """Run the checks; raises what they raise."""
    namespace: dict[str, Any] = {"__name__": "checks"}
    exec(compile(job["prelude"], "prelude.py", "exec"), namespace)
    code = compile(job["checks"], "checks.py", "exec")
    missing = names_used(code) - namespace.keys() - set(dir(builtins))
    for name in missing | set(job["functions"]):
        namespace[name] = Remote(name, ask)
    exec(code, namespace)


def verdict(job: dict[str, Any], ask: Caller) -> tuple[bool | None, str]:
    """Whether every check held, and one line that says why not. None: the checks cannot be run."""
    try:
        check(job, ask)
        if ask.end is not None:
            raise ask.end  # a bare `except` of the checks caught it
    except ProgramError as error:
        return False, str(error)
    except UncheckableError as error:
        return None, f"the checks cannot be put to a program in a sandbox: {error}"
    except AssertionError as error:
        return False, f"a check failed: AssertionError: {text_of(error)}".rstrip(": ")
    except MemoryError:
        return False, "a check failed: MemoryError"
    except Exception as error:
        return False, f"a check failed: {type(error).__name__}: {text_of(error)}"
    return True, "passed"


def text_of(error: Exception) -> str:
    """What an error says, which may be a value of the program that cannot be written."""
    try:
        return str(error)[:MOST_TEXT]
    except Exception as fault:
        return f"(a text that cannot be written: {type(fault).__name__})"


def lower(kind: int, value: int) -> None:
    """Set a limit, or keep the one that this process was started with where that is lower."""
    _, hard = resource.getrlimit(kind)
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (least, least))


def main() -> None:
    """Job after job."""
    sys.set_int_max_str_digits(MOST_DIGITS)
    lines = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)

    def say(message: list[Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    limits = json.loads(lines.readline())
    lower(resource.RLIMIT_AS, limits["memory_bytes"])
    lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
    say(["started"])
    for line in lines:
        passed, reason = verdict(json.loads(line), Caller(lines, say, limits["message_bytes"]))
        say(["verdict", passed, reason])


if __name__ == "__main__":
    main()
