"""`s2t-eval reproduce`: every stage of a recipe in its order, each only where it has to run."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.reproduce.build import build_stages
from s2t_eval.reproduce.lock import LOCK, write_lock
from s2t_eval.reproduce.plan import finished_stages, make_plan, plan_text
from s2t_eval.reproduce.process import Progress, end_marked, require_none_running, run_command
from s2t_eval.reproduce.read import ReadRecipe, read_recipe
from s2t_eval.reproduce.stages import EVALUATE, Stage
from s2t_eval.reproduce.state import Record, State, StateError, locked
from s2t_eval.reproduce.work import Estimator, Finished, dtype_hint, duration, measured_rate

NOTE_SECONDS = 30.0
"""Between two notes on a stage at work: each stays in a log, and in the stage's record."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """Arguments of `s2t-eval reproduce`.

    Args:
        recipe: path of a recipe, or the name of a shipped one.
        out: folder of everything that is made; the same command resumes the work in it.
        plan: show the steps and run nothing.
        set: changes of the recipe, `KEY.KEY=VALUE`.
        keep: finished steps that stay although s2t-eval itself has changed since.
    """

    recipe: str
    out: Path
    plan: bool = False
    set: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


class InterruptedRunError(Exception):
    """Ctrl-C; the message is the one line that is printed."""


def reproduce(settings: Settings, note: Note = print) -> Path:
    """Run what a recipe still lacks, or show the plan.

    Args:
        settings: what to do.
        note: takes each line that is shown.

    Returns:
        The output folder.

    Raises:
        RecipeError: a recipe that cannot be used.
        StateError: an output folder that cannot be used.
        StageFailedError: a command that failed.
        InterruptedRunError: Ctrl-C, or a request to end.
    """
    read = read_recipe(settings.recipe, settings.set)
    out = settings.out.absolute()
    require_reusable_folder("--out", out, "one of `s2t-eval reproduce`", [LOCK, "state/*"])
    stages = build_stages(read, out)
    _require_stages(settings.keep, stages)
    state = State(out, settings.keep)
    models = read.recipe.models
    estimator = Estimator(measured_rate(models.dtype, models.device), finished_stages(stages, state))
    if settings.plan:
        steps = make_plan(stages, state, estimator)
        note(plan_text(read.source, read.recipe.title, out, steps, estimator))
        if (hint := dtype_hint(models.dtype, models.device)) is not None:
            note(hint)
        return out
    with locked(out), _ended_by_signals():
        end_marked(out)
        require_none_running(out)
        _Run(read, stages, state, estimator, note).run()
    return out


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


class _Run:
    """The stages, one after the other."""

    def __init__(
        self, read: ReadRecipe, stages: Sequence[Stage], state: State, estimator: Estimator, note: Note
    ) -> None:
        self.read, self.stages, self.state = read, stages, state
        self.estimator, self.note = estimator, note
        self.made: dict[str, str | None] = {}
        self.noted = 0.0
        self.at_work = "the first step"

    def run(self) -> None:
        """All of them."""
        self._lock()
        try:
            for number, stage in enumerate(self.stages, 1):
                self.at_work = stage.name
                self._stage(number, stage)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted at {self.at_work}; the same command goes on from there"
            ) from None
        finally:
            self._lock()

    def _stage(self, number: int, stage: Stage) -> None:
        inputs = self.state.inputs(stage, self.made)
        decision = self.state.decide(stage, inputs)
        head = f"[{number}/{len(self.stages)}] {stage.name}"
        if decision.runs:
            self.note(f"{head}: {decision.why}; about {duration(self._estimated_seconds(stage))}")
            record = self._execute(head, stage, self.state.begin(stage, inputs, decision.resumes))
            self.note(f"{head}: done in {duration(record.seconds)}; {self._remaining_text(number)}")
        elif decision.is_whole:
            begun_record = self.state.read(stage.name)
            assert begun_record is not None
            record = self.state.finish(stage, begun_record)
            self.note(f"{head}: was done")
        else:
            finished_record = self.state.read(stage.name)
            assert finished_record is not None
            record = finished_record
            self.note(f"{head}: is done")
        self.made[stage.name] = record.output

    def _execute(self, head: str, stage: Stage, record: Record) -> Record:
        """Run the command, and update the seconds in its record every `NOTE_SECONDS`."""
        self.noted = time.monotonic()

        def on_progress(progress: Progress) -> None:
            if time.monotonic() - self.noted >= NOTE_SECONDS:
                self.noted = time.monotonic()
                self.state.write(replace(record, seconds=record.seconds + progress.seconds))
                self.note(f"{head}: {self._progress_text(stage, progress)}")

        log = self.state.out / "logs" / f"{stage.name.replace('/', '--')}.log"
        seconds = run_command(stage.name, stage.command, log, self.state.out, on_progress)
        done = self.state.finish(stage, replace(record, seconds=record.seconds + seconds))
        self.estimator.add(Finished(stage.kind, stage.work, done.seconds))
        return done

    def _progress_text(self, stage: Stage, progress: Progress) -> str:
        phase = f"{progress.phase} {progress.share:.0%}, " if progress.phase else ""
        stage_seconds = max(0.0, self._estimated_seconds(stage) - progress.seconds)
        if progress.rest is not None:  # other phases may follow, unless a stage has one alone
            has_one_phase = stage.kind == EVALUATE
            stage_seconds = progress.rest if has_one_phase else max(stage_seconds, progress.rest)
        later_seconds = self._remaining_seconds(self.stages.index(stage) + 1)
        total_seconds = stage_seconds + later_seconds
        left = f"about {duration(stage_seconds)} left here, {duration(total_seconds)} in all"
        return f"{phase}{duration(progress.seconds)} so far, {left}"

    def _remaining_text(self, number: int) -> str:
        if number == len(self.stages):
            return "nothing is left"
        seconds, count = self._remaining_seconds(number), len(self.stages) - number
        return f"about {duration(seconds)} for the {count} other steps"

    def _estimated_seconds(self, stage: Stage) -> float:
        return self.estimator.seconds(stage.kind, stage.work)

    def _remaining_seconds(self, number: int) -> float:
        """Seconds of the stages from this one on that are not done."""
        rest = self.stages[number:]
        records = [self.state.read(stage.name) for stage in rest]
        return sum(
            self._estimated_seconds(stage)
            for stage, record in zip(rest, records, strict=True)
            if record is None or record.status != "done"
        )

    def _lock(self) -> None:
        write_lock(self.read, self.stages, self.state)


def show(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr)
