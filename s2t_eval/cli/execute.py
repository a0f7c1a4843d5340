"""From a command line to the work: parse it, run it, and end every mistake in one line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from s2t_eval.artifacts.errors import full_message
from s2t_eval.cli.application import PROGRAM, CommandLine, CycloptsError
from s2t_eval.cli.parse_errors import describe, with_dashes

NOTICES_AT_IMPORT = "bitsandbytes.backends.cpu.ops"
"""The logger of a line that bitsandbytes prints as peft imports it, where the processor has bfloat16
instructions and the package `kernels` is missing. It is about a faster product of 4-bit weights, and every
command would begin with it."""
INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended: 128 and the number of SIGINT."""


def execute(line: CommandLine, arguments: Sequence[str]) -> None:
    """Run a command; a mistake in its options ends in one line on stderr and exit code 2.

    So does what the system refuses: a file that cannot be read, a folder that cannot be written to. Ctrl-C
    ends in one line too, with exit code 130 as in a shell.
    """
    logging.getLogger(NOTICES_AT_IMPORT).setLevel(logging.ERROR)
    try:
        command = line.parse(arguments)
        if command is not None:
            command.run()
    except CycloptsError as error:
        name = line.name_of(arguments)
        _refuse(f"{name}: {describe(error)} (see {name} --help)", error)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        message = with_dashes(full_message(error), line.names_of_options(arguments))
        _refuse(f"{line.name_of(arguments)}: {message}", error)
    except KeyboardInterrupt as error:
        end_interrupted(line.name_of(arguments), error)


def end_interrupted(name: str, error: KeyboardInterrupt) -> NoReturn:
    """End a command that Ctrl-C has interrupted, in one line with its name."""
    print(f"{name}: interrupted", file=sys.stderr)
    raise SystemExit(INTERRUPTED) from error


@contextmanager
def silent_when_closed() -> Iterator[None]:
    """End a command without a word where the reader of its output has closed it, as `head` does."""
    try:
        try:
            yield
        except SystemExit:  # as lm_eval's help ends
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is still buffered has no reader; Python would complain about it as the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error


def print_completion(line: CommandLine, shells: Sequence[str]) -> None:
    """Print the completion script of a shell; another number of shells than one is refused."""
    try:
        print(line.completion(" ".join(shells)))
    except ValueError as error:
        _refuse(f"{PROGRAM}: {error}", error)


def _refuse(message: str, error: BaseException) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2) from error
