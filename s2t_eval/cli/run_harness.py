"""`s2t-eval run`: lm_eval's own command line with our backends and tasks, without the start-up hook."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.artifacts.errors import is_user_error, single_line_message


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
    """Run lm_eval with these arguments; an error of ours ends in one line and exit code 2."""
    from s2t_eval.model_wrappers.registration import register

    register()
    sys.argv = ["lm_eval", *arguments]
    try:
        runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise
        print(f"s2t-eval: {single_line_message(error)}", file=sys.stderr)
        raise SystemExit(2) from error
