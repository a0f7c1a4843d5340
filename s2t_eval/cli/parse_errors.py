"""Errors of the command line in one line: the option, what was expected, what came instead."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    Path: "a path",
    str: "a text",
    bool: "the flag",
}


OPTION = re.compile(r"--?[a-zA-Z][\w-]*(=.*)?", re.DOTALL)
"""What reads as an option; a text that only begins with a hyphen does not."""


def describe(error: CycloptsError) -> str:
    """The error in one line."""
    if isinstance(error, UnknownOptionError):
        return _unknown_option(
            str(error.token.keyword or error.token.value), _names(error.argument_collection)
        )
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error)
    if isinstance(error, CoercionError) and error.token is not None:
        name = error.token.keyword or _name(error)
        return f"{name}: expected {_expected(error.target_type)}, got {error.token.value!r}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return _missing(error)
    if isinstance(error, UnusedCliTokensError):
        return f"expected no further argument, got {' '.join(error.unused_tokens or ())!r}"
    return " ".join(str(error).split())


def with_dashes(message: str, options: set[str]) -> str:
    """A message of a settings dataclass, `lr: expected ...`, that names the option instead: `--lr: ...`."""
    name = re.match(r"\w+(?=: )", message)
    return f"--{message}" if name and f"--{name[0]}" in options else message


def _name(error: CycloptsError) -> str:
    """How the user writes the option or the argument."""
    assert error.argument is not None
    option = error.argument
    is_position = option.index is not None
    return option.name.lstrip("-").upper() if is_position else option.name


def _expected(hint: Any) -> str:
    """What values a type has, in words."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if hint in KINDS:
        return KINDS[hint]
    inner = [kind for kind in get_args(hint) if kind not in (type(None), ...)]
    return _expected(inner[0]) if inner else "a value"


def _names(options: Iterable[Any]) -> list[str]:
    """Names of the options that can be set."""
    return [name for option in options if option.parse for name in option.names]


def _missing(error: MissingArgumentError) -> str:
    """An option without a value; a misspelt option explains a missing one, so that it goes first."""
    assert error.argument is not None
    if error.app is not None and error.app.default_command is not None:
        names = _names(error.app.assemble_argument_collection())
        words = [w.split("=")[0] for w in error.unused_tokens or () if re.match(r"--?[a-zA-Z]", w)]
        unknown = [
            word for word in words if word.replace("-", "_") not in {n.replace("-", "_") for n in names}
        ]
        if unknown:
            return _unknown_option(unknown[0], names)
    name = error.keyword or _name(error)
    was_named = bool(error.keyword or error.argument.tokens)
    reason = "" if was_named else "; it is required"
    words = list(error.root_input_tokens or ())
    following = words[words.index(name) + 1 :] if name in words else []
    if following and following[0].startswith("-") and OPTION.fullmatch(following[0]) is None:
        reason = f"; a value that begins with - is written {name}={shlex.quote(following[0])}"
    return f"{name}: expected {_expected(error.argument.hint)}, got none{reason}"


def _unknown_option(option: str, names: Sequence[str]) -> str:
    if OPTION.fullmatch(option) is None:
        return (
            f"{option!r}: expected an option of this command; a text that begins with - stands behind --, as "
            f"in -- {shlex.quote(option)}"
        )
    option = option.split("=")[0]
    nearest = difflib.get_close_matches(
        option.replace("-", "_"), [n.replace("-", "_") for n in names], 1, 0.7
    )
    hint = f"; the nearest is --{nearest[0].lstrip('_')}" if nearest else ""
    return f"{option}: expected an option of this command, got an unknown one{hint}"


def _unknown_command(error: UnknownCommandError) -> str:
    assert error.app is not None
    known = [name for name in error.app if not name.startswith("-")]
    word = (error.unused_tokens or [""])[0]
    nearest = difflib.get_close_matches(word, known, 1)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    return f"command: expected one of {', '.join(known)}, got {word!r}{hint}"
