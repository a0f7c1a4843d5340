"""The compared methods and benchmarks, as tables of data: a new one is a new line here."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEV = "_dev"
"""How tasks of development problems end: settings are chosen by them, and no table shows them."""


@dataclass(frozen=True)
class Method:
    """A row of the paper's table.

    Args:
        key: how published numbers and files name it.
        title: as the paper writes it.
        models: the `--model` names that run it.
        votes: whether it votes over answers, which code does not have ("–" in the paper's table).
        about: one sentence for notes and cards.
    """

    key: str
    title: str
    models: tuple[str, ...]
    about: str
    votes: bool = False


METHODS = (
    Method("hf", "Stock hf", ("hf",), "lm_eval's own hf backend"),
    Method("greedy", "Greedy", ("greedy",), "the model's own argmax at every step"),
    Method("tuned", "Tuned", (), "a student with an adapter of its own, decoded greedily"),
    Method("distil", "Distil", ("distil",), "a student distilled from the teacher, decoded greedily"),
    Method("maj8", "Maj@8", ("maj8", "maj_at_k"), "plurality over sampled answers", votes=True),
    Method("tah", "TaH", ("tah",), "Think-at-Hard: a second iteration at hard tokens"),
    Method("s2t_local", "S2T-Local", ("s2t_local",), "a learned selector picks among own candidates"),
    Method("pps_local", "PPS-Local", ("pps_local",), "as S2T-Local, proposals from the untouched model"),
    Method("s2t", "S2T (teacher)", ("s2t",), "a larger teacher picks among the model's own candidates"),
    Method("takeover", "Takeover", ("takeover",), "a larger teacher writes its own token"),
)
BY_MODEL = {model: method for method in METHODS for model in method.models}
BY_KEY = {method.key: method for method in METHODS}


@dataclass(frozen=True)
class Benchmark:
    """A column of the paper's table.

    Args:
        key: task names that begin with it belong here, `s2t_` and all but letters and digits left out.
        title: as the paper writes it.
        dataset: its dataset on the Hugging Face Hub; None where it is not there.
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


def method_of(model: str, has_adapter: bool = False) -> Method:
    """The method that a `--model` name runs; raises `ValueError` for one that the table lacks.

    Plain decoding of a student with an adapter (`peft=`) is not the plain student's.
    """
    if has_adapter and model in ("hf", "greedy"):
        return BY_KEY["tuned"]
    if model not in BY_MODEL:
        raise ValueError(
            f"unknown method: config.model is {model!r}; the table knows {', '.join(BY_MODEL)}; leave "
            "that run out, or add a line to METHODS in s2t_eval/report/methods.py"
        )
    return BY_MODEL[model]


def benchmark_of(task: str) -> Benchmark:
    """The benchmark of a task; a task of no known one is a benchmark of its own."""
    plain = re.sub(r"[^a-z0-9]", "", task.lower().removeprefix("s2t_"))
    is_dev = task.endswith(DEV)  # what settings were chosen by stands in no benchmark's column
    known = [benchmark for benchmark in BENCHMARKS if plain.startswith(benchmark.key) and not is_dev]
    return known[0] if known else Benchmark(plain, task)
