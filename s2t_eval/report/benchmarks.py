"""The benchmarks of the paper's tables: a new one is a new line here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

DEV = "_dev"
"""Suffix of tasks of development problems: settings are chosen on them, and no benchmark includes them."""


@dataclass(frozen=True)
class Benchmark:
    """A column of the paper's table.

    Args:
        key: letters and digits alone; its published numbers have it.
        title: as the paper writes it.
        tasks: names of its tasks, ours and lm_eval's own on the same documents with the same metric. Variants
            such as `gsm8k_cot`, `humaneval_plus` or one subject of `mmlu_pro` are none of them.
        dataset: its dataset on the Hugging Face Hub; None if it has none.
        is_math: whether it is part of Math Avg.
        is_code: whether its answers are programs.
    """

    key: str
    title: str
    tasks: tuple[str, ...] = ()
    dataset: str | None = None
    is_math: bool = False
    is_code: bool = False


BENCHMARKS = (
    Benchmark("gsm8k", "GSM8k", ("s2t_gsm8k", "gsm8k"), "openai/gsm8k", is_math=True),
    Benchmark(
        "math500", "MATH500", ("s2t_math500", "hendrycks_math500"), "HuggingFaceH4/MATH-500", is_math=True
    ),
    Benchmark("olympiadbench", "OlympiadBench", ("s2t_olympiadbench",), "Hothan/OlympiadBench", is_math=True),
    Benchmark("aime25", "AIME25", ("s2t_aime25", "aime25"), "math-ai/aime25", is_math=True),
    Benchmark(
        "humaneval", "HumanEval", ("s2t_humaneval", "humaneval"), "openai/openai_humaneval", is_code=True
    ),
    Benchmark("mmlupro", "MMLU-Pro", ("s2t_mmlu_pro", "mmlu_pro"), "TIGER-Lab/MMLU-Pro"),
    Benchmark("arith", "Arith (embedded)", ("s2t_arith",)),
)
MATH_AVG = "Math Avg"


def benchmark_of(task: str) -> Benchmark:
    """The benchmark of a task; any task that no benchmark lists is a benchmark of its own."""
    return next((benchmark for benchmark in BENCHMARKS if task in benchmark.tasks), _own(task))


def columns_of(tasks: Iterable[str]) -> dict[str, Benchmark]:
    """Task -> its column of a table, which holds one task: of two of a benchmark ours is in its column."""
    present = dict.fromkeys(tasks)
    columns = {}
    for task in present:
        benchmark = benchmark_of(task)
        first = next((name for name in benchmark.tasks if name in present), task)
        columns[task] = benchmark if task == first else _own(task)
    return columns


def _own(task: str) -> Benchmark:
    key = re.sub(r"[^a-z0-9]", "", task.lower().removeprefix("s2t_"))
    is_code = any(key.startswith(benchmark.key) for benchmark in BENCHMARKS if benchmark.is_code)
    return Benchmark(key, task, is_code=is_code)
