"""Inspection of the processes started by a test."""

from __future__ import annotations

import time
from typing import Any

import psutil


def has_ended(pid: int) -> bool:
    """Whether a process has ended, also where its parent has not waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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
