"""Ratios of two alternately measured sides: median, range, target."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

T = TypeVar("T")


REPOSITORY = Path(__file__).resolve().parents[1]
"""Whose commit a measurement records."""


class Stopwatch:
    """Accumulates wall-clock and processor seconds of the blocks inside `running`.

    Wall-clock time is what a user experiences; processor time is more reliable on a busy machine.
    """

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the duration of the block, including pending work of the GPU."""
        wait_for_device()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        wait_for_device()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def wait_for_device() -> None:
    """Wait until the GPU has finished its pending work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(sides: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Measure each side once per round, for `repeats` rounds; the starting side rotates."""
    samples: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for round_index in range(repeats):
        first = round_index % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(sides[name]())
    return samples


@dataclass(frozen=True)
class Target:
    """A bound on a median ratio: at most, or with `is_floor` at least, `limit`."""

    limit: float
    is_floor: bool = False

    def is_met(self, ratio: float) -> bool:
        """Whether a ratio satisfies the bound."""
        return ratio >= self.limit if self.is_floor else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.is_floor else '<='} {self.limit:.2f}"


@dataclass(frozen=True)
class Ratio:
    """One measured ratio.

    Args:
        name: the compared sides and their settings.
        values: one ratio per round.
        target: bound on the median; None (default) without one.
        details: further measurements, as JSON values.
        cpu: the same ratios in processor time, which is less affected by other processes.
    """

    name: str
    values: Sequence[float]
    target: Target | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    cpu: Sequence[float] = ()

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """The ratio as JSON values."""
        return {
            "name": self.name,
            "median": self.median,
            "low": min(self.values),
            "high": max(self.values),
            "n": len(self.values),
            "target": str(self.target) if self.target else None,
            "is_met": self.target.is_met(self.median) if self.target else None,
            "values": list(self.values),
            "cpu": list(self.cpu),
            "details": dict(self.details),
        }

    def __str__(self) -> str:
        verdict = ""
        if self.target:
            met = "met" if self.target.is_met(self.median) else "MISSED"
            verdict = f", target {self.target} {met}"
        spread = f"{min(self.values):.3f} to {max(self.values):.3f}, n = {len(self.values)}"
        cpu = f", processor time {statistics.median(self.cpu):.3f}" if self.cpu else ""
        return f"{self.name}: {self.median:.3f} ({spread}{verdict}{cpu})"


def divide(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide the values of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement; `load` is the length of the run queue before it."""

    processor: str
    threads: int
    gpu: str | None
    load: float
    python: str
    torch: str
    transformers: str

    def __str__(self) -> str:
        where = self.gpu or f"{self.processor}, {self.threads} thread(s), load {self.load:.1f}"
        return f"{where}, torch {self.torch}, transformers {self.transformers}"


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        processor=_processor(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load=os.getloadavg()[0],
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
