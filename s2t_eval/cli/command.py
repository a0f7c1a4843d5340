"""What a command is: a settings dataclass whose fields are its options, with an example and a `run` method.

A field's name, default and type, and its entry below `Args:` in the docstring, are all that an option has:
parser, help, completion and the reference page are made from them by cyclopts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from cyclopts import Group, Parameter

from s2t_eval.ranges import Range


def flat(title: str) -> Parameter:
    """For a field that holds settings: their fields are options of the command itself, without a prefix.

    Args:
        title: heading of these options in the help.
    """
    return Parameter(name="*", group=Group(title, sort_key=TITLES.index(title)))


TITLES = (
    *("student", "servers", "problems", "selector", "distillation", "stage 1", "adapter", "stage 2"),
    *("steps of reasoning", "labelling", "router", "threshold", "reward and sampling", "training loop"),
)
"""Headings of the help below a command's own options, in their order."""
HIDDEN = Parameter(parse=False)
"""For a field that is no option: another settings dataclass of the same command has the option."""


class Command(Protocol):
    """A frozen dataclass; its docstring is the help, its first sentence the line in the list of commands."""

    EXAMPLE: ClassVar[str]
    """One command line that works with the embedded models; it ends the help, and a test runs it."""

    def run(self) -> None:
        """Do the work and print the result.

        Raises:
            ValueError: a mistake in the options or in a file; its message is one line.
            OSError: a file that cannot be read or written.
        """
        ...


@dataclass(frozen=True)
class CommandEntry:
    """A command in the list of commands.

    Args:
        group: the heading under which `s2t-eval --help` lists it.
        name: what the user types; two words are a command within a command.
        command: the dataclass.
    """

    group: str
    name: str
    command: type[Command]


def changed_fields(settings: Any) -> list[str]:
    """Names of the fields of a settings dataclass whose value is not the default."""
    default = type(settings)()
    return [f.name for f in fields(settings) if getattr(settings, f.name) != getattr(default, f.name)]


def require_flags(command: object, **ranges: Range) -> None:
    """Raise `ValueError` for an option, or one of an option's values, outside its range; None passes."""
    for name, allowed in ranges.items():
        values = getattr(command, name)
        for value in values if isinstance(values, tuple) else [values]:
            if value is not None:
                allowed.require(f"--{name}", value)
