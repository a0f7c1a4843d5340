"""`s2t-eval reproduce`: every stage of a recipe in its order, each only where it has to run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.ranges import AT_LEAST_1
from s2t_eval.reproduce.build import build_stages
from s2t_eval.reproduce.lock import LOCK
from s2t_eval.reproduce.measured import require_arguments
from s2t_eval.reproduce.missing import missing_inputs
from s2t_eval.reproduce.plan import finished_stages, make_plan, plan_text
from s2t_eval.reproduce.process import end_marked, require_none_running
from s2t_eval.reproduce.read import RecipeError, read_recipe
from s2t_eval.reproduce.schema import Models, Recipe
from s2t_eval.reproduce.settings import Settings
from s2t_eval.reproduce.stage_runner import Note, StageRunner
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import State, StateError, locked
from s2t_eval.reproduce.work import Estimator, dtype_hint, measured_rate


class Reproduced(NamedTuple):
    """What was reproduced: the output folder, and the recipe as it was read when the run began."""

    out: Path
    recipe: Recipe


def reproduce(settings: Settings, note: Note = print) -> Reproduced:
    """Run what a recipe still lacks, or show the plan.

    Args:
        settings: what to do.
        note: takes each line that is shown.

    Returns:
        The output folder, and the recipe: its file may be another one, or gone, when the run has ended.

    Raises:
        RecipeError: a recipe that cannot be used.
        StateError: an output folder that cannot be used.
        StageFailedError: a command that failed, or several with `keep_going`.
        ValueError: `jobs` below 1.
        InterruptedRunError: Ctrl-C, or a request to end.
    """
    AT_LEAST_1.require("--jobs", settings.jobs)
    read = read_recipe(settings.recipe, settings.set)
    out = settings.out.absolute()
    require_reusable_folder(out, "one of `s2t-eval reproduce`", [LOCK, "state/*"])
    stages = build_stages(read, out)
    _require_stages(settings.keep, stages)
    models = read.recipe.models
    _require_teacher_loading(models)
    _require_device(models.device)
    require_arguments(read.recipe, stages)
    state = State(out, settings.keep)
    estimator = Estimator(measured_rate(models.dtype, models.device), finished_stages(stages, state))
    if settings.plan:
        steps = make_plan(stages, state, estimator)
        note(plan_text(read.source, read.recipe.title, out, steps, estimator, settings.jobs))
        if read.recipe.servers is not None:
            note("The estimates leave out what servers compute.")
        if (hint := dtype_hint(models.dtype, models.device)) is not None:
            note(hint)
        for stage in stages:
            for missing in missing_inputs(stage, state):
                note(f"{stage.name}: {missing}; without --plan the command ends here")
        return Reproduced(out, read.recipe)
    with locked(out), _ended_by_signals():
        end_marked(out)
        require_none_running(out)
        StageRunner(read, stages, state, estimator, note, settings.jobs, settings.keep_going).run()
    return Reproduced(out, read.recipe)


def _require_teacher_loading(models: Models) -> None:
    """Raise `RecipeError` for arguments with which no teacher can be loaded: not when labels begin."""
    from s2t_eval.model_wrappers.splitting import require_teacher_names
    from s2t_eval.model_wrappers.teacher import require_teacher_options

    try:
        require_teacher_names("models.teacher_args", models.teacher_args)
        require_teacher_options(models.teacher_loading, {})
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _require_device(device: str | None) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(
            f"models.device: expected a device of this machine, got {device!r} ({reason}); leave it out to "
            "take a GPU where there is one"
        ) from error


def _require_stages(names: Sequence[str], stages: Sequence[Stage]) -> None:
    known = [stage.name for stage in stages]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StateError(f"--keep: {unknown[0]!r} is no step of this recipe; there are {', '.join(known)}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A request to end the process ends it as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def show(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)
