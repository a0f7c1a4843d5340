"""What `--plan` shows: every step, what is done, why the others will run, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.artifacts.content import content_hash
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import BEGINS_ANEW, State
from s2t_eval.reproduce.work import Estimator, Finished, duration

NAME_WIDTH, WHY_WIDTH = 34, 52
PUT_BACK = "put back from earlier/"
"""What happens to a finished step whose inputs have returned."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the plan.

    Args:
        stage: the stage.
        why: it will run; where it is done, what happens to it, empty for nothing.
        seconds: it will still take; None where it is done.
        spent: seconds that interrupted attempts took whose work it resumes.
    """

    stage: Stage
    why: str
    seconds: float | None
    spent: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.seconds is None


def make_plan(stages: Sequence[Stage], state: State, estimator: Estimator) -> list[PlannedStage]:
    """Decide for every stage, as far as can be known before those in front of it have run."""
    made: dict[str, str | None] = {}
    waiting: set[str] = set()
    steps = []
    for stage in stages:
        upstream = [name for name in stage.needs if name in waiting]
        decision = state.decide(stage, state.inputs(stage, made))
        record = decision.earlier or state.read(stage.name)
        if upstream and record is not None and record.status == "done":
            why = f"after {upstream[0]}, if what that makes differs"
        else:
            why = decision.why if decision.runs else ""
        if decision.runs or upstream:
            waiting.add(stage.name)
            resumes = decision.resumes and stage.kind not in BEGINS_ANEW
            spent = record.seconds if resumes and record is not None else 0.0
            rest = estimator.rest(stage.kind, stage.work, spent)
            steps.append(PlannedStage(stage, why, rest, spent))
        else:
            steps.append(PlannedStage(stage, "" if decision.earlier is None else PUT_BACK, None))
        if decision.earlier is not None and decision.earlier.status == "done":
            made[stage.name] = decision.earlier.output
        else:
            made[stage.name] = content_hash(stage.output)
    return steps


def finished_stages(stages: Sequence[Stage], state: State) -> list[Finished]:
    """Stages whose duration is known, each with the work that took it: the recipe may set another one now."""
    records = [(stage, state.read(stage.name)) for stage in stages]
    return [
        Finished(stage.kind, record.work or stage.work, record.seconds)
        for stage, record in records
        if record is not None and record.status == "done" and record.seconds
    ]


def plan_text(
    source: str, title: str, out: Path, steps: Sequence[PlannedStage], estimator: Estimator, jobs: int = 1
) -> str:
    """The plan for people.

    Args:
        source, title: of the recipe.
        out: the output folder.
        steps: what `make_plan` returned.
        estimator: of their seconds.
        jobs: steps at work at once, which share the rest evenly as far as the longest one allows.
    """
    lines = [f"{source}: {title}", f"{len(steps)} steps into {out}", ""]
    for number, step in enumerate(steps, 1):
        done = f"done, {step.why}" if step.why else "done"
        state = done if step.seconds is None else f"runs: {step.why}"
        time = "" if step.seconds is None else f"about {duration(step.seconds)}"
        lines.append(f"{number:4}  {step.stage.name:{NAME_WIDTH}} {state:{WHY_WIDTH}} {time}".rstrip())
    rest = [step for step in steps if step.seconds is not None]
    lines.append("")
    if not rest:
        lines.append("Everything is done.")
    else:
        basis = estimator.basis(step.stage.kind for step in rest)
        at_once = f", {jobs} steps at once" if jobs > 1 else ""
        total = shared_seconds([step.seconds or 0.0 for step in rest], jobs)
        time = f"about {duration(total)} on this machine{at_once} ({basis})"
        lines.append(f"{len(steps) - len(rest)} done, {len(rest)} to run: {time}.")
    return "\n".join(lines)


def shared_seconds(seconds: Sequence[float], jobs: int) -> float:
    """Seconds until stages of these durations are done, `jobs` at once."""
    return max(sum(seconds) / jobs, *seconds, 0.0)
