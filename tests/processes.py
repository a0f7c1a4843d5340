"""Inspection of the processes started by a test."""

from __future__ import annotations

import time
from typing import Any

import psutil


def is_running(marker: str) -> bool:
    """Whether a process on this machine has the text in its command line."""
    for process in psutil.process_iter(["cmdline"]):
        if marker in " ".join(process.info["cmdline"] or ()):
            return True
    return False


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until(condition: Any, seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return True
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    return False
