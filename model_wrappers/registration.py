"""Makes our decoding methods and tasks known to lm_eval, by name.

The one module under `s2t_eval/`, besides the backends themselves, that imports lm_eval. The
start-up hook (`startup.py`) calls `add_models` and `add_task_folder`; where it is switched off:

    from s2t_eval.model_wrappers.registration import register
    register()
    lm_eval.simple_evaluate(model="s2t", ...)
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

from s2t_eval.artifacts.errors import install_for_harness_command
from s2t_eval.method_table import BACKENDS

TASK_FOLDER = (Path(__file__).parents[1] / "tasks").resolve()
"""Beside this package, in a checkout and in a wheel alike."""


def register() -> None:
    """Make every backend and task of ours known to lm_eval. Calling it again changes nothing."""
    # The built-in models come first: lm_eval loads its own only while its registry is empty.
    importlib.import_module("lm_eval.models")
    add_models()
    add_task_folder()


def add_models() -> None:
    """Add the backends to lm_eval's model registry, by name only: none is imported before its use.

    A name that is already there stays as it is, with a warning where it is not ours.
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
    """Our `--model` names that lm_eval's registry does not have, or has from somebody else."""
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
    """Have every new `TaskManager` scan our tasks: after lm_eval's own, before `include_path`."""
    from lm_eval.tasks.manager import TaskManager

    scan = TaskManager.__init__
    if getattr(scan, "scans_s2t_eval", False):
        return
    signature = inspect.signature(scan)

    @functools.wraps(scan)
    def scan_ours_too(*args: object, **kwargs: object) -> None:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        include_path = call.arguments["include_path"]
        if call.arguments["include_defaults"]:
            call.arguments["include_path"] = _with_task_folder(include_path)
        scan(*call.args, **call.kwargs)
        call.arguments["self"].include_path = include_path

    scan_ours_too.scans_s2t_eval = True  # type: ignore[attr-defined]
    TaskManager.__init__ = scan_ours_too


def _with_task_folder(include_path: str | Path | list[str | Path] | None) -> list[str | Path]:
    if not include_path:
        return [TASK_FOLDER]
    given = list(include_path) if isinstance(include_path, (list, tuple)) else [include_path]
    # Naming our folder, or one around it, must not scan it twice: lm_eval warns of each task.
    if any(TASK_FOLDER.is_relative_to(Path(folder).resolve()) for folder in given):
        return given
    return [TASK_FOLDER, *given]
