"""Local inputs of steps that are not there now: the run ends before anything is moved or removed.

A changed input moves what was made to `earlier/` and removes response caches and checkpoints. A folder that
is not mounted, another working folder or a variable that is not exported must not cost that work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from s2t_eval.reproduce.identity import data_folder, model_place
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import DATA_OF, NO_HASH, State, StateError, model_input

ABSENT = (None, NO_HASH)


def require_inputs(stages: Iterable[Stage], state: State) -> None:
    """Raise `StateError` where a step's local input is not there.

    Args:
        stages: the steps that would run.
        state: the records of what they read before.
    """
    for stage in stages:
        for missing in missing_inputs(stage, state):
            raise StateError(
                f"{stage.name}: {missing}; what was made with it is kept: start the command from the same "
                "folder and with the same variables as before, mount what is not mounted, or name another "
                "--out"
            )


def missing_inputs(stage: Stage, state: State) -> Iterator[str]:
    """The inputs of a step that are not there now, a phrase each.

    A name that is no file here may be one of the hub. It is missing where the step's record has a hash of its
    files.
    """
    for file in stage.files:
        if not _is_there(file):
            yield f"it reads {file}, which is not there"
    record = state.read(stage.name)
    if record is None:
        return
    for name in stage.names:
        place = Path(name).expanduser()
        before = None if str(place) in stage.needs else record.inputs.get(str(place))
        if place not in stage.files and before not in ABSENT:
            yield f"it has read {place}, which is not there"
    for role, (name, _) in stage.models.items():
        before = record.inputs.get(model_input(role))
        is_same_name = record.models.get(role, name) == name
        is_local = before not in ABSENT and not str(before).startswith("hub:")
        if is_local and is_same_name and not _is_there(model_place(name)):
            yield f"it has read {role} from the folder {name}, which is not there"
    for task in stage.tasks:
        folder = data_folder(task)
        if record.inputs.get(DATA_OF + task) not in ABSENT and not _is_there(folder):
            where = folder or "S2T_DATA, which is not set"
            yield f"it has read the data of {task} from a folder, and there is none now: {where}"


def _is_there(place: Path | None) -> bool:
    """Whether a path holds anything; the empty folder of what is not mounted does not."""
    if place is None:
        return False
    return place.is_file() or any(path.is_file() for path in place.rglob("*"))
