"""The command line as a whole: made from the commands' dataclasses by cyclopts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import App, Argument, ArgumentCollection, CoercionError, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, HelpPanel, InlineText
from rich.text import Text

from s2t_eval.cli.command import Command, CommandEntry

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

PROGRAM = "s2t-eval"
GROUPS = ("evaluate", "train", "report")
PARENTS = {
    "r2r": "Label a teacher's texts, and train a router on them (R2R).",
    "servers": "Check the vLLM servers of a run.",
    "tah": "Train a looped student (Think-at-Hard).",
}
"""Commands that only hold others."""
SHELLS: dict[str, Literal["bash", "zsh"]] = {"bash": "bash", "zsh": "zsh"}
ZSH_END = f"""
if [ "$funcstack[1]" = "_cyclopts_{PROGRAM}" ]; then
  _cyclopts_{PROGRAM} "$@"
else
  compdef _cyclopts_{PROGRAM} {PROGRAM}
fi
"""
"""Makes cyclopts' script, which is for a folder of zsh's `fpath`, work where it is sourced too."""
ABOUT = """Evaluate, train and compare decoding methods for small language models.

s2t-eval COMMAND --help        options of a command, with an example
s2t-eval --completion SHELL    completion of commands and options in bash or zsh
s2t-eval --version             the version (those of other packages: s2t-eval doctor)"""


class CommandLine:
    """The parser of a list of commands.

    Args:
        entries: the commands, in the order in which the help lists them.
    """

    def __init__(self, entries: Sequence[CommandEntry]) -> None:
        self.entries = tuple(entries)
        self.app = App(
            name=PROGRAM,
            help=ABOUT,
            help_format="plaintext",
            help_formatter=Formatter(),
            version_flags=[],
            group_parameters=Group("options", sort_key=-1),
            group_commands=Group("commands", sort_key=-1),
            default_parameter=Parameter(
                name_transform=lambda name: name,  # as the field is called; a hyphen for _ is accepted too
                consume_multiple=1,
                allow_repeating=True,  # the last one counts, as a shell's aliases need; lists grow
                negative=(),
                show_default=shown_default,
            ),
            config=require_whole_numbers,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        self.app["--help"].group = Group("options", sort_key=len(GROUPS))
        groups = {name: Group(name, sort_key=number) for number, name in enumerate(GROUPS)}
        for number, entry in enumerate(self.entries):
            *parent, name = entry.name.split()
            app = self._parent(parent[0], groups[entry.group], number) if parent else self.app
            app.command(
                entry.command,
                name=name,
                group=None if parent else groups[entry.group],
                help=help_text(entry.command),
                sort_key=number,
            )

    def parse(self, arguments: Sequence[str]) -> Command | None:
        """The command with its options; None where the help was wanted, which is then printed.

        The example at its end is printed as it is: a line that the console had wrapped could not be pasted.

        Raises:
            CycloptsError: options that do not exist, lack a value or have one that cannot be read.
            ValueError: settings outside their range.
        """
        _, apps, _ = self.app.parse_commands(list(arguments))
        if is_dataclass(apps[-1].default_command):
            resolve_annotations(apps[-1].default_command)
        function, bound, _ = self.app.parse_args(list(arguments))
        command: Command | None = function(*bound.args, **bound.kwargs)
        if command is None:
            name = self.name_of(arguments).removeprefix(PROGRAM).strip()
            for entry in self.entries:
                if entry.name == name:
                    print(f"\nexample:\n{indent(entry.command.EXAMPLE, '    ')}")
        return command

    def name_of(self, arguments: Sequence[str]) -> str:
        """The program's name and the command that some arguments choose, such as `s2t-eval tah label`."""
        names, _, _ = self.app.parse_commands(list(arguments))
        return " ".join([PROGRAM, *(name for name in names if not name.startswith("-"))])

    def command(self, name: str) -> App:
        """The parser of the command of this name, such as `tah label`."""
        app = self.app
        for word in name.split():
            app = app[word]
        return app

    def names_of_options(self, arguments: Sequence[str]) -> set[str]:
        """Names of the options of the command that some arguments choose."""
        _, apps, _ = self.app.parse_commands(list(arguments))
        if apps[-1].default_command is None:
            return set()
        return {name for option in self.options(apps[-1]) for name in option.names}

    def options(self, app: App) -> list[Argument]:
        """The options of a command's parser, with their descriptions."""
        default = self.app.default_parameter
        options = app.assemble_argument_collection(default_parameter=default, parse_docstring=True)
        return [option for option in options if option.parse and option.name != "*"]

    def completion(self, shell: str) -> str:
        """The completion script of a shell.

        Raises:
            ValueError: another shell than those of `SHELLS`.
        """
        if shell not in SHELLS:
            raise ValueError(f"--completion: expected {' or '.join(SHELLS)}, got {shell!r}")
        script = self.app.generate_completion(prog_name=PROGRAM, shell=SHELLS[shell])
        return script + ZSH_END if shell == "zsh" else script

    def _parent(self, name: str, group: Group, number: int) -> App:
        if name not in {known for known in self.app if not known.startswith("-")}:
            self.app.command(App(name=name, help=PARENTS[name], group=group, sort_key=number))
        return self.app[name]


class Formatter(DefaultFormatter):
    """The help with the lines of each description joined, and the defaults in the user's words."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one panel of the help."""
        entries = []
        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text):
                entry = entry.copy(description=InlineText(Text(as_help(text.plain))))
            entries.append(entry)
        super().__call__(console, options, panel.copy(entries=entries))


def as_help(description: str) -> str:
    """A field's description for somebody who types options: one line, without Python's None."""
    return re.sub(r"\b(None|Empty): ", "By default ", " ".join(description.split()))


def resolve_annotations(settings: Any) -> None:
    """Replace the annotations of a dataclass's `__init__`, and of those in its fields, by what they name.

    cyclopts 5.5 evaluates the annotations of a nested dataclass in its own module; those of inherited fields
    name types of the parent's module. This function can go once cyclopts evaluates them class by class.
    """
    hints = get_type_hints(settings, include_extras=True)
    vars(settings)["__init__"].__annotations__.update(hints)
    for hint in hints.values():
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if is_dataclass(kind):
            resolve_annotations(kind)


def require_whole_numbers(app: App, commands: tuple[str, ...], options: ArgumentCollection) -> None:
    """Raise `CoercionError` for a fraction where a whole number is expected.

    cyclopts rounds it: `--limit 0.6`, which lm_eval takes for a share of the documents, was 1 problem.

    Args:
        app: the parser.
        commands: of the command line; both are what cyclopts passes before it converts the values.
        options: of the command, with their values as texts.
    """
    for option in options:
        for token in option.tokens if _is_whole(option.hint) else ():
            if re.fullmatch(r"[+-]?\d+(\.0*)?", token.value) is None:
                raise CoercionError(token=token, argument=option, target_type=int)


def _is_whole(hint: Any) -> bool:
    """Whether the values of an option are whole numbers: one, several, or one that may be left out."""
    return hint is int or (get_origin(hint) is not Literal and int in get_args(hint))


def help_text(command: type[Command]) -> str:
    """What a command's docstring says before `Args:`."""
    return inspect.cleandoc(command.__doc__ or "").split("\nArgs:")[0].strip()


def shown_default(value: object) -> str | None:
    """A default as the user would write it; None where there is nothing to write."""
    if value is None or value is False or value in ((), ""):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


__all__ = ["CommandLine", "CycloptsError", "as_help", "help_text", "shown_default"]
