"""Messages of errors: user errors are printed as one line, with the traceback only on request.

The harness's command prints an uncaught exception as a traceback of about fifty lines, whose last line is
the message. `lm_eval` run as a command therefore gets an exception hook that prints only the message of
an error raised by this package. Errors of other packages, and programs that import this package, keep
Python's default behaviour.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

HARNESS_COMMANDS = ("lm_eval", "lm-eval")
TRACEBACK_VARIABLE = "S2T_EVAL_TRACEBACK"
"""Environment variable that restores the tracebacks."""


def single_line_message(error: BaseException) -> str:
    """The message of an error on one line; for an operating system error, the file and the reason.

    Example:
        >>> single_line_message(ValueError("a\\n  b"))
        'a b'
    """
    if isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins":
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def full_message(error: BaseException) -> str:
    """The message of an error: unchanged for a user error of this package, otherwise on one line.

    Some user errors quote the output of another program, whose line breaks are kept.
    """
    is_unchanged = is_user_error(error) and not (isinstance(error, OSError) and error.strerror)
    return str(error) if is_unchanged and str(error) else single_line_message(error)


def is_user_error(error: BaseException) -> bool:
    """Whether an error reports invalid input that this package detected.

    That is a `ValueError` or `OSError` whose class is defined in this package or which a `raise` statement
    of this package raised.
    """
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
    """Install the exception hook in the harness's command; do nothing in any other process."""
    if not is_harness_command() or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
        return
    previous_hook = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if is_user_error(error):
            print(f"s2t-eval: {single_line_message(error)}", file=sys.stderr)
        else:
            previous_hook(kind, error, trace)

    sys.excepthook = show
