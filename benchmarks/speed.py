"""Speed and memory of the decoding engine; each figure is a ratio measured in one run.

    python -m benchmarks.speed greedy-vs-hf                       # the embedded pair, seconds
    python -m benchmarks.speed branch --random-shape qwen2.5-0.5b --json branch.json
    python -m benchmarks.speed lockstep --student random/qwen2.5-0.5b --teacher random/qwen2.5-1.5b
    python -m benchmarks.speed greedy-vs-hf --student FOLDER --data gsm8k.jsonl --new-tokens 320

Figures: greedy-vs-hf, branch, kernels, labelling, local, lockstep, memory, packing, pps, prefix, remote,
remote-client, remote-labels, tah, tah-training, verify. `remote` and `remote-labels` need servers. Run them
on an idle machine (OMP_NUM_THREADS sets the number of threads). The sides of a ratio are measured
alternately, so other load affects both, but not equally.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import (
    branch,
    greedy_vs_hf,
    kernels,
    labelling,
    local,
    lockstep,
    memory,
    packing,
    pps,
    prefix,
    remote,
    remote_client,
    tah,
    verify,
)
from benchmarks.ratios import REPOSITORY, Ratio, this_machine
from benchmarks.workload import RANDOM, SHAPES, Settings, kept_settings
from s2t_eval.artifacts.software import commit_of

FIGURES: dict[str, Callable[[Settings], list[Ratio]]] = {
    "greedy-vs-hf": greedy_vs_hf.measure,
    "branch": branch.measure,
    "kernels": kernels.measure,
    "labelling": labelling.measure,
    "local": local.measure,
    "lockstep": lockstep.measure,
    "memory": memory.measure,
    "packing": packing.measure,
    "pps": pps.measure,
    "prefix": prefix.measure,
    "remote": remote.measure,
    "remote-client": remote_client.measure,
    "remote-labels": remote.measure_labels,
    "tah": tah.measure,
    "tah-training": tah.measure_training,
    "verify": verify.measure,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parsed = _parser().parse_args(argv)
    settings = read_settings(parsed)
    machine = this_machine()
    ratios = FIGURES[parsed.figure](settings)
    where = f"{settings.student}, {settings.dtype}, {machine}"
    report = {
        "figure": parsed.figure,
        "commit": commit_of(REPOSITORY),
        "machine": asdict(machine),
        "settings": kept_settings(settings),
        "ratios": [ratio.as_json() for ratio in ratios],
    }
    if parsed.json == "-":
        print(json.dumps(report))
        return
    for ratio in ratios:
        print(f"{ratio}; {where}")
    if parsed.json is not None:
        Path(parsed.json).write_text(json.dumps(report, indent=1) + "\n")


def read_settings(parsed: argparse.Namespace) -> Settings:
    """A figure's settings from the command line; `--quick` only checks that a figure runs."""
    student = RANDOM + parsed.random_shape if parsed.random_shape else parsed.student
    settings = Settings(
        student=student,
        teacher=parsed.teacher,
        dtype=parsed.dtype,
        device=parsed.device,
        batch=parsed.batch,
        requests=parsed.requests,
        new_tokens=parsed.new_tokens,
        repeats=parsed.repeats,
        data=parsed.data,
        fixed_length=parsed.fixed_length,
        taus=tuple(parsed.taus) if parsed.taus else None,
        top_k=parsed.top_k,
        last_layers=tuple(parsed.last_layers) if parsed.last_layers else None,
        chunks=tuple(parsed.chunks) if parsed.chunks else None,
        student_url=parsed.student_url,
        teacher_url=parsed.teacher_url,
    )
    if parsed.quick:
        settings = replace(settings, batch=4, requests=6, new_tokens=8, repeats=1, taus=(0.1,))
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add, default = parser.add_argument, Settings()
    add("figure", choices=FIGURES)
    add("--json", nargs="?", const="-", metavar="FILE", help="JSON to a file, else to stdout")
    add("--student", default=default.student, help="hub name, folder, embedded/..., random/SHAPE")
    add("--teacher", default=default.teacher, help="the same, for lockstep and verify")
    add("--random-shape", choices=SHAPES, help="short for --student random/SHAPE")
    add("--dtype", default=default.dtype, choices=("float32", "bfloat16", "float16"))
    add("--device", default="cuda" if torch.cuda.is_available() else default.device)
    add("--batch", type=int, default=default.batch, help="texts at work at once (32)")
    add("--requests", type=int, help="texts a run; default: once or twice the batch")
    add("--new-tokens", type=int, help="length limit of a text; default: the figure's own")
    add("--repeats", type=int, default=default.repeats, help="rounds (5)")
    add("--data", help="JSON-lines file with a question a line (GSM8k's)")
    add("--fixed-length", action="store_true", help="greedy-vs-hf: only the length ends a text")
    add("--taus", type=float, nargs="+", help="rates (branch, local, memory, verify)")
    add("--top-k", type=int, default=default.top_k, help="candidates (8)")
    add("--last-layers", type=int, nargs="+", help="last layers with an adapter (pps; a third)")
    add("--chunks", type=int, nargs="+", help="lengths beside lockstep and auto (verify; 8 32)")
    add("--student-url", help="servers of the student, joined by + (remote, remote-labels)")
    add("--teacher-url", help="servers of the teacher")
    add("--quick", action="store_true", help="tiny settings: shows that it works, measures nothing")
    return parser


if __name__ == "__main__":
    main()
