"""Runs stages: each only where it has to run, several at once where they need nothing of each other.

Several at once are meant for a large GPU, which the small operations of one decoding leave mostly idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from s2t_eval.reproduce.lock import LOCK, write_lock
from s2t_eval.reproduce.missing import require_inputs
from s2t_eval.reproduce.plan import PUT_BACK, make_plan, shared_seconds
from s2t_eval.reproduce.process import POLL_SECONDS, Progress, RunningCommand, StageFailedError, end_marked
from s2t_eval.reproduce.read import ReadRecipe
from s2t_eval.reproduce.stages import EVALUATE, SCAN, Stage, record_name
from s2t_eval.reproduce.state import Record, State
from s2t_eval.reproduce.work import Estimator, Finished, duration

NOTE_SECONDS = 30.0
"""Between two notes on a stage at work: each stays in a log, and in the stage's record."""

Note = Callable[[str], None]


class InterruptedRunError(Exception):
    """Ctrl-C; the message is the one line that is printed."""


@dataclass
class _AtWork:
    """A stage whose command runs: its place in the order, its record when it began, time of its last note."""

    number: int
    stage: Stage
    record: Record
    command: RunningCommand
    noted: float


class StageRunner:
    """Runs the stages of a recipe, as many at once as `jobs` says.

    Args:
        read: the recipe.
        stages: in an order in which each follows what it needs.
        state: their records.
        estimator: of their seconds; each finished stage is added.
        note: takes each line that is shown.
        jobs: stages at work at once.
        keep_going: after a stage has failed, still run those that do not need it.
    """

    def __init__(
        self,
        read: ReadRecipe,
        stages: Sequence[Stage],
        state: State,
        estimator: Estimator,
        note: Note,
        jobs: int,
        keep_going: bool,
    ) -> None:
        self.read, self.stages, self.state = read, stages, state
        self.estimator, self.note = estimator, note
        self.jobs, self.keep_going = jobs, keep_going
        self.waiting = list(enumerate(stages, 1))
        self.at_work: dict[str, _AtWork] = {}
        self.made: dict[str, str | None] = {}
        self.failures: list[StageFailedError] = []
        self.next_name = "the first step"
        self.spent: dict[str, float] = {}
        self.has_changed = False  # whether a step was begun or found whole: else the lock stays as it is

    def _spent(self) -> dict[str, float]:
        """Stages that will run, as far as that is known before the first one, with what is spent on each."""
        steps = make_plan(self.stages, self.state, self.estimator)
        return {step.stage.name: step.spent for step in steps if not step.is_done}

    def run(self) -> None:
        """Run all of them.

        Raises:
            StateError: an input that is not there; nothing was run or moved for that step.
            StageFailedError: a command that failed, or several with `keep_going`.
            InterruptedRunError: Ctrl-C, or a request to end; the commands at work have been ended.
        """
        require_inputs(self.stages, self.state)
        self.spent = self._spent()  # here: a stage that has begun has another record
        try:
            while self._has_begun_one() or self.at_work:
                self._wait()
        except KeyboardInterrupt:
            names = ", ".join(self.at_work) or self.next_name
            raise InterruptedRunError(
                f"interrupted at {names}; the same command goes on from there"
            ) from None
        finally:
            self._stop_all()
            if self.has_changed or not (self.state.out / LOCK).exists():
                self._lock()
        if self.failures:
            skipped = [stage.name for _, stage in self.waiting]
            rest = f"; not run, because they need it: {', '.join(skipped)}" if skipped else ""
            raise StageFailedError("; ".join(map(str, self.failures)) + rest)

    def _has_begun_one(self) -> bool:
        """Begin the stages that can begin; whether any was there, one that is done already included."""
        has_begun = False
        for number, stage in list(self.waiting):
            if len(self.at_work) == self.jobs:
                break
            if all(name in self.made for name in stage.needs):
                self.waiting.remove((number, stage))
                self.next_name = stage.name
                self._begin(number, stage)
                has_begun = True
        return has_begun

    def _begin(self, number: int, stage: Stage) -> None:
        require_inputs([stage], self.state)  # again: a disk may have gone since the run began
        inputs = self.state.inputs(stage, self.made)
        decision = self.state.decide(stage, inputs)
        head = self._head(number, stage)
        is_first = not self.has_changed
        if decision.runs or decision.is_whole or decision.earlier is not None:
            self.has_changed = True
        if decision.earlier is not None:
            self.state.put_back(stage, decision.earlier)
        if decision.runs:
            rest = self._rest(stage, self.spent.get(stage.name, 0.0) if decision.resumes else 0.0)
            self.note(f"{head}: {decision.why}; about {duration(rest)}")
            record = self.state.begin(stage, inputs, decision.resumes)
            log = self.state.out / "logs" / f"{record_name(stage.name)}.log"
            command = RunningCommand(stage.name, stage.command, log, self.state.out, self.jobs)
            self.at_work[stage.name] = _AtWork(number, stage, record, command, time.monotonic())
            if is_first:
                self._lock()
            return
        begun_record = self.state.read(stage.name)
        assert begun_record is not None
        record = self.state.finish(stage, begun_record) if decision.is_whole else begun_record
        is_earlier = decision.earlier is not None
        done = (
            f"was done, and is {PUT_BACK}" if is_earlier else "was done" if decision.is_whole else "is done"
        )
        self.note(f"{head}: {done}")
        self.made[stage.name] = record.output

    def _wait(self) -> None:
        """Look after the commands at work, once every `POLL_SECONDS`."""
        if self.at_work:
            time.sleep(POLL_SECONDS)
        for work in list(self.at_work.values()):
            try:
                has_ended = work.command.has_ended()
            except StageFailedError as error:
                del self.at_work[work.stage.name]
                if not self.keep_going:
                    raise
                self.note(f"{self._head(work.number, work.stage)}: failed")
                self.failures.append(error)
                continue
            if has_ended:
                self._finish(work)
            elif time.monotonic() - work.noted >= NOTE_SECONDS:
                self._note_progress(work)

    def _finish(self, work: _AtWork) -> None:
        seconds = work.record.seconds + work.command.progress().seconds
        del self.at_work[work.stage.name]
        done = self.state.finish(work.stage, replace(work.record, seconds=seconds))
        self.estimator.add(Finished(work.stage.kind, work.stage.work, done.seconds))
        self.made[work.stage.name] = done.output
        left = self._remaining_text()
        self.note(f"{self._head(work.number, work.stage)}: done in {duration(done.seconds)}; {left}")

    def _note_progress(self, work: _AtWork) -> None:
        """Show how far a stage is, and keep the seconds in its record."""
        work.noted = time.monotonic()
        progress = work.command.progress()
        self.state.write(replace(work.record, seconds=work.record.seconds + progress.seconds))
        self.note(f"{self._head(work.number, work.stage)}: {self._progress_text(work, progress)}")

    def _stop_all(self) -> None:
        """End every command at work, all at the same time: each may take a while to keep what it has."""
        commands = [work.command for work in self.at_work.values()]
        if commands:
            with ThreadPoolExecutor(len(commands)) as pool:
                list(pool.map(RunningCommand.stop, commands))
        end_marked(self.state.out)

    def _head(self, number: int, stage: Stage) -> str:
        return f"[{number}/{len(self.stages)}] {stage.name}"

    def _progress_text(self, work: _AtWork, progress: Progress) -> str:
        stage = work.stage
        phase = f"{progress.phase} {progress.share:.0%}, " if progress.phase else ""
        own_seconds = self._rest(stage, work.record.seconds + progress.seconds)
        # Other phases may follow, unless a stage has one alone; the bar of a scan is of one of its runs.
        if progress.rest is not None and stage.kind != SCAN:
            has_one_phase = stage.kind == EVALUATE
            own_seconds = progress.rest if has_one_phase else max(own_seconds, progress.rest)
        in_all = self._remaining_seconds({stage.name: own_seconds})
        left = f"about {duration(own_seconds)} left here, {duration(in_all)} in all"
        return f"{phase}{duration(progress.seconds)} so far, {left}"

    def _remaining_text(self) -> str:
        count = len(self.waiting) + len(self.at_work)
        if not count:
            return "nothing is left"
        return f"about {duration(self._remaining_seconds({}))} for the {count} other steps"

    def _remaining_seconds(self, known: Mapping[str, float]) -> float:
        """Seconds until the stages at work and those that wait are done, shared by `jobs` evenly.

        Args:
            known: stage -> its own, where that is known better than by the estimate.
        """
        seconds = dict(known)
        for work in self.at_work.values():
            so_far = work.record.seconds + work.command.progress().seconds
            seconds.setdefault(work.stage.name, self._rest(work.stage, so_far))
        for _, stage in self.waiting:
            if stage.name in self.spent:
                seconds[stage.name] = self._rest(stage, self.spent[stage.name])
        return shared_seconds(list(seconds.values()), self.jobs)

    def _rest(self, stage: Stage, spent: float) -> float:
        return self.estimator.rest(stage.kind, stage.work, spent)

    def _lock(self) -> None:
        write_lock(self.read, self.stages, self.state)
