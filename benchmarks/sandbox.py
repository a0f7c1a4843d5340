"""Programs per second in the sandbox, and the cost of isolation as a ratio.

    python -m benchmarks.sandbox                 # trivial programs, one worker a core
    python -m benchmarks.sandbox --data DIR      # HumanEval's canonical solutions, DIR as S2T_DATA

A trivial program is a function with one check. The baseline is the start of `python -I -S -c pass`, the
minimum cost of running a program in a separate process; the ratio is therefore the cost of sandbox and
checks, independent of the machine's load.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.ratios import Ratio, alternate, divide, this_machine
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.evaluation.humaneval import assemble, build_program
from s2t_eval.evaluation.sandbox import Program, find_isolation, run_programs, usable_cores

TARGET = 20.0
TRIVIAL = Program("def add(a, b):\n    return a + b\n", "assert add(2, 3) == 5\n")


def load_programs(data: str | None, count: int) -> list[Program]:
    """Trivial programs, or HumanEval's canonical solutions from a folder of data sets."""
    if data is None:
        return [TRIVIAL] * count
    lines = read_json_lines(Path(data) / "openai/openai_humaneval/test.jsonl")
    docs = [line.record for line in itertools.islice(lines, count)]
    sources = [assemble(doc["canonical_solution"], doc["prompt"], doc["entry_point"]) for doc in docs]
    return [build_program(source or "", doc) for source, doc in zip(sources, docs, strict=True)]


def seconds_in_sandbox(program_list: list[Program], workers: int) -> float:
    """Wall-clock seconds of running all programs; raises RuntimeError if one does not pass."""
    began = time.perf_counter()
    verdicts = run_programs(program_list, workers=workers)
    seconds = time.perf_counter() - began
    failed = [verdict for verdict in verdicts if verdict.passed is not True]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(program_list)} programs did not pass, first: {failed[0]}")
    return seconds


def seconds_of_bare_starts(count: int, workers: int) -> float:
    """Wall-clock seconds of starting as many interpreters without work."""
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", "pass"]
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: subprocess.run(command, check=True), range(count)))
    return time.perf_counter() - began


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=100, help="programs a round (100)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="at once (the cores)")
    parser.add_argument("--data", help="folder of data sets: HumanEval in place of trivial programs")
    arguments = parser.parse_args()
    program_list = load_programs(arguments.data, arguments.count)
    find_isolation()  # the first use runs the probe, which must not be measured
    sides = alternate(
        {
            "sandbox": lambda: seconds_in_sandbox(program_list, arguments.workers),
            "bare": lambda: seconds_of_bare_starts(len(program_list), arguments.workers),
        },
        arguments.repeats,
    )
    rates = sorted(len(program_list) / seconds for seconds in sides["sandbox"])
    median = rates[len(rates) // 2]
    description = "HumanEval solutions" if arguments.data else "trivial programs"
    met = "met" if median >= TARGET else "MISSED"
    print(
        f"{find_isolation().name}, {arguments.workers} at once: {median:.1f} {description}/s "
        f"({rates[0]:.1f} to "
        f"{rates[-1]:.1f}, n = {len(rates)} rounds of {len(program_list)}), target >= {TARGET:.0f}/s {met}"
    )
    ratio = Ratio("sandbox over bare interpreter start, seconds", divide(sides["sandbox"], sides["bare"]))
    print(f"{ratio}; {this_machine()}")


if __name__ == "__main__":
    main()
