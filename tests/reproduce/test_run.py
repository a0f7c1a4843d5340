"""Stages run once, again when what they read has changed, and go on after `kill -9` without losing work.

The stages here are real commands in processes of their own: small programs that write a few files slowly, as
`collect` and lm_eval do. `test_end_to_end.py` kills the real ones.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.content import content_hash
from s2t_eval.reproduce.plan import finished_stages, make_plan, plan_text
from s2t_eval.reproduce.process import (
    MARK,
    Progress,
    RunningCommand,
    StageFailedError,
    end_marked,
    is_alive,
    require_none_running,
)
from s2t_eval.reproduce.read import RecipeError
from s2t_eval.reproduce.run import reproduce
from s2t_eval.reproduce.settings import Settings
from s2t_eval.reproduce.stages import Stage, trace_of
from s2t_eval.reproduce.state import Decision, State, StateError, locked
from s2t_eval.reproduce.work import Estimator, Finished, Work, duration
from s2t_eval.training.work_folder import unfinished_folder

PATIENCE = 60.0
"""Seconds until a test gives up on something that has to happen."""
PROGRAM = """
import os, pathlib, sys, time
out, count, pause = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(os.environ.get("PAUSE", 0))
out.mkdir(exist_ok=True)
for i in range(count):
    print(f"Working: {100 * i // count:3d}%|#| {i}/{count}", flush=True)
    item = out / f"{i}.txt"
    if not item.exists():
        time.sleep(pause)
        item.write_text("done")
        with (out.parent / "log.txt").open("a") as log:
            log.write(f"{i}\\n")
(out / "whole.json").write_text("[]")
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder, and the program as a module that stages can run."""
    (tmp_path / "worker.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def stage(out: Path, name: str = "work", count: int = 3, **fields: Any) -> Stage:
    place = out / name
    return Stage(name, "scan", ("worker", str(place), str(count)), place, **fields)


def run(state: State, one: Stage, made: dict[str, str | None] | None = None) -> Decision:
    """What `_Run` does with a stage."""
    inputs = state.inputs(one, made or {})
    decision = state.decide(one, inputs)
    if decision.earlier is not None:
        state.put_back(one, decision.earlier)
    if decision.runs:
        record = state.begin(one, inputs, decision.resumes)
        command = RunningCommand(one.name, one.command, state.out / "logs" / "log.txt", state.out)
        try:
            until(command.has_ended)
        except BaseException:
            command.stop()
            raise
        state.finish(one, replace(record, seconds=command.progress().seconds))
    return decision


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# ---------------------------------------------------------------- when a stage runs


def test_a_stage_runs_once(out: Path) -> None:
    state = State(out)
    assert run(state, stage(out)) == Decision(True, "not run yet")
    assert run(state, stage(out)) == Decision(False)
    assert (out / "log.txt").read_text() == "0\n1\n2\n"


def test_a_changed_command_setting_or_input_runs_it_again_and_says_why(out: Path) -> None:
    state, data = State(out), out / "data.jsonl"
    data.write_text("one")
    one = stage(out, part={"lr": 1}, files=(data,), needs={"labels": out / "labels"})
    run(state, one, {"labels": "a"})
    assert not run(state, one, {"labels": "a"}).runs
    other = stage(out, count=2, part={"lr": 2}, files=(data,), needs={"labels": out / "labels"})
    assert state.decide(other, state.inputs(other, {"labels": "a"})).why == (
        "changed since: its command line, its settings"
    )
    assert state.decide(one, state.inputs(one, {"labels": "b"})).why == "changed since: labels"
    data.write_text("two")
    assert state.decide(one, state.inputs(one, {"labels": "a"})).why == f"changed since: {data}"


def test_what_an_earlier_run_made_is_set_aside(out: Path) -> None:
    state = State(out)
    run(state, stage(out, count=3))
    run(state, stage(out, count=2))
    assert not (out / "work" / "2.txt").exists()
    [earlier] = (out / "earlier").iterdir()
    assert (earlier / "2.txt").read_text() == "done"


def test_a_whole_result_is_put_back_when_its_settings_return(out: Path) -> None:
    """Back at the first settings everything was made again, and what lay in `earlier/` was removed for it."""
    state, first, second = State(out), stage(out, count=3), stage(out, count=2)
    run(state, first)
    record = state.read("work")
    run(state, second)
    log = (out / "log.txt").read_text()
    for one, items in ((first, 3), (second, 2), (first, 3)):
        decision = run(state, one)
        assert not decision.runs and decision.earlier is not None
        assert len(list(one.output.glob("*.txt"))) == items
        assert run(state, one) == Decision(False)
        assert len(list((out / "earlier").iterdir())) == 1
    assert state.read("work") == record
    assert (out / "log.txt").read_text() == log  # nothing was made again


def test_a_whole_result_is_not_lost_to_unfinished_work_of_the_same_settings(out: Path) -> None:
    """Labels with setting A, B, A interrupted, B: the whole ones of A in `earlier/` were removed.

    The place of whole ones that an earlier version set aside, without a record, is not taken either.
    """
    state, first, second = State(out), stage(out, count=3), stage(out, count=2)
    run(state, first)
    run(state, second)
    [whole] = (out / "earlier").iterdir()
    (out / "state" / "earlier" / f"{whole.name}.json").unlink()
    inputs = state.inputs(first, {})
    assert state.decide(first, inputs) == Decision(True, "changed since: its command line")
    state.begin(first, inputs, resumes=False)
    first.output.mkdir()
    (first.output / "0.txt").write_text("half")
    run(state, second)
    assert {path.name for path in whole.iterdir()} == {"0.txt", "1.txt", "2.txt", "whole.json"}
    half = whole.with_name(f"{whole.name}-unfinished")
    assert [path.name for path in half.iterdir()] == ["0.txt"]
    assert run(state, first).runs  # nothing says that it is whole
    run(state, second)
    assert not run(state, first).runs  # now a record does


def test_unfinished_work_in_an_output_goes_on_when_its_settings_return(out: Path) -> None:
    state, first, second = State(out), stage(out, count=3), stage(out, count=2)
    inputs = state.inputs(first, {})
    state.write(replace(state.begin(first, inputs, resumes=False), seconds=70.0))
    first.output.mkdir()
    (first.output / "0.txt").write_text("done before")
    run(state, second)
    [step] = make_plan([first], state, Estimator(1.0))
    assert (step.why, step.spent) == ("it was interrupted, and goes on", 70.0)
    assert run(state, first).resumes
    assert (first.output / "0.txt").read_text() == "done before"
    record = state.read("work")
    assert record is not None and record.status == "done" and (first.output / "2.txt").exists()


def test_what_was_changed_in_earlier_is_made_again(out: Path) -> None:
    state, first = State(out), stage(out, count=3)
    run(state, first)
    run(state, stage(out, count=2))
    [whole] = (out / "earlier").iterdir()
    (whole / "1.txt").write_text("mine")
    assert run(state, first).why == "changed since: its command line"
    assert (first.output / "1.txt").read_text() == "done"


def test_a_result_is_put_back_with_its_trace(out: Path) -> None:
    """A trace lies beside its results, and the analysis reads it there."""
    trace = trace_of(out / "work")
    first, second = (stage(out, count=count, scratch=(trace,)) for count in (3, 2))
    state = State(out)
    for one in (first, second):
        run(state, one)
        trace.write_text(one.command[-1])
    assert not run(state, first).runs and trace.read_text() == "3"
    assert not run(state, second).runs and trace.read_text() == "2"
    [kept] = (out / "earlier").glob("*.trace.jsonl")
    kept.unlink()
    assert run(state, first).runs and not trace.exists()


@pytest.mark.parametrize("killed_at", ["write", "replace", "unlink"])
def test_a_kill_while_a_result_is_put_back_loses_none(
    killed_at: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, first, second = State(out), stage(out, count=3), stage(out, count=2)
    run(state, first)
    run(state, second)
    decision = state.decide(first, state.inputs(first, {}))
    assert decision.earlier is not None
    [whole] = (out / "earlier").iterdir()
    replace_path, unlink = os.replace, Path.unlink
    record = out / "state" / "earlier" / f"{whole.name}.json"

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    def kill_or_replace(source: Any, place: Any) -> None:
        kill() if source == whole else replace_path(source, place)

    def kill_or_unlink(path: Path, missing_ok: bool = False) -> None:
        kill() if path == record else unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        if killed_at == "write":
            patched.setattr(State, "write", kill)
        elif killed_at == "replace":
            patched.setattr(os, "replace", kill_or_replace)
        else:
            patched.setattr(Path, "unlink", kill_or_unlink)
        with pytest.raises(KeyboardInterrupt):
            state.put_back(first, decision.earlier)
    for one, items in ((first, 3), (second, 2), (first, 3)):
        assert not run(state, one).runs
        assert len(list(one.output.glob("*.txt"))) == items


def test_another_version_of_the_package_runs_everything_again_but_what_is_kept(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(State(out), stage(out))
    monkeypatch.setattr("s2t_eval.reproduce.state.package_identity", lambda: {"commit": "another"})
    one = stage(out)
    assert State(out).decide(one, State(out).inputs(one, {})).why == "changed since: s2t-eval itself"
    kept = State(out, keep=["work"])
    assert not kept.decide(one, kept.inputs(one, {})).runs


def test_an_interrupted_step_is_not_kept_through_another_version(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on with the new code in the work of the old, and its record named the new commit alone."""
    state, one = State(out, keep=["work"]), stage(out)
    state.begin(one, state.inputs(one, {}), resumes=False)
    assert state.decide(one, state.inputs(one, {})).resumes
    monkeypatch.setattr("s2t_eval.reproduce.state.package_identity", lambda: {"commit": "another"})
    assert state.decide(one, state.inputs(one, {})) == Decision(True, "changed since: s2t-eval itself")


def test_an_output_that_is_gone_or_was_touched_is_made_again(out: Path) -> None:
    state = State(out)
    run(state, stage(out))
    (out / "work" / "1.txt").write_text("half")
    assert run(state, stage(out)).why == "its output was changed by something else"
    assert (out / "work" / "1.txt").read_text() == "done"
    (out / "work").rename(out / "elsewhere")
    assert run(state, stage(out)).why == "its output is missing"


def test_files_of_others_are_not_overwritten(out: Path) -> None:
    (out / "work").mkdir()
    (out / "work" / "mine.txt").write_text("mine")
    with pytest.raises(StateError, match="is there, and no run of this recipe made it"):
        run(State(out), stage(out))
    assert (out / "work" / "mine.txt").read_text() == "mine"


def test_a_kill_while_a_stage_is_prepared_is_no_foreign_output(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy was made before the record: killed in between, the next run refused the copy."""
    state, first = State(out), stage(out, "first", count=1)
    run(state, first)
    second = stage(out, "second", count=2, copy_of=first.output)

    def copy_and_be_killed(source: Path, place: Path) -> None:
        place.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", copy_and_be_killed)
        with pytest.raises(KeyboardInterrupt):
            run(state, second)
    assert run(state, second).resumes
    assert {path.name for path in second.output.iterdir()} >= {"1.txt", "whole.json"}


def test_a_copy_is_changed_and_its_original_is_not(out: Path) -> None:
    state = State(out)
    first = stage(out, "first", count=1)
    run(state, first)
    second = stage(out, "second", count=2, copy_of=first.output, needs={"first": first.output})
    run(state, second, {"first": "a"})
    assert {path.name for path in second.output.iterdir()} == {"0.txt", "1.txt", "whole.json"}
    assert {path.name for path in first.output.iterdir()} == {"0.txt", "whole.json"}
    assert not run(state, first).runs


# ---------------------------------------------------------------- kill -9, Ctrl-C, failures

DRIVER = """
import sys
from pathlib import Path
from s2t_eval.reproduce.state import State, locked
from s2t_eval.reproduce.process import end_marked
from tests.reproduce.test_run import run, stage
out = Path(sys.argv[1])
with locked(out):
    end_marked(out)
    print(run(State(out), stage(out, count=6)).why, flush=True)
"""


def drive(out: Path, pause: float) -> subprocess.Popen[str]:
    """A run in a process of its own, whose stage takes so many seconds for each item."""
    environment = {**os.environ, "PAUSE": str(pause)}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(out)], stdout=subprocess.PIPE, text=True, env=environment
    )


def marked(out: Path) -> list[int]:
    """Processes of stages of this output folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={out}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftover processes are found in /proc")
def test_kill_9_loses_and_repeats_nothing(out: Path) -> None:
    """The run itself is killed; its stage goes on as an orphan until the same command ends and resumes it."""
    state, one = State(out), stage(out, count=6)
    state.begin(one, state.inputs(one, {}), resumes=False)
    one.output.mkdir()
    for i in range(3):  # finished before, so that the program is at work on the fourth
        (one.output / f"{i}.txt").write_text("done")
    log = out / "logs" / "log.txt"
    with drive(out, pause=600.0) as killed:
        until(lambda: log.exists() and "50%" in log.read_text())
        killed.send_signal(signal.SIGKILL)
    [orphan] = marked(out)
    with drive(out, pause=0.0) as again:
        said, _ = again.communicate(timeout=PATIENCE)
    assert (again.returncode, said) == (0, "it was interrupted, and goes on\n")
    assert marked(out) == [] and not is_alive(Path(f"/proc/{orphan}"))  # init may not have waited for it yet
    assert (out / "log.txt").read_text() == "3\n4\n5\n"  # each missing item once, no finished one again
    record = state.read("work")
    assert record is not None and record.status == "done"


@pytest.mark.parametrize(
    ("kind", "half", "whole"),
    [
        ("collect", "work/settings.json", "manifest.json"),
        ("train", None, "selector.json"),
        ("tah stage 1", None, "tah.json"),
        ("calibrate", None, ""),
    ],
)
def test_an_output_that_was_whole_before_the_kill_is_taken_as_it_is(
    out: Path, kind: str, half: str | None, whole: str
) -> None:
    """Killed between the end of the command and the record: `collect` would refuse its finished folder."""
    state, one = State(out), replace(stage(out), kind=kind)
    inputs = state.inputs(one, {})
    record = state.begin(one, inputs, resumes=False)
    if half is not None:
        (one.output / half).parent.mkdir(parents=True)
        (one.output / half).write_text("{}")
    assert state.decide(one, inputs) == Decision(True, "it was interrupted, and goes on", resumes=True)
    file = one.output / whole if whole else one.output
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    assert state.decide(one, inputs).is_whole
    state.finish(one, record)
    assert not state.decide(one, inputs).runs
    assert half is None or not (one.output / half).exists()


def test_a_second_stage_is_whole_where_its_own_work_is(out: Path) -> None:
    """Its folder begins as a copy of the first stage's: being there says nothing."""
    state, one = State(out), replace(stage(out), kind="tah stage 2")
    inputs = state.inputs(one, {})
    state.begin(one, inputs, resumes=False)
    one.output.mkdir()
    (one.output / "tah.json").write_text('{"decider": null}')
    assert state.decide(one, inputs).resumes
    (one.output / "tah.json").write_text('{"decider": {"width": 8}}')
    assert state.decide(one, inputs).is_whole


@pytest.mark.parametrize("kind", ["report", "keep", "analyze", "choose"])
def test_half_written_tables_are_removed(out: Path, kind: str) -> None:
    """Their commands refuse a folder of files that they do not know as their own."""
    state, one = State(out), replace(stage(out), kind=kind)
    state.begin(one, state.inputs(one, {}), resumes=False)
    one.output.mkdir()
    (one.output / "report.md").write_text("half")
    assert run(state, one).why == "it was interrupted, and begins anew"
    assert not (one.output / "report.md").exists()


@pytest.mark.parametrize("kind", ["calibrate", "tah label"])
def test_work_of_other_settings_is_removed_with_its_record(out: Path, kind: str) -> None:
    """What a calibration has measured lies beside its file, and its command refuses that of others."""
    unfinished = unfinished_folder(out / "work")
    state, one = State(out), replace(stage(out), kind=kind, scratch=(unfinished,))
    state.begin(one, state.inputs(one, {}), resumes=False)
    unfinished.mkdir()
    state.begin(one, state.inputs(one, {}), resumes=True)
    assert unfinished.exists()
    other = replace(one, part="changed")
    state.begin(other, state.inputs(other, {}), resumes=False)
    assert not unfinished.exists()


def test_a_collection_that_had_hardly_begun_begins_again(out: Path) -> None:
    """`collect` goes on where its settings lie, and refuses other folders that hold something."""
    state, one = State(out), replace(stage(out), kind="collect")
    inputs = state.inputs(one, {})
    state.begin(one, inputs, resumes=False)
    (one.output / "work" / "rollouts").mkdir(parents=True)
    state.begin(one, inputs, resumes=True)
    assert not one.output.exists()
    (one.output / "work").mkdir(parents=True)
    (one.output / "work" / "settings.json").write_text("{}")
    state.begin(one, inputs, resumes=True)
    assert (one.output / "work" / "settings.json").exists()


def test_half_written_results_are_not_whole(out: Path) -> None:
    """lm_eval writes results before samples: without those the run is made again, in an empty folder."""
    state, one = State(out), replace(stage(out), kind="evaluate")
    inputs = state.inputs(one, {})
    state.begin(one, inputs, resumes=False)
    one.output.mkdir()
    (one.output / "results_2026.json").write_text('{"results": {')
    decision = state.decide(one, inputs)
    assert decision.resumes and not decision.is_whole
    state.begin(one, inputs, resumes=True)
    assert not one.output.exists()


def test_interrupted_work_with_other_inputs_begins_anew(out: Path) -> None:
    state, one = State(out), stage(out)
    state.begin(one, state.inputs(one, {}), resumes=False)
    one.output.mkdir()
    (one.output / "0.txt").write_text("of other settings")
    other = stage(out, part="changed")
    assert run(state, other).why == "changed since: its settings"
    assert (other.output / "0.txt").read_text() == "done"


def test_a_failed_command_is_one_line_and_runs_again(out: Path) -> None:
    broken = Stage("bad", "collect", ("worker", str(out / "no" / "such"), "1"), out / "bad")
    with pytest.raises(StageFailedError) as caught:
        run(State(out), broken)
    said = str(caught.value)
    assert said.startswith("bad failed (exit code 1): ") and "FileNotFoundError" in said and "\n" not in said
    inputs = State(out).inputs(broken, {})
    assert State(out).decide(broken, inputs).resumes


def test_a_stopped_command_leaves_nothing_behind(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUSE", "600")
    command = RunningCommand("work", stage(out).command, out / "logs" / "log.txt", out)
    until(lambda: bool(marked(out)))
    command.stop()
    assert marked(out) == [] and end_marked(out) == 0
    assert not list((out / "state" / "processes").iterdir())


def test_a_job_of_a_script_ends_its_command_too(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started with `&` by a script, it ignores Ctrl-C like all that it starts: each took 20 s to end."""
    monkeypatch.setenv("PAUSE", "600")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command = RunningCommand("work", stage(out).command, out / "logs" / "log.txt", out)
        until(lambda: bool(marked(out)))
        command.stop()
    finally:
        signal.signal(signal.SIGINT, before)
    assert command.process.returncode == -signal.SIGTERM


def test_without_proc_a_running_step_is_waited_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without /proc its processes are not found: two of them would write one folder."""
    (out / "state" / "processes").mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as step:
        running = out / "state" / "processes" / str(step.pid)
        running.touch()
        require_none_running(out)  # there is /proc: what is not marked there is none of ours
        monkeypatch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(StageFailedError, match=rf"kill -TERM -- -{step.pid}`$"):
            require_none_running(out)
        monkeypatch.undo()
        step.communicate(b"\n")
    require_none_running(out)
    assert not running.exists()


def test_progress_is_read_from_the_log(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUSE", "0.1")
    command = RunningCommand("work", stage(out, count=4).command, out / "logs" / "log.txt", out)
    seen: list[Progress] = []

    def look() -> bool:
        seen.append(command.progress())
        return command.has_ended()

    until(look)
    shown = [progress for progress in seen if progress.phase]
    assert {progress.phase for progress in shown} == {"Working"}
    assert [progress.share for progress in shown] == sorted(progress.share for progress in shown)
    assert Progress(10.0, "Working", 0.25).rest == pytest.approx(30.0)
    assert Progress(10.0, "", 0.0).rest is None


def test_two_runs_do_not_share_a_folder(out: Path) -> None:
    with locked(out), pytest.raises(StateError, match="is at work there; wait for it"), locked(out):
        pass
    with locked(out):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(
    number: int, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for another run at work there, which one would wait for without end."""

    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StateError, match=rf"cannot lock files \({os.strerror(number)}\)"), locked(out):
        pass


def test_files_in_a_folder_named_cache_count(tmp_path: Path) -> None:
    """Models lie in ~/.cache: leaving out every path with such a part gave all the hash of nothing."""
    folder = tmp_path / ".cache" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    before = content_hash(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("of a download")
    assert content_hash(folder) == before
    (folder / "model.safetensors").write_bytes(b"others!")
    assert content_hash(folder) != before


def test_large_files_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2t_eval.artifacts.content.WHOLE_BYTES", 1 << 20)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(5 << 20))
    before = content_hash(file)
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        opened.write(b"x")
    assert content_hash(file) != before  # the end is among the samples
    file.write_bytes(bytes((5 << 20) + 1))
    assert content_hash(file) not in (before, None)  # and the size counts


def test_a_damaged_record_is_named(out: Path) -> None:
    state = State(out)
    run(state, stage(out))
    state.path("work").write_text('{"stage": "work"')
    with pytest.raises(
        StateError, match=r"work\.json: no record of a step .* remove the file to run the step again"
    ):
        state.read("work")


# ---------------------------------------------------------------- plan and estimates


def test_the_plan_says_what_is_done_and_why_the_others_run(out: Path) -> None:
    first = stage(out, "first", work=Work(parameter_tokens=100.0))
    second = stage(out, "second", needs={"first": first.output}, work=Work(parameter_tokens=300.0))
    third = stage(out, "third", work=Work(parameter_tokens=300.0))
    state = State(out)
    run(state, first)
    run(state, second, {"first": state.read("first").output})  # type: ignore[union-attr]
    stages = [first, second, third]
    estimator = Estimator(1.0, finished_stages(stages, state))
    steps = make_plan(stages, state, estimator)
    assert [step.is_done for step in steps] == [True, True, False]
    text = plan_text("mine.yaml", "small", out, steps, estimator)
    assert "   1  first" in text and "done\n" in text and "runs: not run yet" in text
    assert "2 done, 1 to run: about " in text and "from finished steps of the same kinds" in text
    changed = [stage(out, "first", part="new"), second, third]
    why = [step.why for step in make_plan(changed, state, estimator)]
    assert why == ["changed since: its settings", "after first, if what that makes differs", "not run yet"]
    assert not (out / "third").exists()  # a plan runs nothing
    everything = make_plan(stages[:2], state, estimator)
    assert plan_text("mine.yaml", "small", out, everything, estimator).endswith("Everything is done.")


def test_the_plan_subtracts_what_is_done_and_divides_by_jobs(out: Path) -> None:
    """Labels that were killed after eight of nine hours were planned with nine, six jobs with all."""
    hours = 3600.0
    stages = [replace(stage(out, name), work=Work(fixed=9 * hours, starts=0)) for name in ("a", "b", "c")]
    state, estimator = State(out), Estimator(1.0)
    record = state.begin(stages[0], state.inputs(stages[0], {}), resumes=False)
    state.write(replace(record, seconds=8 * hours))
    steps = make_plan(stages, state, estimator)
    assert [step.seconds for step in steps] == [hours, 9 * hours, 9 * hours]
    ends = [plan_text("", "", out, steps, estimator, jobs).splitlines()[-1] for jobs in (1, 2, 6)]
    assert ends[0].startswith("0 done, 3 to run: about 19 h on this machine (")
    assert "about 9 h 30 min on this machine, 2 steps at once" in ends[1]
    assert "about 9 h on this machine, 6 steps at once" in ends[2]  # no less than the longest step
    table = replace(stages[0], kind="report")  # its command begins at its beginning
    [step] = make_plan([replace(table, name="a")], state, estimator)
    assert step.seconds == 9 * hours


def test_finished_texts_of_a_cache_are_no_measure_of_the_rest(out: Path) -> None:
    """With 900 of 1,000 texts from the cache after 20 s, `about 2 s left` stood there for an hour."""
    command = RunningCommand("work", stage(out, count=0).command, out / "logs" / "log.txt", out)
    until(command.has_ended)

    def shown(bar: str, seconds: float) -> Progress:
        command.log.write_text(" " * command.log_begin + bar)
        command.began = time.monotonic() - seconds
        return command.progress()

    assert shown("greedy:   0%|", 10.0).rest is None
    assert shown("greedy:  90%|", 20.0).rest is None
    assert shown("greedy:  92%|", 420.0).rest == pytest.approx(1600.0, rel=0.01)
    assert shown("Scoring:   4%|", 500.0).rest is None  # another bar
    assert shown("Scoring:  54%|", 600.0).rest == pytest.approx(92.0, rel=0.01)


def test_estimates_follow_what_finished_steps_took() -> None:
    work = Work(parameter_tokens=1e6)
    prior = Estimator(1e5)
    assert prior.seconds("train", work) == pytest.approx(20.0)  # a start and the work
    assert "matrix product" in prior.basis(["train"])
    prior.add(Finished("collect", work, 60.0))
    assert prior.seconds("train", work) == pytest.approx(60.0)  # this machine is three times as slow
    prior.add(Finished("train", work, 10.0))
    assert prior.seconds("train", work) == pytest.approx(10.0)  # its own kind counts
    assert prior.basis(["train"]) == "from finished steps of the same kinds"
    assert "other kinds" in prior.basis(["train", "scan"])


def test_durations() -> None:
    said = [duration(seconds) for seconds in (0, 40.4, 600, 3600 * 3 + 1200, 3600 * 5, 3600 * 53)]
    assert said == ["0 s", "40 s", "10 min", "3 h 20 min", "5 h", "2 d 5 h"]


def test_records_are_plain_json(out: Path) -> None:
    run(State(out), stage(out))
    record = json.loads((out / "state" / "work.json").read_text())
    assert record["status"] == "done" and set(record["inputs"]) >= {"its command line", "package"}


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    """`--plan` for a GPU machine ended in torch's traceback on a machine without one."""
    settings = Settings("embedded", out=tmp_path / "new", set=("models.device=cuda:99",), plan=True)
    with pytest.raises(RecipeError, match=r"^models\.device: expected a device .* got 'cuda:99' .*leave it"):
        reproduce(settings, print)


RECIPE = """
title: t
models: {student: embedded/student, teacher: embedded/teacher}
methods:
  greedy: {model: greedy}
  mine: {model: %s, arguments: {%s}}
tasks: [{task: s2t_arith, limit: 2}]
"""


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("s2t", 'teacher: "${teacher}", treshold: 2.4', "--model s2t: unknown argument 'treshold'; did you"),
        ("s2t", 'teacher: "${teacher}", tau: 2', "tau: expected a rate above 0, at most 1"),
        ("s2t", "threshold: 1, top_k: 0", "top_k: expected a whole number of at least 1, got 0"),
        ("s2t", "threshold: 1", "--model s2t: it needs teacher=MODEL"),
        ("tah", "tah: x, peft: y", "--model tah: peft= cannot be combined with tah="),
        ("greedy", "dtype: float99", "dtype: expected auto, float32"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plan", [True, False])
def test_arguments_of_a_method_are_checked_before_anything_runs(
    model: str, arguments: str, message: str, plan: bool, tmp_path: Path
) -> None:
    """A misspelt argument ended the reproduction at the method's own run, behind labels and training; so did
    a teacher, selector or folder that was not named."""
    (tmp_path / "recipe.yaml").write_text(RECIPE % (model, arguments))
    with pytest.raises(RecipeError) as caught:
        reproduce(Settings(str(tmp_path / "recipe.yaml"), out=tmp_path / "out", plan=plan))
    assert str(caught.value).startswith(f"s2t_arith/mine: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("teacher_args", "message"),
    [
        (
            "load_in_4bits: true",
            "models.teacher_args: unknown argument 'load_in_4bits'; did you mean 'load_in",
        ),
        ("bnb_4bit_quant_type: nf4", "teacher_bnb_4bit_quant_type: it belongs to teacher_load_in_4bit=True"),
        (
            "device_map: auto",
            "teacher_device_map: the model is only spread over devices with teach",
        ),
    ],
)
def test_a_teacher_s_arguments_are_checked_before_anything_runs(
    teacher_args: str, message: str, tmp_path: Path
) -> None:
    recipe = str(tmp_path / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_text(RECIPE % ("s2t", 'teacher: "${teacher}", threshold: 1'))
    change = f"models.teacher_args={{{teacher_args}}}"
    with pytest.raises(RecipeError) as caught:
        reproduce(Settings(recipe, out=tmp_path / "out", set=(change,)))
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_plan_of_a_recipe_with_a_quantized_teacher(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % ("s2t", 'teacher: "${teacher}", threshold: 1'))
    changes = ("models.teacher_args={load_in_4bit: true}", "calibration={problems: {task: s2t_arith}}")
    lines: list[str] = []
    settings = Settings(str(tmp_path / "recipe.yaml"), out=tmp_path / "out", set=changes, plan=True)
    reproduce(settings, lines.append)
    shown = "\n".join(lines)
    assert "calibration" in shown and "s2t_arith/mine" in shown
