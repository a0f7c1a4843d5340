"""Peak memory with branching relative to decoding without it, with a new process per measurement.

The peak of a process includes everything it did before, so each measurement needs a new process. This file is
also the script of that process: it reads settings and a trigger rate from standard input.
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.branch import branching, with_rate
from benchmarks.decoding import decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, Target, alternate, divide
from benchmarks.workload import TAUS, Settings
from s2t_eval.engine import Decoder
from s2t_eval.selection.policy import greedy

NEW_TOKENS = 64
TARGET = Target(1.05)


class Peak(NamedTuple):
    """Memory in bytes: after loading the model and one use, and the peak during decoding."""

    loaded: int
    peak: int

    @property
    def above(self) -> int:
        """Bytes of decoding beyond the model; at least one page, because it is a denominator."""
        return max(self.peak - self.loaded, 4096)


def measure(settings: Settings) -> list[Ratio]:
    """Return two ratios per trigger rate: of the whole peak, and of the peak above the loaded model."""
    sides = {0.0: partial(measure_in_child, settings, 0.0)}
    sides |= {tau: partial(measure_in_child, settings, tau) for tau in settings.taus or TAUS}
    named = {f"{tau:g}": side for tau, side in sides.items()}
    peaks = alternate(named, settings.repeats)
    base = peaks.pop("0")
    ratios = []
    for tau, side_peaks in peaks.items():
        name = f"branch K {settings.top_k}, tau {tau}, batch {settings.batch}"
        details = {"bytes": side_peaks, "bytes_of_base": base}
        whole = divide([p.peak for p in side_peaks], [p.peak for p in base])
        above = divide([p.above for p in side_peaks], [p.above for p in base])
        ratios.append(Ratio(f"peak memory, {name}", whole, TARGET, details))
        ratios.append(Ratio(f"peak memory above the model, {name}", above, TARGET, details))
    return ratios


def measure_in_child(settings: Settings, tau: float) -> Peak:
    """Measure the peak of one run in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory"],
        input=json.dumps({"settings": asdict(settings), "tau": tau}),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(settings: Settings, tau: float) -> Peak:
    """Decode the requests, with branches at the rate `tau` or without, and measure the peak."""
    student, tokenizer = load_student(settings)
    new_tokens = settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, settings.requests or settings.batch, new_tokens)
    policy = branching(student, tau, settings.top_k) if tau else greedy()
    decoder = Decoder(student, policy, rows=settings.batch)
    # Loads mapped weights and library code into memory, for both sides alike.
    warm_up(Decoder(student, branching(student, 1.0, settings.top_k)), requests[:1])
    student.release()
    gc.collect()
    loaded = start_peak()
    decode(decoder, with_rate(requests, tau))
    return Peak(loaded, read_peak())


def start_peak() -> int:
    """Reset the peak and return the bytes in use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    # Loading can need more than decoding, and a child process inherits its parent's ru_maxrss.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def read_peak() -> int:
    """Peak of the bytes in use since `start_peak`."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    job = json.load(sys.stdin)
    job["settings"].pop("taus")
    print(json.dumps(measure_here(Settings(**job["settings"]), job["tau"])._asdict()))
