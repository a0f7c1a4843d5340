"""`s2t-eval run`: lm_eval's own command line with our backends and tasks, without the start-up hook."""

from __future__ import annotations

import itertools
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
    from s2t_eval.model_wrappers.registration import register, skip_other_tasks

    register()
    if _names_own_tasks_alone(arguments):
        skip_other_tasks()
    sys.argv = ["lm_eval", *arguments]
    try:
        runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise
        print(f"s2t-eval: {single_line_message(error)}", file=sys.stderr)
        raise SystemExit(2) from error


def _names_own_tasks_alone(arguments: Sequence[str]) -> bool:
    """Whether an evaluation names tasks, all of them ours, and no further folder of tasks."""
    from s2t_eval.model_wrappers.registration import are_own_tasks

    words = [part for word in arguments for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    if not {"--tasks", "-t"} & set(words) or "--include_path" in words:
        return False
    first = min(words.index(option) for option in ("--tasks", "-t") if option in words) + 1
    named = itertools.takewhile(lambda word: not word.startswith("-"), words[first:])
    names = {name for word in named for name in word.split(",")}
    return bool(names) and are_own_tasks(names)
