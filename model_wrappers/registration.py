"""Registers our decoding methods and tasks with lm_eval, by name.

The start-up hook (`startup.py`) calls `add_models` and `add_task_folder`. Without the hook:

    from s2t_eval.model_wrappers.registration import register
    register()
    lm_eval.simple_evaluate(model="s2t", ...)
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from s2t_eval.artifacts.errors import install_for_harness_command
from s2t_eval.method_table import BACKENDS

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

TASK_FOLDER = (Path(__file__).parents[1] / "tasks").resolve()
"""The folder next to this package, both in a checkout and in a wheel."""
PROGRAMS = ("lm_eval", "lm-eval")
"""Names of lm_eval's command, and of the package that `python -m` runs."""


def register() -> None:
    """Register every backend and task of ours with lm_eval. Calling it again changes nothing."""
    # lm_eval loads its own models only while its registry is empty, so they have to come first.
    importlib.import_module("lm_eval.models")
    add_models()
    add_task_folder()


def add_models() -> None:
    """Add the backends to lm_eval's model registry by name; each is imported when it is used.

    A name that is already registered is not replaced; a warning names it where it is not ours.
    """
    from lm_eval.api.registry import model_registry

    install_for_harness_command()
    registered = dict(model_registry.items())
    for name, target in BACKENDS.items():
        if name not in registered:
            model_registry.register(name, target=target)
        elif _location(registered[name]) != target:
            print(
                f"s2t_eval: the model name {name!r} already means {_location(registered[name])}; "
                f"{target} is not registered",
                file=sys.stderr,
            )


def unknown_models() -> list[str]:
    """Our `--model` names that lm_eval's registry lacks, or has from another package."""
    importlib.import_module("lm_eval.models")
    from lm_eval.api.registry import model_registry

    registered = dict(model_registry.items())
    return [
        name
        for name, target in BACKENDS.items()
        if name not in registered or _location(registered[name]) != target
    ]


def _location(entry: object) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, EntryPoint):
        return entry.value
    return f"{getattr(entry, '__module__', '?')}:{getattr(entry, '__qualname__', entry)}"


def add_task_folder() -> None:
    """Make every new `TaskManager` scan our tasks: after lm_eval's own, before `include_path`.

    Where the command line of lm_eval names tasks of ours alone, its own 14,000 are left out: reading them
    takes several seconds.
    """
    from lm_eval.tasks.manager import TaskManager

    from s2t_eval.model_wrappers.harness_tasks import delimit_instructions

    delimit_instructions()  # here too, so that `--model hf` evaluates our tasks with the same prompts
    scan = TaskManager.__init__
    if getattr(scan, "scans_s2t_eval", False):
        return
    signature = inspect.signature(scan)

    @functools.wraps(scan)
    def scan_with_task_folder(*args: object, **kwargs: object) -> None:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        include_path = call.arguments["include_path"]
        if call.arguments["include_defaults"]:
            call.arguments["include_path"] = _with_task_folder(include_path)
            call.arguments["include_defaults"] = bool(include_path) or not names_own_tasks_alone(sys.argv)
        scan(*call.args, **call.kwargs)
        call.arguments["self"].include_path = include_path

    scan_with_task_folder.scans_s2t_eval = True  # type: ignore[attr-defined]
    TaskManager.__init__ = scan_with_task_folder


def task_manager_of(names: Sequence[str]) -> TaskManager:
    """A manager that knows these tasks: one of ours alone where all of them are ours, which is fast."""
    from lm_eval.tasks import TaskManager

    own = own_task_manager()
    return own if set(names) <= set(own.all_tasks) else TaskManager()


def names_own_tasks_alone(arguments: Sequence[str]) -> bool:
    """Whether a command line is one of lm_eval that names tasks, all of them ours.

    Args:
        arguments: the program and its arguments.
    """
    if not is_harness_command(arguments):
        return False
    words = options_and_values(arguments)
    # The harness adds up the values of all of its options --tasks and -t, abbreviated ones included.
    options = [i for i, word in enumerate(words) if word == "-t" or is_option(word, "--tasks", len("--ta"))]
    values = [
        list(itertools.takewhile(lambda word: not word.startswith("-"), words[i + 1 :])) for i in options
    ]
    names = {name for named in values for word in named for name in word.split(",")}
    return bool(names) and names <= set(own_task_manager().all_tasks)


def is_harness_command(arguments: Sequence[str]) -> bool:
    """Whether a command line, the program and its arguments, is one of lm_eval."""
    program = Path(arguments[0])
    named_by = program.parent.name if program.name == "__main__.py" else program.stem
    return named_by in PROGRAMS


def is_option(word: str, option: str, shortest: int) -> bool:
    """Whether a word of a command line is an option, or an abbreviation of at least so many characters."""
    return len(word) >= shortest and option.startswith(word)


def options_and_values(arguments: Sequence[str]) -> list[str]:
    """The words behind the program of a command line, an option and its value always apart."""
    return [part for word in arguments[1:] for part in _option_and_value(word)]


def _option_and_value(word: str) -> list[str]:
    """A word of a command line, apart where it has both: `--tasks=NAME`, `-tNAME` and `-t=NAME`."""
    if word[:2] in ("-t", "-C") and len(word) > 2:
        return [word[:2], word[2:].removeprefix("=")]
    return word.split("=", 1) if word.startswith("--") else [word]


def own_task_manager() -> TaskManager:
    """A manager that knows our tasks alone."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(TASK_FOLDER), include_defaults=False)


def _with_task_folder(include_path: str | Path | list[str | Path] | None) -> list[str | Path]:
    if not include_path:
        return [TASK_FOLDER]
    folders = list(include_path) if isinstance(include_path, (list, tuple)) else [include_path]
    # If the user includes our folder or a parent of it, a second scan would warn of each task.
    if any(TASK_FOLDER.is_relative_to(Path(folder).resolve()) for folder in folders):
        return folders
    return [TASK_FOLDER, *folders]
