"""The options of a command as plain data, for the reference pages and for tests."""

from __future__ import annotations

from typing import NamedTuple

from s2t_eval.cli.application import CommandLine, as_help, shown_default


class Option(NamedTuple):
    """An option or an argument of a command."""

    name: str
    """`--name`, or NAME for a positional argument"""
    about: str
    """from the docstring of its dataclass"""
    default: str | None
    """as the user would write it; None where there is none"""
    is_required: bool
    takes_several: bool
    choices: tuple[str, ...]


def options_of(line: CommandLine, name: str) -> list[Option]:
    """The options of the command of this name, in the order in which its dataclass declares them."""
    return [
        Option(
            argument.name if argument.index is None else argument.name.lstrip("-").upper(),
            as_help(argument.parameter.help or ""),
            None if argument.required else shown_default(argument.field_info.default),
            argument.required,
            argument.token_count()[1],
            tuple(argument.get_choices() or ()),
        )
        for argument in line.options(line.command(name))
    ]
