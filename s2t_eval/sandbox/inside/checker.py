"""Runs in a sandbox of its own: the checks of one program after another.

The program is elsewhere, and its functions stand here as `Remote` objects: a call goes out as a
line, the value that comes back is data of Python's own types. So a program has nothing here to
patch, to overwrite or to end, and `verdict` is said only after the last check returned.

Lines in: a job in JSON; then, after each call, the program's reply. Lines out: `["call", ...]` or
`["verdict", passed, reason]`.
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

Ask = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]


class ProgramError(Exception):
    """The program is gone, or said something that is no reply."""


class UncheckableError(Exception):
    """The checks want something of the program that cannot be carried over."""


class Remote:
    """A function of the program."""

    def __init__(self, name: str, ask: Ask) -> None:
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


def asker(lines: BinaryIO, say: Callable[[list[Any]], None]) -> Ask:
    """How a `Remote` calls: one line out, one line in."""

    def ask(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            text = values.literal((name, args, kwargs))
        except values.NotPlainError as error:
            raise UncheckableError(f"an argument of {name} is {error}") from None
        say(["call", text])
        kind, value = read(lines.readline())
        if kind == "value":
            return value
        raise value if kind == "raised" else ProgramError(value)

    return ask


def read(line: bytes) -> tuple[str, Any]:
    """What a reply says: `("value", ...)`, `("raised", exception)` or `("dead", why)`."""
    try:
        reply = json.loads(line)
        if reply[0] == "dead":
            return "dead", str(reply[1])
        if reply[0] == "raised":
            return "raised", values.exception(values.text_of(reply[1]), values.text_of(reply[2]))
        return "value", values.decode(reply)
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError):
        return "dead", "the program's reply is not in the form that replies have"


def check(job: dict[str, Any], ask: Ask) -> None:
    """Run the checks; raises what they raise."""
    namespace: dict[str, Any] = {"__name__": "checks"}
    exec(compile(job["prelude"], "prelude.py", "exec"), namespace)
    code = compile(job["checks"], "checks.py", "exec")
    missing = names_used(code) - namespace.keys() - set(dir(builtins))
    for name in missing | set(job["functions"]):
        namespace[name] = Remote(name, ask)
    exec(code, namespace)


def verdict(job: dict[str, Any], ask: Ask) -> tuple[bool | None, str]:
    """Whether every check held, and one line that says why not. None: the checks cannot be run."""
    try:
        check(job, ask)
    except ProgramError as error:
        return False, str(error)
    except UncheckableError as error:
        return None, f"the checks cannot be put to a program in a sandbox: {error}"
    except AssertionError as error:
        return False, f"a check failed: AssertionError: {str(error)[:200]}".rstrip(": ")
    except MemoryError:
        return False, "a check failed: MemoryError"
    except Exception as error:
        return False, f"a check failed: {type(error).__name__}: {str(error)[:300]}"
    return True, "passed"


def main() -> None:
    """Job after job."""
    sys.set_int_max_str_digits(0)
    lines = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)

    def say(message: list[Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    limits = json.loads(lines.readline())
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"],) * 2)
    for line in lines:
        passed, reason = verdict(json.loads(line), asker(lines, say))
        say(["verdict", passed, reason])


if __name__ == "__main__":
    main()
