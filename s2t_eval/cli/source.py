"""Flags that choose training problems and how they are put to the model, read alike by every command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from s2t_eval.cli.flags import add_model_flags, require_model_flags

if TYPE_CHECKING:
    from s2t_eval.pipelines.prompts import Prompting, Source


def add_source_flags(parser: argparse.ArgumentParser, limit: int, use: str = "") -> None:
    """The student, the problems and how they are put to it.

    Args:
        parser: of the command.
        limit: problems that are taken where the user names no number.
        use: what the problems are used for, for the help of `--task`.
    """
    add_model_flags(parser)
    add = parser.add_argument
    add("--task", help=f"lm_eval task with a training split{use}")
    add("--data", help="FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT with a question field")
    add("--limit", type=int, help=f"problems (default {limit})")
    add("--skip", type=int, help="problems to leave out at the beginning (default 0)")
    add("--num_fewshot", "--num-fewshot", type=int, default=0, help="examples before a task's problem")
    add("--drop_overlap", "--drop-overlap", action="store_true", help="leave evaluation problems out")
    parser.set_defaults(default_limit=limit)


def require_source(parsed: argparse.Namespace, *others: str) -> None:
    """Raise `ValueError` unless one source of problems is named, and the flags beside it are in range.

    Args:
        parsed: with the flags of `add_source_flags`.
        others: flags of this command that name a source too, such as `--texts FOLDER`.
    """
    names = ["--task NAME", "--data FILE|NAME:SPLIT", *others]
    given = [name for name in names if getattr(parsed, name.split()[0].removeprefix("--")) is not None]
    if len(given) != 1:
        raise ValueError(f"expected one of {', '.join(names[:-1])} and {names[-1]}")
    require_model_flags(parsed)


def read_source(parsed: argparse.Namespace) -> tuple[Source, Prompting]:
    """Which problems, and how they are put to the model."""
    from s2t_eval.pipelines.prompts import Prompting, Source

    limit = parsed.default_limit if parsed.limit is None else parsed.limit
    source = Source(parsed.task, parsed.data, limit, parsed.skip or 0)
    return source, Prompting(
        parsed.system_instruction, parsed.apply_chat_template, parsed.num_fewshot, parsed.max_gen_toks
    )


def load_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """How the models are loaded and run: arguments of every backend."""
    names = ("dtype", "device", "batch_size", "trust_remote_code")
    return {name: getattr(parsed, name) for name in names}
