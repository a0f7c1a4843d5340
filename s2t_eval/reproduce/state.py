"""What is done: a record for each stage, and the decision whether it has to run.

A record is written before its stage begins and again when it has ended. A run that was killed anywhere is
therefore detected: the record of its stage has the status `begun`, and its command resumes the work in the
output folder if, and only if, its inputs are the same as when it began.

What was made with other inputs is kept in `earlier/`, with its record in `state/earlier/`, and is put back
when its inputs return.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from s2t_eval.analysis.grid import is_done as has_whole_results
from s2t_eval.artifacts.content import content_hash, text_hash
from s2t_eval.artifacts.files import atomic_path, remove, write_text
from s2t_eval.artifacts.typed_json import conform, read_object
from s2t_eval.reproduce.environment import environment
from s2t_eval.reproduce.identity import data_identity, model_hash, package_identity
from s2t_eval.reproduce.stages import EVALUATE, TRACE, Stage, record_name, trace_of
from s2t_eval.reproduce.work import Work

WHOLE_IF_THERE = ("calibrate", "train", "distil", "rlkd", "tah label", "tah stage 1", "r2r train")
"""Kinds whose commands write their output under another name and rename it: there, it is whole."""
GOES_ON = ("collect", "scan", "tah stage 2", "download", "r2r label")
"""Kinds whose commands resume the work in their output; others' unfinished outputs are removed."""
BEGINS_ANEW = ("report", "keep", "analyze", "choose")
"""Kinds whose commands keep nothing until their end, which is seconds away."""
INTERRUPTED, INTERRUPTED_SHORT = "it was interrupted, and goes on", "it was interrupted, and begins anew"
PACKAGE = "package"
DATA_OF = "the data of "
NO_HASH = str(None)
"""In a record: of what is not there, and of data that come from the hub."""


class StateError(ValueError):
    """An output folder that cannot be used."""


@dataclass(frozen=True)
class Record:
    """What is known of a stage.

    Args:
        stage, kind: whose record it is.
        status: `begun` until its command ended without an error.
        inputs: name of each thing that it depends on -> hash.
        seconds: that it has run, interrupted attempts included.
        output: hash of what it made.
        models: role -> name in the recipe of each model that it loads; earlier versions kept none.
        made_with: the code, packages and machine when it began (`environment`); empty in earlier versions.
        work: what it had to do, to which its seconds belong; None in earlier versions.
    """

    stage: str
    kind: str
    status: Literal["begun", "done"]
    inputs: dict[str, str]
    seconds: float = 0.0
    output: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)
    work: Work | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs, and why.

    Args:
        runs: whether it does.
        why: for people; empty where it is done.
        resumes: whether unfinished work of the same inputs lies there.
        is_whole: whether its output is whole although its record has the status `begun`.
        earlier: record of what lies in `earlier/` of the same inputs, and has to be put back first; None
            where there is nothing to put back.
    """

    runs: bool
    why: str = ""
    resumes: bool = False
    is_whole: bool = False
    earlier: Record | None = None


class State:
    """The records of an output folder.

    Args:
        out: the folder.
        keep: finished stages that stay done where only the package has changed since.
    """

    def __init__(self, out: Path, keep: Collection[str] = ()) -> None:
        self.out = out.absolute()
        self.folder = self.out / "state"
        self.keep = frozenset(keep)

    def path(self, stage: str) -> Path:
        """Where a stage's record lies."""
        return self.folder / f"{record_name(stage)}.json"

    def read(self, stage: str) -> Record | None:
        """A stage's record; None where there is none.

        Raises:
            StateError: a record that cannot be read.
        """
        return self._read(self.path(stage))

    def _read(self, path: Path) -> Record | None:
        try:
            record: Record = conform(read_object(path), Record, "")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(
                f"{path}: no record of a step ({error}); remove the file to run the step again"
            ) from error
        return record

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.path(record.stage), _record_text(record))

    def inputs(self, stage: Stage, made: Mapping[str, str | None]) -> dict[str, str]:
        """Everything that a stage depends on -> hash.

        Args:
            stage: the stage.
            made: stage -> hash of its output; a stage that is missing has none yet.
        """
        words = stage.command if stage.compared is None else stage.compared
        command = [word.replace(str(self.out), "OUT") for word in words]
        hashes = {"its command line": text_hash(command), "its settings": text_hash(stage.part)}
        hashes |= {name: str(made.get(name)) for name in stage.needs}
        for role, (name, revision) in stage.models.items():
            hashes[model_input(role)] = model_hash(name, revision)
        hashes |= {DATA_OF + task: str(data_identity(task)) for task in stage.tasks}
        hashes |= {str(file): str(content_hash(file)) for file in stage.files}
        return {**hashes, PACKAGE: text_hash(package_identity())}

    def decide(self, stage: Stage, inputs: Mapping[str, str]) -> Decision:
        """Whether a stage has to run with these inputs, or what an earlier run made of them is put back."""
        decision = self._decide(stage, inputs)
        if not decision.runs or (decision.resumes and stage.output.exists()):
            return decision
        earlier = self._earlier(stage, inputs)
        if earlier is None:
            return decision
        if earlier.status == "begun":
            return Decision(True, INTERRUPTED, resumes=True, earlier=earlier)
        return Decision(False, earlier=earlier)

    def _decide(self, stage: Stage, inputs: Mapping[str, str]) -> Decision:
        """Whether a stage has to run, by its present record and output."""
        record = self.read(stage.name)
        if record is None:
            return Decision(True, "not run yet")
        differing = [
            name for name in {**record.inputs, **inputs} if record.inputs.get(name) != inputs.get(name)
        ]
        if differing == [PACKAGE] and stage.name in self.keep and record.status == "done":
            differing = []
        if differing:
            return Decision(True, _changed_reason(differing))
        if record.status == "begun":
            is_whole = self._is_whole(stage)
            why = INTERRUPTED_SHORT if stage.kind in BEGINS_ANEW else INTERRUPTED
            return Decision(not is_whole, why, not is_whole, is_whole)
        if content_hash(stage.output) != record.output:
            missing = "is missing" if not stage.output.exists() else "was changed by something else"
            return Decision(True, f"its output {missing}")
        return Decision(False)

    def _is_whole(self, stage: Stage) -> bool:
        """Whether the output of an interrupted stage is complete: it ended before its record was written."""
        place = stage.output
        if stage.kind in WHOLE_IF_THERE:
            return place.is_file() or (place.is_dir() and any(place.iterdir()))
        if stage.kind in ("collect", "r2r label"):
            return (place / "manifest.json").is_file()
        if stage.kind == "tah stage 2":
            file = place / "tah.json"
            return file.is_file() and read_object(file).get("decider") is not None
        return stage.kind == EVALUATE and has_whole_results(place)

    def begin(self, stage: Stage, inputs: dict[str, str], resumes: bool) -> Record:
        """Note that a stage begins, and bring its output into the state that its command expects."""
        before = self.read(stage.name)
        names = {role: name for role, (name, _) in stage.models.items()}
        record = Record(
            stage.name, stage.kind, "begun", inputs, models=names, made_with=environment(), work=stage.work
        )
        if resumes and before is not None:
            record = replace(record, seconds=before.seconds)
        else:
            self._set_aside(stage, before)
        self.write(record)  # first: an output without a record would be refused as not made by this recipe
        self._prepare(stage, resumes)
        return record

    def put_back(self, stage: Stage, earlier: Record) -> None:
        """Exchange what lies in a stage's place for what `earlier/` has of these inputs, with its record.

        Args:
            stage: the stage.
            earlier: the record of the decision.
        """
        self._set_aside(stage, self.read(stage.name))
        place = self._earlier_place(stage.name, earlier.inputs)
        self.write(earlier)  # first, as in `begin`
        stage.output.parent.mkdir(parents=True, exist_ok=True)
        if trace_of(place).exists():
            os.replace(trace_of(place), trace_of(stage.output))
        os.replace(place, stage.output)
        self._earlier_record(place).unlink()

    def _earlier(self, stage: Stage, inputs: Mapping[str, str]) -> Record | None:
        """The record of what `earlier/` has of these inputs; None where there is nothing that can be used.

        Usable is a whole result as it was made, with its trace, and unfinished work that lies in the output.
        Versions before kept no record, so that it is not known whether a result of theirs is whole.
        """
        place = self._earlier_place(stage.name, inputs)
        record = self._read(self._earlier_record(place))
        if record is None or record.inputs != inputs or not place.exists():
            return None
        if record.status == "begun":
            return record if stage.kind in GOES_ON and not stage.scratch else None
        lacks_trace = trace_of(stage.output) in stage.scratch and not trace_of(place).exists()
        return None if lacks_trace or content_hash(place) != record.output else record

    def _earlier_place(self, stage: str, inputs: Mapping[str, str]) -> Path:
        """Where what was made with these inputs lies while others hold."""
        return self.out / "earlier" / f"{record_name(stage)}-{text_hash(inputs)[:8]}"

    def _earlier_record(self, place: Path) -> Path:
        return self.folder / "earlier" / f"{place.name}.json"

    def _set_aside(self, stage: Stage, before: Record | None) -> None:
        """Move what an earlier run with other inputs made out of the way, a whole result with its trace.

        Other scratch files are removed. A whole result that lies in `earlier/` already is not replaced by
        anything that is not whole.
        """
        is_done = before is not None and before.status == "done"
        is_whole = before is not None and is_done and content_hash(stage.output) == before.output
        for path in stage.scratch:
            if not (is_whole and path == trace_of(stage.output)):
                remove(path)
        if not stage.output.exists():
            return
        if before is None:
            raise StateError(
                f"{stage.output} is there, and no run of this recipe made it; move it away, or name another "
                "--out"
            )
        place = self._earlier_place(stage.name, before.inputs)
        record = self._earlier_record(place)
        if not is_whole and place.exists() and not self._is_unfinished(record):
            place = place.with_name(f"{place.name}-unfinished")
            record = self._earlier_record(place)
        remove(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, _record_text(before))
        os.replace(stage.output, place)
        remove(trace_of(place))
        if is_whole and trace_of(stage.output).exists():
            os.replace(trace_of(stage.output), trace_of(place))

    def _is_unfinished(self, path: Path) -> bool:
        """Whether a record in `state/earlier/` says that its result is not whole."""
        record = self._read(path)
        return record is not None and record.status == "begun"

    def _prepare(self, stage: Stage, resumes: bool) -> None:
        stage.output.parent.mkdir(parents=True, exist_ok=True)
        for path in stage.scratch:
            path.parent.mkdir(parents=True, exist_ok=True)
        has_begun = stage.kind != "collect" or (stage.output / "work" / "settings.json").exists()
        if stage.kind not in GOES_ON or not has_begun:
            remove(stage.output)
        for path in stage.scratch:
            if TRACE in path.name:  # written anew, from the finished texts in the cache
                remove(path)
        if stage.copy_of is not None and not (resumes and stage.output.exists()):
            with atomic_path(stage.output) as partial:
                shutil.copytree(stage.copy_of, partial)

    def finish(self, stage: Stage, record: Record) -> Record:
        """Note that a stage is done.

        Raises:
            StateError: its command ended without an error and without an output.
        """
        leftovers = [path for path in stage.scratch if not path.name.endswith(TRACE)]
        if stage.kind == "collect":  # killed between its manifest and the end of its clearing up
            leftovers.append(stage.output / "work")
        for path in leftovers:
            remove(path)
        output = content_hash(stage.output)
        if output is None:
            raise StateError(f"{stage.name}: its command ended without an error and made no {stage.output}")
        done = replace(record, status="done", output=output)
        self.write(done)
        return done


def _record_text(record: Record) -> str:
    return json.dumps(asdict(record), indent=1) + "\n"


def model_input(role: str) -> str:
    """What a model is called among the inputs of a stage."""
    return f"the {role}"


def _changed_reason(names: list[str]) -> str:
    """Why a stage runs again."""
    labels = ["s2t-eval itself" if name == PACKAGE else name for name in names]
    shown = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
    return f"changed since: {shown}"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other reproductions out of an output folder.

    Raises:
        StateError: one is at work there, or the file system has no locks.
    """
    import fcntl

    folder = out / "state"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"--out {out}: another `s2t-eval reproduce` is at work there; wait for it"
            ) from None
        except OSError as error:
            raise StateError(
                f"--out {out}: its file system cannot lock files ({error.strerror}); name a folder of "
                "another one"
            ) from error
        yield
