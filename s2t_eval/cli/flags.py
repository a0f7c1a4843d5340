"""Flags that several commands share, with one meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2t_eval.training.loop import LoopSettings

Commands = Any
"""What `ArgumentParser.add_subparsers` returns; its class is private."""


def add_loading_flags(parser: argparse.ArgumentParser) -> None:
    """The student, and how it is loaded."""
    add = parser.add_argument
    add("--pretrained", required=True, help="student: hub name, folder or embedded/student")
    add("--dtype", default="auto")
    add("--device", default="cuda", help="default: a GPU where there is one")
    add("--trust_remote_code", "--trust-remote-code", action="store_true")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The student, how it is loaded and how problems are put to it."""
    add_loading_flags(parser)
    add = parser.add_argument
    add("--system_instruction", "--system-instruction", help="as given to lm_eval")
    add("--apply_chat_template", "--apply-chat-template", action="store_true")
    add("--max_gen_toks", "--max-gen-toks", type=int, help="default: the task's")
    add("--batch_size", "--batch-size", type=int, default=32)


LOOP_FLAGS: dict[str, type] = {
    "epochs": int,
    "lr": float,
    "schedule": str,
    "warmup": float,
    "batch_size": int,
    "accumulate": int,
    "weight_decay": float,
    "clip": float,
    "evaluations": int,
    "patience": int,
    "precision": str,
    "seed": int,
}


def add_loop_flags(parser: argparse.ArgumentParser) -> None:
    """How long and how fast to train; defaults and meanings stand in `training.loop.LoopSettings`."""
    for name, kind in LOOP_FLAGS.items():
        flags = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        parser.add_argument(*flags, type=kind, help="of the training loop")
    parser.add_argument("--log_with", "--log-with", nargs="+", help="trackers of accelerate")


def loop_settings(parsed: argparse.Namespace, **defaults: Any) -> LoopSettings:
    """The loop's settings: flags that were given, then this command's defaults, then the class's."""
    from s2t_eval.training.loop import LoopSettings

    given = {name: getattr(parsed, name) for name in LOOP_FLAGS if getattr(parsed, name) is not None}
    return LoopSettings(**{**defaults, **given, "log_with": tuple(parsed.log_with or ())})


def require_at_least(flag: str, value: int, least: int) -> None:
    """Raise `ValueError` for a number that is too small."""
    if value < least:
        raise ValueError(f"{flag}: expected at least {least}, got {value}")


def metric_choices(given: Sequence[str]) -> dict[str, str]:
    """Task -> "metric,filter" from `--metric TASK=METRIC,FILTER ...`; raises `ValueError` otherwise."""
    for text in given:
        task, _, figure = text.partition("=")
        if not task or "," not in figure:
            raise ValueError(
                f"--metric: expected TASK=METRIC,FILTER such as gsm8k=exact_match,strict-match, got {text!r}"
            )
    return dict(text.split("=", 1) for text in given)


def writable_file(text: str) -> Path:
    """The file that `--out` names; raises `ValueError` where its folder is missing."""
    path = Path(text)
    if not path.parent.is_dir():
        raise ValueError(f"--out: there is no folder {path.parent}")
    return path
