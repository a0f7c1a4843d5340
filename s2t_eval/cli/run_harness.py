"""`s2t-eval run`: lm_eval's own command line with our backends and tasks, without the start-up hook."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.artifacts.errors import is_user_error, single_line_message
from s2t_eval.cli.application import PROGRAM
from s2t_eval.cli.execute import end_interrupted


@dataclass(frozen=True)
class Run:
    """Run lm_eval with the backends and tasks of s2t-eval; takes the arguments of lm_eval.

    `s2t-eval run run --help` shows those of an evaluation.

    Args:
        lm_eval: the arguments of `lm_eval`, passed on as they are.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval run --model greedy --model_args pretrained=embedded/student --tasks s2t_arith --limit 8"
    )

    lm_eval: tuple[str, ...] = ()

    def run(self) -> None:
        """Run lm_eval."""
        run(self.lm_eval)


def run(arguments: Sequence[str]) -> None:
    """Run lm_eval with these arguments; errors of ours and Ctrl-C end in one line."""
    with errors_in_one_line():
        from s2t_eval.model_wrappers.registration import register

        register()
        sys.argv = ["lm_eval", *arguments]
        runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End lm_eval in one line: with exit code 2 for an error of this package, with 130 for Ctrl-C."""
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        end_interrupted(f"{PROGRAM} run", error)
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise
        print(f"s2t-eval: {single_line_message(error)}", file=sys.stderr)
        raise SystemExit(2) from error
