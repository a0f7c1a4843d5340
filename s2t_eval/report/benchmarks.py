"""The benchmarks of the paper's tables: a new one is a new line here."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEV = "_dev"
"""Suffix of tasks of development problems: settings are chosen on them, and no benchmark includes them."""


@dataclass(frozen=True)
class Benchmark:
    """A column of the paper's table.

    Args:
        key: prefix of the names of its tasks, without `s2t_` and without anything but letters and digits.
        title: as the paper writes it.
        dataset: its dataset on the Hugging Face Hub; None if it has none.
        is_math: whether it is part of Math Avg.
        is_code: whether its answers are programs.
    """

    key: str
    title: str
    dataset: str | None = None
    is_math: bool = False
    is_code: bool = False


BENCHMARKS = (
    Benchmark("gsm8k", "GSM8k", "openai/gsm8k", is_math=True),
    Benchmark("math500", "MATH500", "HuggingFaceH4/MATH-500", is_math=True),
    Benchmark("olympiadbench", "OlympiadBench", "Hothan/OlympiadBench", is_math=True),
    Benchmark("aime25", "AIME25", "math-ai/aime25", is_math=True),
    Benchmark("humaneval", "HumanEval", "openai/openai_humaneval", is_code=True),
    Benchmark("mmlupro", "MMLU-Pro", "TIGER-Lab/MMLU-Pro"),
    Benchmark("arith", "Arith (embedded)"),
)
MATH_AVG = "Math Avg"


def benchmark_of(task: str) -> Benchmark:
    """The benchmark of a task; an unknown task, or one of development problems, is a benchmark of its own."""
    plain = re.sub(r"[^a-z0-9]", "", task.lower().removeprefix("s2t_"))
    is_dev = task.endswith(DEV)
    known = [benchmark for benchmark in BENCHMARKS if plain.startswith(benchmark.key) and not is_dev]
    return known[0] if known else Benchmark(plain, task)
