"""Flags that several commands share, with one meaning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1, Range

if TYPE_CHECKING:
    from s2t_eval.training.loop import LoopSettings

Commands = Any
"""What `ArgumentParser.add_subparsers` returns; its class is private."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all our errors are; argparse prints the whole usage first."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        print(f"{self.prog}: {message.removeprefix('argument ')} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def add_loading_flags(parser: argparse.ArgumentParser) -> None:
    """The student, and how it is loaded."""
    add = parser.add_argument
    add("--pretrained", required=True, help="student: hub name, folder or embedded/student")
    add("--dtype", default="auto")
    add("--device", help="default: a GPU where there is one, else the CPU")
    add("--trust_remote_code", "--trust-remote-code", action="store_true")


def student_flags(parsed: argparse.Namespace) -> tuple[str, str, str | None, bool]:
    """What `add_loading_flags` were given: arguments of `training.student.load_student`."""
    return parsed.pretrained, parsed.dtype, parsed.device, parsed.trust_remote_code


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The student, how it is loaded and how problems are put to it."""
    add_loading_flags(parser)
    add = parser.add_argument
    add("--system_instruction", "--system-instruction", help="as given to lm_eval")
    add("--apply_chat_template", "--apply-chat-template", action="store_true")
    add("--max_gen_toks", "--max-gen-toks", type=int, help="default: the task's")
    add("--batch_size", "--batch-size", type=int, default=32)


def add_lora_flags(add: Callable[..., Any], dropout: float = 0.0) -> None:
    """The size of an adapter; see `models.lora.LoraSettings`.

    Args:
        add: `add_argument` of a parser or of a group.
        dropout: the command's default.
    """
    add("--rank", "--r", type=int, help="r of LoRA (default 16)")
    add("--alpha", type=int, help="alpha of LoRA (default 32)")
    add("--dropout", type=float, help=f"of LoRA (default {dropout:g})")


def given(parsed: argparse.Namespace, settings: Any) -> dict[str, Any]:
    """Those of a dataclass's fields that the command line named."""
    found = {item.name: getattr(parsed, item.name, None) for item in fields(settings)}
    return {name: value for name, value in found.items() if value is not None}


LOOP_FLAGS: dict[str, type] = {
    "epochs": int,
    "lr": float,
    "schedule": str,
    "lr_warmup_fraction": float,
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


def require_flags(parsed: argparse.Namespace, **ranges: Range) -> None:
    """Raise `ValueError` for a flag, or one of a flag's values, outside its range; flags not given pass."""
    for name, allowed in ranges.items():
        values = getattr(parsed, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None:
                allowed.require(f"--{name}", value)


def require_model_flags(parsed: argparse.Namespace) -> None:
    """Check what `add_model_flags` and the flags for problems (`--limit`, `--skip`, ...) were given."""
    require_flags(parsed, max_gen_toks=AT_LEAST_1, batch_size=AT_LEAST_1, num_fewshot=AT_LEAST_0)
    require_flags(parsed, limit=AT_LEAST_1)
    if getattr(parsed, "skip", None) is not None:
        require_flags(parsed, skip=AT_LEAST_0)
    if getattr(parsed, "data", None) is not None and parsed.num_fewshot:
        raise ValueError(
            f"--num_fewshot: a task's examples are shown with --task alone, got {parsed.num_fewshot} with "
            "--data; leave it out"
        )


def require_used(metrics: Iterable[str], tasks: Iterable[str]) -> None:
    """Raise `ValueError` for a `--metric` of a task that none of the results has."""
    known = sorted(set(tasks))
    for task in metrics:
        if task not in known:
            raise ValueError(f"--metric: no run of task {task!r} is given; there are {', '.join(known)}")


def metric_choices(given: Sequence[str]) -> dict[str, str]:
    """Task -> "metric,filter" from `--metric TASK=METRIC,FILTER ...`; raises `ValueError` otherwise."""
    for text in given:
        task, _, figure = text.partition("=")
        if not task or "," not in figure:
            raise ValueError(
                f"--metric: expected TASK=METRIC,FILTER such as gsm8k=exact_match,strict-match, got {text!r}"
            )
    return dict(text.split("=", 1) for text in given)
