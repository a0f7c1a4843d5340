"""All figures of a GPU in one command: greedy, s2t and pps_local at the shapes of a 0.5B and a 1.5B model.

    python -m benchmarks.gpu --json gpu.json            # bfloat16, batches of 1, 64 and 256; minutes
    python -m benchmarks.gpu --student FOLDER --teacher FOLDER --data gsm8k.jsonl --batches 1 64

Greedy decoding is compared with stock `hf`, the other methods with greedy decoding, each in the same rounds.
The report names the card. Kernels and synchronisations of a step are counted first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import greedy_vs_hf, kernels, local, verify
from benchmarks.ratios import Ratio, this_machine
from benchmarks.workload import Settings

SHAPES = Settings(
    student="random/qwen2.5-0.5b",
    teacher="random/qwen2.5-1.5b",
    dtype="bfloat16",
    device="cuda",
    new_tokens=128,
    repeats=3,
    taus=(0.01, 0.05),
)
BATCHES = (1, 64, 256)
FIGURES: dict[str, Callable[[Settings], list[Ratio]]] = {
    "greedy-vs-hf": greedy_vs_hf.measure,
    "verify": verify.measure,
    "local": local.measure,
}
"""Figures that are measured at every batch size."""


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--student", default=SHAPES.student, help="hub name, folder, random/SHAPE")
    parser.add_argument("--teacher", default=SHAPES.teacher, help="the same")
    parser.add_argument("--data", help="JSON-lines file with a question a line (GSM8k's)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="texts at work at once")
    parser.add_argument("--json", metavar="FILE", help="file to write; default: print")
    parsed = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: there is no CUDA device here; python -m benchmarks.speed measures on a CPU")
    settings = replace(SHAPES, student=parsed.student, teacher=parsed.teacher, data=parsed.data)
    report = {"machine": asdict(this_machine()), "figures": figures(settings, parsed.batches)}
    text = json.dumps(report, indent=1) + "\n"
    if parsed.json is None:
        print(text, end="")
    else:
        Path(parsed.json).write_text(text, encoding="utf-8")


def figures(settings: Settings, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Every figure at every batch size, each printed as soon as it is measured.

    Args:
        settings: models, dtype, device and length of the texts.
        batches: texts decoded at once.
    """
    report = [_figure("kernels", kernels.measure, replace(settings, batch=batches[0]))]
    for batch in batches:
        for name, measure in FIGURES.items():
            report.append(_figure(name, measure, replace(settings, batch=batch)))
    return report


def _figure(name: str, measure: Callable[[Settings], list[Ratio]], settings: Settings) -> dict[str, Any]:
    ratios = measure(settings)
    for ratio in ratios:
        print(ratio, file=sys.stderr, flush=True)
    if settings.device == "cuda":
        torch.cuda.empty_cache()
    return {"figure": name, "settings": asdict(settings), "ratios": [ratio.as_json() for ratio in ratios]}


if __name__ == "__main__":
    main()
