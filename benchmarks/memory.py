"""Peak memory with branching against without: a fresh process a measurement.

A process's peak includes its own start; only a process that did nothing else has a peak that says
something. This file is the process too: it reads settings and a rate on stdin.
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
    """Bytes: with the model loaded and used once, and the most while decoding."""

    loaded: int
    peak: int

    @property
    def above(self) -> int:
        """What decoding took beyond the model; a page at least, since a ratio is made of it."""
        return max(self.peak - self.loaded, 4096)


def measure(settings: Settings) -> list[Ratio]:
    """Two ratios a rate: of the whole peak, and of the peak above the loaded model."""
    sides = {0.0: partial(measure_in_child, settings, 0.0)}
    sides |= {tau: partial(measure_in_child, settings, tau) for tau in settings.taus or TAUS}
    named = {f"{tau:g}": side for tau, side in sides.items()}
    peaks = alternate(named, settings.repeats)
    base = peaks.pop("0")
    ratios = []
    for tau, found in peaks.items():
        name = f"branch K {settings.top_k}, tau {tau}, batch {settings.batch}"
        details = {"bytes": found, "bytes_of_base": base}
        whole = divide([p.peak for p in found], [p.peak for p in base])
        above = divide([p.above for p in found], [p.above for p in base])
        ratios.append(Ratio(f"peak memory, {name}", whole, TARGET, details))
        ratios.append(Ratio(f"peak memory above the model, {name}", above, TARGET, details))
    return ratios


def measure_in_child(settings: Settings, tau: float) -> Peak:
    """The peak of one run in a process of its own."""
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
    """Decode the requests, with branches at the rate `tau` or without, and read the peak."""
    student, tokenizer = load_student(settings)
    new_tokens = settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, settings.requests or settings.batch, new_tokens)
    policy = branching(student, tau, settings.top_k) if tau else greedy()
    decoder = Decoder(student, policy, rows=settings.batch)
    # Brings mapped weights and the libraries' code into memory, for both sides alike.
    warm_up(Decoder(student, branching(student, 1.0, settings.top_k)), requests[:1])
    student.release()
    gc.collect()
    loaded = start_peak()
    decode(decoder, with_rate(requests, tau))
    return Peak(loaded, read_peak())


def start_peak() -> int:
    """Begin a new peak; bytes in use now."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    # Loading can need more than decoding, and a child's ru_maxrss begins with its parent's.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def read_peak() -> int:
    """Most bytes in use since `start_peak`."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    given = json.load(sys.stdin)
    given["settings"].pop("taus")
    print(json.dumps(measure_here(Settings(**given["settings"]), given["tau"])._asdict()))
