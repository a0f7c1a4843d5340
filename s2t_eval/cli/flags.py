"""Flags that several commands share, with one meaning."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

Commands = Any
"""What `ArgumentParser.add_subparsers` returns; its class is private."""


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The student, how it is loaded and how problems are put to it."""
    add = parser.add_argument
    add("--pretrained", required=True, help="student: hub name, folder or embedded/student")
    add("--system_instruction", "--system-instruction", help="as given to lm_eval")
    add("--apply_chat_template", "--apply-chat-template", action="store_true")
    add("--max_gen_toks", "--max-gen-toks", type=int, help="default: the task's")
    add("--batch_size", "--batch-size", type=int, default=32)
    add("--dtype", default="auto")
    add("--device", default="cuda", help="default: a GPU where there is one")
    add("--trust_remote_code", "--trust-remote-code", action="store_true")


def require_at_least(flag: str, value: int, least: int) -> None:
    """Raise `ValueError` for a number that is too small."""
    if value < least:
        raise ValueError(f"{flag}: expected at least {least}, got {value}")


def writable_file(text: str) -> Path:
    """The file that `--out` names; raises `ValueError` where its folder is missing."""
    path = Path(text)
    if not path.parent.is_dir():
        raise ValueError(f"--out: there is no folder {path.parent}")
    return path
