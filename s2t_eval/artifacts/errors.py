"""How an error of ours reaches a person: one line, and the traceback only on request.

The harness's command prints whatever ends it as a traceback of fifty lines, in which our sentence stands
last. `lm_eval` run as a command therefore gets an exception hook that prints our errors alone; errors of
others, and any program that imports us, are left as they are.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

HARNESS_COMMANDS = ("lm_eval", "lm-eval")
SHOW = "S2T_EVAL_TRACEBACK"
"""Environment variable that brings the tracebacks back."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; the system's errors name the file and what was refused."""
    if isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins":
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def said(error: BaseException) -> str:
    """What an error of ours says, as it was written: some hold another program's output. Others: one line."""
    is_written = is_ours(error) and not (isinstance(error, OSError) and error.strerror)
    return str(error) if is_written and str(error) else one_line(error)


def is_ours(error: BaseException) -> bool:
    """Whether it is a mistake in what was given, found by us: an error class of ours, or our own `raise`."""
    if not isinstance(error, ValueError | OSError):
        return False
    if type(error).__module__.split(".")[0] == "s2t_eval":
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    last = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    return str(last).split(".")[0] == "s2t_eval"


def is_harness_command() -> bool:
    """Whether this process was started as `lm_eval`, `python -m lm_eval` or `s2t-eval run`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return bool(spec.name == "lm_eval.__main__")
    return Path(str(getattr(main, "__file__", ""))).name in HARNESS_COMMANDS


def install_for_harness_command() -> None:
    """Have the harness's command print an error of ours as one line; anywhere else nothing is changed."""
    if not is_harness_command() or os.environ.get(SHOW, "0") not in ("", "0"):
        return
    shown_before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if is_ours(error):
            print(f"s2t-eval: {one_line(error)}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show
