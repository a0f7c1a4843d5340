"""Stages at work at once: each begins when what it needs is made, and one that fails or is interrupted costs
the others nothing.

The stages are real commands in processes of their own: small programs that write when they begin and end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.content import content_hash
from s2t_eval.reproduce.lock import LOCK
from s2t_eval.reproduce.plan import finished_stages, make_plan, plan_text
from s2t_eval.reproduce.process import StageFailedError
from s2t_eval.reproduce.read import read_recipe
from s2t_eval.reproduce.run import reproduce
from s2t_eval.reproduce.settings import Settings
from s2t_eval.reproduce.stage_runner import InterruptedRunError, StageRunner
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import State
from s2t_eval.reproduce.work import Estimator, Work
from tests.reproduce.test_run import marked, until

PROGRAM = """
import os, pathlib, sys, time
out, others = pathlib.Path(sys.argv[1]), sys.argv[2:]
with (out.parent / "order.txt").open("a") as order:
    order.write(f"begin {out.name}\\n")
(out.parent / f"{out.name}.begun").touch()
while not all((out.parent / f"{name}.begun").exists() for name in others if name != "fail"):
    time.sleep(0.02)
if "fail" in others:
    sys.exit("it cannot be done")
out.write_text("made")
with (out.parent / "order.txt").open("a") as order:
    order.write(f"end {out.name}\\n")
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meeting.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def stage(out: Path, name: str, meets: tuple[str, ...] = (), needs: tuple[str, ...] = ()) -> Stage:
    """A stage that ends when the ones that it meets have begun; `fail`: with an error."""
    place = out / name
    return Stage(
        name, "scan", ("meeting", str(place), *meets), place, needs={need: out / need for need in needs}
    )


def run(out: Path, stages: list[Stage], jobs: int, note: Callable[[str], None], **settings: Any) -> None:
    state = State(out)
    estimator = Estimator(1.0, finished_stages(stages, state))
    keep_going = settings.pop("keep_going", False)
    StageRunner(read_recipe("embedded", ()), stages, state, estimator, note, jobs, keep_going).run()


def order(out: Path) -> list[str]:
    return (out / "order.txt").read_text().splitlines()


def test_stages_that_need_nothing_of_each_other_are_at_work_at_once(out: Path) -> None:
    """Each waits for the other to begin: one after the other they would never end."""
    notes: list[str] = []
    run(out, [stage(out, "a", ("b",)), stage(out, "b", ("a",))], 2, notes.append)
    assert sorted(order(out)) == ["begin a", "begin b", "end a", "end b"]
    assert [note.split(":")[0] for note in notes[:2]] == ["[1/2] a", "[2/2] b"]
    assert notes[-1].endswith("nothing is left")


def test_no_more_than_asked_for_are_at_work(out: Path) -> None:
    run(out, [stage(out, name) for name in "abc"], 1, lambda note: None)
    assert order(out) == [f"{what} {name}" for name in "abc" for what in ("begin", "end")]


def test_a_stage_begins_when_its_needs_are_made(out: Path) -> None:
    stages = [stage(out, "a"), stage(out, "b", needs=("a",)), stage(out, "c", needs=("a", "b"))]
    run(out, stages, 3, lambda note: None)
    assert order(out) == [f"{what} {name}" for name in "abc" for what in ("begin", "end")]


def test_what_is_done_is_not_run_again(out: Path) -> None:
    stages = [stage(out, "a"), stage(out, "b", needs=("a",))]
    run(out, stages, 2, lambda note: None)
    notes: list[str] = []
    run(out, stages, 2, notes.append)
    assert notes == ["[1/2] a: is done", "[2/2] b: is done"]
    assert len(order(out)) == 4


def test_what_was_done_with_these_settings_is_put_back_with_all_that_needs_it(out: Path) -> None:
    """A look at another setting cost the labels and everything that was trained on them."""

    def stages(part: str) -> list[Stage]:
        return [replace(stage(out, "a"), part=part), stage(out, "b", needs=("a",))]

    run(out, stages("one"), 1, lambda note: None)
    (out / "a").write_text("made with one")  # what the program writes does not depend on its settings
    state = State(out)
    record = state.read("a")
    assert record is not None
    state.write(replace(record, output=content_hash(out / "a")))
    run(out, stages("one"), 1, lambda note: None)
    run(out, stages("two"), 1, lambda note: None)
    before = order(out)
    plan = make_plan(stages("one"), State(out), Estimator(1.0))
    assert [step.is_done for step in plan] == [True, True]
    assert "a                                  done, put back from earlier/" in plan_text(
        "", "", out, plan, Estimator(1.0)
    )
    notes: list[str] = []
    run(out, stages("one"), 1, notes.append)
    assert notes == [
        f"[{i}/2] {name}: was done, and is put back from earlier/" for i, name in ((1, "a"), (2, "b"))
    ]
    assert order(out) == before and (out / "a").read_text() == "made with one"
    assert json.loads((out / LOCK).read_text())["steps"]["a"]["output"] == content_hash(out / "a")


def test_the_lock_names_what_the_steps_were_made_with(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at finished work from a laptop put the laptop and its packages into the lock."""
    first, second = stage(out, "a"), stage(out, "b", needs=("a",))
    run(out, [first], 1, lambda note: None)
    before = (out / LOCK).read_text()
    made_on = json.loads(before)["machine"]
    monkeypatch.setattr("s2t_eval.reproduce.environment.processor", lambda: "laptop")
    run(out, [first], 1, lambda note: None)
    assert (out / LOCK).read_text() == before  # nothing ran
    run(out, [first, second], 1, lambda note: None)
    after = json.loads((out / LOCK).read_text())
    assert after["machine"] == [made_on, {**made_on, "processor": "laptop"}]
    assert after["packages"] == json.loads(before)["packages"]  # one value where all agree


def test_what_will_run_again_is_part_of_the_time_that_is_left(out: Path) -> None:
    """Steps whose inputs had changed counted as done, and a trial's seconds as those of the whole recipe."""
    trial = [replace(stage(out, name), work=Work(fixed=0.0)) for name in "ab"]
    run(out, trial, 1, lambda note: None)
    [one, _] = finished_stages([replace(s, work=Work(fixed=990.0)) for s in trial], State(out))
    assert one.work == Work(fixed=0.0)
    # However fast the first one is, the other has 100,000 times its work.
    whole = [
        replace(s, part="whole", work=Work(fixed=work)) for s, work in zip(trial, (1.0, 1e5), strict=True)
    ]
    notes: list[str] = []
    run(out, whole, 1, notes.append)
    left = [note.rpartition("; ")[2] for note in notes if "done in" in note]
    assert left[0].endswith("for the 1 other steps") and not left[0].startswith("about 0 s")


def test_a_failure_ends_the_others_which_can_be_resumed(out: Path) -> None:
    """`waits` would wait for ever: it is ended, and its record says that it was interrupted."""
    stages = [stage(out, "waits", ("nobody",)), stage(out, "bad", ("waits", "fail"))]
    with pytest.raises(StageFailedError, match=r"^bad failed \(exit code 1\): it cannot be done; all of it"):
        run(out, stages, 2, lambda note: None)
    assert marked(out) == []
    state = State(out)
    assert state.decide(stages[0], state.inputs(stages[0], {})).resumes


def test_keep_going_runs_all_that_does_not_need_the_failed_one(out: Path) -> None:
    bad, after, other = stage(out, "bad", ("fail",)), stage(out, "after", needs=("bad",)), stage(out, "other")
    with pytest.raises(StageFailedError, match=r"^bad failed .*; not run, because they need it: after$"):
        run(out, [bad, after, other], 1, lambda note: None, keep_going=True)
    assert order(out) == ["begin bad", "begin other", "end other"]


def test_ctrl_c_ends_every_command_and_names_them(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = time.sleep

    def interrupt(seconds: float) -> None:
        monkeypatch.setattr(time, "sleep", sleep)
        until(lambda: len(marked(out)) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(InterruptedRunError, match=r"^interrupted at a, b; the same command goes on"):
        run(out, [stage(out, "a", ("nobody",)), stage(out, "b", ("nobody",))], 2, lambda note: None)
    assert marked(out) == []


def test_no_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--jobs: expected at least 1, got 0$"):
        reproduce(Settings("embedded", out=tmp_path / "out", jobs=0))
