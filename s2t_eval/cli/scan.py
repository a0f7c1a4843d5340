"""`s2t-eval scan`: re-run a grid of K and tau, with resume; `s2t-eval analyze` draws it."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.flags import Commands, require_flags
from s2t_eval.method_table import FIRING_MODELS
from s2t_eval.ranges import AT_LEAST_1, Range

SCANNED = ("top_k", "tau", "threshold")
RATE = Range("a rate above 0, at most 1 (every step)", 0, 1, without=(0,))


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "scan", help="re-run a grid of K and tau; a broken-off one goes on where it stopped"
    )
    add = parser.add_argument
    add("--model", nargs="+", choices=FIRING_MODELS, default=["s2t"], help="methods (default s2t)")
    add("--model_args", required=True, help="of all points: pretrained=…,teacher=…,calibration=…")
    add("--top_k", "--top-k", type=int, nargs="+", default=[8])
    add("--tau", type=float, nargs="+", required=True, help="rates that the calibration holds")
    add("--tasks", required=True)
    add("--out", type=Path, required=True, help="folder; one run a folder in it")
    add("lm_eval", nargs="*", help="further arguments of lm_eval, after --")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Run the points that are not there yet."""
    from s2t_eval.analysis.grid import points, run_grid

    pairs = [part for part in parsed.model_args.split(",") if part]
    unusable = [part for part in pairs if "=" not in part or part.split("=")[0] in SCANNED]
    if unusable:
        raise ValueError(
            f"--model_args: expected name=value pairs without {', '.join(SCANNED)}; got {unusable}"
        )
    require_flags(parsed, top_k=AT_LEAST_1, tau=RATE)
    require_reusable_folder("--out", parsed.out, "one of `s2t-eval scan`", ["greedy/", "*_k*_tau*/"])
    shared = ("pretrained", "dtype", "device", "seed", "revision", "gguf_file", "trust_remote_code")
    control = ",".join(part for part in pairs if part.split("=")[0] in shared)
    grid = list(points(parsed.model, parsed.top_k, parsed.tau, parsed.model_args, control))
    parsed.out.mkdir(parents=True, exist_ok=True)
    try:
        for point, is_new in run_grid(grid, parsed.out, ["--tasks", parsed.tasks, *parsed.lm_eval]):
            print(f"{point.name}: {'done' if is_new else 'was there'}", flush=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
