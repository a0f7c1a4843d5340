"""The cost of a run, summed over its texts, for the harness's results file."""

from __future__ import annotations

import resource
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from s2t_eval.engine import Usage
from s2t_eval.model_wrappers.response_cache import TimedResult


@dataclass
class Telemetry:
    """Sums over all texts of a run, including those from an earlier, interrupted part of it.

    Args:
        texts: texts generated (each sample of maj8 is one).
        cached_texts: texts among them that came from the cache (`--use_cache`); their costs count too.
        usage: summed usage; its seconds are replaced by the wall clock of decoding.
        seconds: wall clock spent in decoding; with several processes, of the slowest one.
        memory: peak memory in bytes; with several processes, the largest.
        truncated_prompts: prompts whose beginning was cut off to fit the context.
        length_limited: texts that ended at their length limit.
        processes: processes that shared the work.
    """

    texts: int = 0
    cached_texts: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    memory: int = 0
    truncated_prompts: int = 0
    length_limited: int = 0
    processes: int = 1

    def add(self, timed: TimedResult) -> None:
        """Count one text."""
        self.texts += 1
        self.cached_texts += timed.is_cached
        self.length_limited += timed.result.finish.value == "length"
        self.seconds += timed.seconds
        self.memory = max(self.memory, timed.memory)
        self._add_usage(timed.result.usage)

    def _add_usage(self, usage: Usage) -> None:
        for name, value in asdict(usage).items():
            setattr(self.usage, name, getattr(self.usage, name) + value)

    def report(self, devices: Collection[torch.device] = ()) -> dict[str, Any]:
        """The sums, and ratios of them.

        Args:
            devices: of the models of this process; see `peak_memory`.
        """
        counts = self.usage.counts()
        counts.pop("seconds")
        tokens = max(1, self.usage.tokens)
        teacher_selections = self.usage.hits + self.usage.misses
        return {
            "texts": self.texts,
            "cached_texts": self.cached_texts,
            **counts,
            "realised_rate": self.usage.triggers / tokens,
            "flip_rate": self.usage.flips / tokens,
            "hit_rate": self.usage.hits / teacher_selections if teacher_selections else None,
            "forwards_per_token": self.usage.forwards / tokens,
            "mean_depth": 1 + self.usage.deeper_passes / tokens,
            "continued_rate": self.usage.continued / tokens,
            "length_limited": self.length_limited,
            "truncated_prompts": self.truncated_prompts,
            "processes": self.processes,
            "seconds": self.seconds,
            "tokens_per_second": self.usage.tokens / self.seconds if self.seconds else None,
            "peak_memory_bytes": max(self.memory, peak_memory(devices)),
        }


def total_telemetry(parts: Sequence[Telemetry]) -> Telemetry:
    """The telemetry of processes that shared the work: sums of counts, the largest time and memory."""
    total = Telemetry(processes=len(parts))
    for part in parts:
        total._add_usage(part.usage)
        for name in ("texts", "cached_texts", "truncated_prompts", "length_limited"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        total.seconds = max(total.seconds, part.seconds)
        total.memory = max(total.memory, part.memory)
    return total


def peak_memory(devices: Collection[torch.device]) -> int:
    """Largest memory used so far, in bytes: of the GPUs among the devices, else of the process.

    Args:
        devices: of the models of this process. A GPU that holds none of them does not count.
    """
    gpus = [device for device in devices if device.type == "cuda"]
    if gpus:
        return sum(int(torch.cuda.max_memory_allocated(gpu)) for gpu in gpus)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
