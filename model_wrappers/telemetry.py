"""What a run cost, summed over its texts, for the harness's results file."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from s2t_eval.engine import Result, Usage


@dataclass
class Telemetry:
    """Sums over all generated texts.

    Args:
        texts: texts generated (each sample of maj8 is one).
        usage: summed usage; its seconds are replaced by the wall clock of decoding.
        seconds: wall clock spent in decoding.
        truncated_prompts: prompts whose beginning was cut to fit the context.
        length_limited: texts that ended at their length limit.
    """

    texts: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    truncated_prompts: int = 0
    length_limited: int = 0

    def add(self, result: Result) -> None:
        """Count one text."""
        self.texts += 1
        self.length_limited += result.finish.value == "length"
        for name, value in asdict(result.usage).items():
            setattr(self.usage, name, getattr(self.usage, name) + value)

    def report(self) -> dict[str, Any]:
        """Sums, and the ratios people ask for."""
        counts = asdict(self.usage)
        counts.pop("seconds")
        tokens = max(1, self.usage.tokens)
        asked = self.usage.hits + self.usage.misses
        return {
            "texts": self.texts,
            **counts,
            "realised_rate": self.usage.triggers / tokens,
            "flip_rate": self.usage.flips / tokens,
            "hit_rate": self.usage.hits / asked if asked else None,
            "forwards_per_token": self.usage.forwards / tokens,
            "mean_depth": 1 + self.usage.deeper_passes / tokens,
            "continued_rate": self.usage.continued / tokens,
            "length_limited": self.length_limited,
            "truncated_prompts": self.truncated_prompts,
            "seconds": self.seconds,
            "tokens_per_second": self.usage.tokens / self.seconds if self.seconds else None,
            "peak_memory_bytes": peak_memory(),
        }


def peak_memory() -> int:
    """Largest memory used so far, in bytes: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
