"""Re-runs a small grid of K and tau through the stock command; a broken-off grid goes on where it stopped."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.report.runs import read_runs


@dataclass(frozen=True)
class Point:
    """One run of the grid; its name is its folder's."""

    model: str
    arguments: str
    name: str


def points(
    models: Sequence[str], top_ks: Sequence[int], taus: Sequence[float], arguments: str, control: str
) -> Iterator[Point]:
    """Greedy as the control, then every method, K and tau.

    Args:
        models: `--model` names that fire.
        top_ks, taus: the grid.
        arguments: model arguments of all points (teacher, calibration, trigger …).
        control: model arguments of greedy.
    """
    yield Point("greedy", control, "greedy")
    for model, top_k, tau in itertools.product(models, top_ks, taus):
        yield Point(model, f"{arguments},top_k={top_k},tau={tau}", f"{model}_k{top_k}_tau{100 * tau:g}")


def run_grid(grid: Sequence[Point], folder: Path, lm_eval: Sequence[str]) -> Iterator[tuple[Point, bool]]:
    """Run what has no whole results yet; yields each point and whether it was run now.

    Args:
        grid: the points.
        folder: each gets a folder in it.
        lm_eval: further arguments of lm_eval (`--tasks`, `--limit` …).

    Raises:
        RuntimeError: a run that failed, with the end of what it said. What is done stays.
    """
    for point in grid:
        place = folder / point.name
        if is_done(place):
            yield point, False
            continue
        command = [sys.executable, "-m", "s2t_eval", "run", "--model", point.model]
        command += ["--model_args", point.arguments, "--output_path", str(place), "--log_samples", *lm_eval]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        if done.returncode or not is_done(place):
            last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-12:])
            raise RuntimeError(f"{point.name} failed (exit {done.returncode}): {' '.join(command)}\n{last}")
        yield point, True


def is_done(place: Path) -> bool:
    """Whether whole results lie there: lm_eval writes them last."""
    try:
        return bool(place.is_dir() and all(run.documents is not None for run in read_runs([place])))
    except ValueError:
        return False
