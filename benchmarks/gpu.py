"""All figures of a GPU in one command: greedy, s2t and pps_local at the shapes of a 0.5B and a 1.5B model.

    python -m benchmarks.gpu --json gpu.json            # bfloat16, batches of 1, 64 and 256; minutes
    python -m benchmarks.gpu --student FOLDER --teacher FOLDER --data gsm8k.jsonl --batches 1 64
    python -m benchmarks.gpu --student FOLDER --teacher FOLDER --student_url http://localhost:8001 \\
        --teacher_url http://localhost:8002      # beside vLLM servers of the same models too

Greedy decoding is compared with stock `hf`, the other methods with greedy decoding, each in the same rounds.
With addresses of vLLM servers greedy decoding and S2T are compared with these too.
The report names the card. Kernels and synchronisations of a step are counted first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks import compiled, greedy_vs_hf, kernels, local, verify, vllm_servers
from benchmarks.ratios import REPOSITORY, Ratio, this_machine
from benchmarks.workload import Settings, kept_settings
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.software import commit_of
from s2t_eval.engine.compiled_layers import Compile

SHAPES = Settings(
    student="random/qwen2.5-0.5b",
    teacher="random/qwen2.5-1.5b",
    dtype="bfloat16",
    device="cuda",
    new_tokens=128,
    repeats=3,
    taus=(0.01, 0.05),
    compile="auto",
)
BATCHES = (1, 64, 256)
FIGURES: dict[str, Callable[[Settings], list[Ratio]]] = {
    "kernels": kernels.measure,
    "greedy-vs-hf": greedy_vs_hf.measure,
    "verify": verify.measure,
    "local": local.measure,
    "compiled": compiled.measure,
    "vllm": vllm_servers.measure,
}
"""Figures; all but kernels are measured at every batch size."""
ALONE = tuple(name for name in FIGURES if name not in ("compiled", "vllm"))
"""Those that need neither a compiler nor servers."""


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--student", default=SHAPES.student, help="hub name, folder, random/SHAPE")
    parser.add_argument("--teacher", default=SHAPES.teacher, help="the same")
    parser.add_argument("--data", help="JSON-lines file with a question a line (GSM8k's)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="texts at work at once")
    parser.add_argument(
        "--figures", choices=FIGURES, nargs="+", help="which ones; default: all, vllm with addresses alone"
    )
    parser.add_argument("--new_tokens", type=int, default=SHAPES.new_tokens, help="of each text")
    parser.add_argument("--rounds", type=int, default=SHAPES.repeats, help="of each figure")
    parser.add_argument("--taus", type=float, nargs="+", default=SHAPES.taus, help="rates of triggers")
    parser.add_argument("--compile", choices=get_args(Compile), default=SHAPES.compile, help="of our side")
    parser.add_argument("--student_url", help="vLLM servers of the student, joined by + (vllm)")
    parser.add_argument("--teacher_url", help="vLLM servers of the teacher (vllm)")
    parser.add_argument("--json", metavar="FILE", help="file to write; default: print")
    parsed = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: there is no CUDA device here; python -m benchmarks.speed measures on a CPU")
    has_servers = parsed.student_url is not None and parsed.teacher_url is not None
    names = parsed.figures or [name for name in FIGURES if has_servers or name != "vllm"]
    if ("vllm" in names) != has_servers or (parsed.student_url is None) != (parsed.teacher_url is None):
        parser.error("--figures vllm: expected it with --student_url URL and --teacher_url URL")
    models = {"student": parsed.student, "teacher": parsed.teacher, "data": parsed.data}
    models |= {"student_url": parsed.student_url, "teacher_url": parsed.teacher_url}
    lengths = {"new_tokens": parsed.new_tokens, "repeats": parsed.rounds, "taus": tuple(parsed.taus)}
    settings = replace(SHAPES, **models, **lengths, compile=parsed.compile)
    if settings.compile == "never" and "compiled" in names:
        parser.error("--figures compiled: it compares with never; give --compile auto, or leave it out")
    report: dict[str, Any] = {
        "commit": commit_of(REPOSITORY),
        "machine": asdict(this_machine()),
        "figures": [],
    }
    for figure in figures(settings, parsed.batches, names):
        report["figures"].append(figure)
        if parsed.json is not None:  # after each one: what has been measured is kept if the machine goes
            write_text(Path(parsed.json), json.dumps(report, indent=1) + "\n")
    if parsed.json is None:
        print(json.dumps(report, indent=1))


def figures(
    settings: Settings, batches: Sequence[int], names: Sequence[str] = ALONE
) -> Iterator[dict[str, Any]]:
    """Every figure at every batch size, each printed as soon as it is measured.

    Args:
        settings: models, dtype, device and length of the texts.
        batches: texts decoded at once.
        names: of the figures.
    """
    if "kernels" in names:
        yield _figure("kernels", kernels.measure, replace(settings, batch=batches[0]))
    for batch in batches:
        for name in names:
            if name != "kernels":
                yield _figure(name, FIGURES[name], replace(settings, batch=batch))


def _figure(name: str, measure: Callable[[Settings], list[Ratio]], settings: Settings) -> dict[str, Any]:
    ratios = measure(settings)
    for ratio in ratios:
        print(ratio, file=sys.stderr, flush=True)
    if settings.device == "cuda":
        torch.cuda.empty_cache()
    shown = replace(settings, student_url=None, teacher_url=None)  # files that are kept name no hosts
    return {"figure": name, "settings": kept_settings(shown), "ratios": [ratio.as_json() for ratio in ratios]}


if __name__ == "__main__":
    main()
