"""Runs a grid of methods, K and tau through the stock command; an interrupted grid is resumed."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.artifacts.child_process import Ended, run_shown
from s2t_eval.artifacts.files import remove
from s2t_eval.report.runs import read_runs


@dataclass(frozen=True)
class Point:
    """One run of the grid; its folder has its name."""

    model: str
    arguments: str
    name: str


def points(
    models: Sequence[str], top_ks: Sequence[int], taus: Sequence[float], arguments: str, control: str
) -> Iterator[Point]:
    """Every method, K and tau, then greedy as the control.

    What only a loaded model shows, such as a selector without the wanted router, ends the first point of a
    method; behind the control it would be found after a whole run.

    Args:
        models: `--model` names that fire.
        top_ks, taus: the grid.
        arguments: model arguments of all points (teacher, calibration, trigger …).
        control: model arguments of greedy.
    """
    for model, top_k, tau in itertools.product(models, top_ks, taus):
        yield Point(model, f"{arguments},top_k={top_k},tau={tau}", f"{model}_k{top_k}_tau{100 * tau:g}")
    yield Point("greedy", control, "greedy")


def run_grid(grid: Sequence[Point], folder: Path, lm_eval: Sequence[str]) -> Iterator[tuple[Point, bool]]:
    """Run the points without complete results; yields each point and whether it was run now.

    The name of the point that runs, and what the run prints to stderr, are shown there while it works. What
    an interrupted run left in a point's folder is removed before the point is run; the texts that it had
    finished are in a response cache beside the folder, which is removed when the point is whole.

    Args:
        grid: the points.
        folder: contains a folder for each point.
        lm_eval: further arguments of lm_eval (`--tasks`, `--limit` …). With `--use_cache` the texts are in
            that cache, and none is kept here.

    Raises:
        RuntimeError: a run that failed, with the end of its output. Finished points are kept.
    """
    for point in grid:
        place, cache = folder / point.name, folder / f"{point.name}.cache"
        if is_done(place):
            _remove_cache(cache)
            yield point, False
            continue
        if place.exists():  # a new run would write beside the files that were cut off, which are read too
            shutil.rmtree(place)
        command = [sys.executable, "-m", "s2t_eval", "run", "--model", point.model]
        command += ["--model_args", point.arguments, "--output_path", str(place), "--log_samples"]
        command += ["--use_cache", str(cache), *lm_eval]  # the user's own comes last and counts
        ended = _run(point, command, cache)
        if ended.code or not is_done(place):
            ending = "\n".join(f"{ended.stdout}\n{ended.stderr}".strip().splitlines()[-12:])
            raise RuntimeError(f"{point.name} failed (exit {ended.code}): {' '.join(command)}\n{ending}")
        _remove_cache(cache)
        yield point, True


def _run(point: Point, command: Sequence[str], cache: Path) -> Ended:
    """Run a point; one whose cached texts are those of other code, weights or arguments begins anew."""
    has_texts = bool(_cache_files(cache))
    _show(f"{point.name}: running\n")
    ended = run_shown(command, _show)
    if ended.code and has_texts and f"--use_cache: {cache}_rank" in ended.stderr:
        _show(f"{point.name}: the texts of the interrupted run cannot be used; running it anew\n")
        _remove_cache(cache)
        ended = run_shown(command, _show)
    return ended


def _cache_files(cache: Path) -> list[Path]:
    """The files of a response cache: one for each process, and sqlite's own beside it."""
    return list(cache.parent.glob(f"{cache.name}_rank*.db*"))


def _remove_cache(cache: Path) -> None:
    for file in _cache_files(cache):
        remove(file)


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def is_done(place: Path) -> bool:
    """Whether a folder has results with all of their samples, which lm_eval writes last, line by line."""
    try:
        return place.is_dir() and all(
            run.documents is not None and len(run.documents) == run.n for run in read_runs([place])
        )
    except ValueError:
        return False
