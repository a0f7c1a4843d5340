"""Cost of the start-up hook per Python start: alternating interpreter starts with and without it.

    python benchmarks/startup.py              # 30 pairs, a table
    python benchmarks/startup.py --pairs 100 --json

The limit is 2 ms. The two starts of a pair differ only in S2T_EVAL_NO_HOOK, and their order alternates.
Wall-clock time is what a user experiences; processor time is more reliable on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import NamedTuple

LIMIT_MS = 2.0
PROBE = "import sys; sys.exit(not any(type(f).__name__ == 'S2tEvalHook' for f in sys.meta_path))"


class Start(NamedTuple):
    """Durations of interpreter starts in milliseconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Comparison:
    """Durations in milliseconds.

    Args:
        on: median with the hook.
        off: median without the hook.
        cost: median difference within a pair.
        quartiles: first and third quartile of the difference.
    """

    on: float
    off: float
    cost: float
    quartiles: tuple[float, float]


def environment(hook: bool) -> dict[str, str]:
    """This process's environment with the hook enabled or disabled."""
    variables = {name: value for name, value in os.environ.items() if name != "S2T_EVAL_NO_HOOK"}
    return variables if hook else {**variables, "S2T_EVAL_NO_HOOK": "1"}


def time_start(hook: bool) -> Start:
    """Measure the start of one interpreter that does nothing."""
    env = environment(hook)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], env=env, check=True)
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Start(wall=1000 * (end - begin), cpu=1000 * cpu)


def time_pairs(pairs: int) -> tuple[list[Start], list[Start]]:
    """Measure starts with and without the hook; raises ValueError if the hook is not installed."""
    probe = subprocess.run([sys.executable, "-c", PROBE], env=environment(hook=True))
    if probe.returncode != 0:
        raise ValueError(f"{sys.executable} starts without the hook: install s2t-eval there first")
    time_start(True), time_start(False)  # fills the disk cache
    starts: dict[bool, list[Start]] = {True: [], False: []}
    for pair in range(pairs):
        for hook in (pair % 2 == 0, pair % 2 == 1):
            starts[hook].append(time_start(hook))
    return starts[True], starts[False]


def compare(on: list[float], off: list[float]) -> Comparison:
    """Compare paired starts, in milliseconds."""
    differences = [a - b for a, b in zip(on, off, strict=True)]
    low, cost, high = statistics.quantiles(differences, n=4)
    return Comparison(statistics.median(on), statistics.median(off), cost, (low, high))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cost of the start-up hook.")
    parser.add_argument("--pairs", type=int, default=30, help="pairs of interpreter starts (30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    on, off = time_pairs(arguments.pairs)
    wall = compare([start.wall for start in on], [start.wall for start in off])
    cpu = compare([start.cpu for start in on], [start.cpu for start in off])
    if arguments.json:
        figures = {"pairs": arguments.pairs, "limit_ms": LIMIT_MS}
        print(json.dumps(figures | {"wall_ms": asdict(wall), "cpu_ms": asdict(cpu)}))
        return
    print(f"medians of {arguments.pairs} pairs, ms; limit {LIMIT_MS}")
    for name, row in (("wall", wall), ("cpu", cpu)):
        print(
            f"{name:>5}: hook on {row.on:.2f}, off {row.off:.2f}, cost {row.cost:.2f} "
            f"(quartiles {row.quartiles[0]:.2f} to {row.quartiles[1]:.2f})"
        )


if __name__ == "__main__":
    main()
