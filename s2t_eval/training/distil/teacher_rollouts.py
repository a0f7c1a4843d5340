"""The teacher's own greedy texts on the problems of a label set, one file a text until training ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.stop import Decode
from s2t_eval.selection.policy import greedy
from s2t_eval.training.labels import LabelError, Trajectory

SETTINGS = "settings.json"


def teacher_texts(
    teacher: ModelRunner,
    trajectories: Sequence[Trajectory],
    request: Callable[[tuple[int, ...]], Request],
    folder: Path,
    identity: Mapping[str, Any],
    rows: int,
    decode: Decode,
    advance: Callable[[int], object],
) -> dict[str, list[int]]:
    """Write what is missing in `folder`, through the engine; texts that are there are not written again.

    Args:
        teacher: writes behind its own prompts, which may hold privileged context.
        trajectories: of all problems, in the label set's order.
        request: the teacher's prompt -> what is asked, with limits and stops.
        folder: working folder.
        identity: what the texts are made of; a folder of others is refused.
        rows: texts at work at once.
        decode: token ids to text, for stop strings.
        advance: told how many texts are done more.

    Returns:
        Problem id -> the text's tokens, its stop token included.

    Raises:
        LabelError: the folder holds texts of another run, or a file that cannot be read.
    """
    _require_same(folder, dict(identity))
    todo = [i for i in range(len(trajectories)) if not _path(folder, i).exists()]
    advance(len(trajectories) - len(todo))
    requests = [request(tuple(trajectories[i].teacher_prompt_ids.tolist())) for i in todo]
    for result in Decoder(teacher, greedy(), rows=rows, decode=decode).run(requests):
        write_text(_path(folder, todo[result.index]), json.dumps(result.output_ids))
        advance(1)
    teacher.release()
    return {row.problem_id: _read(_path(folder, i)) for i, row in enumerate(trajectories)}


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.json"


def _read(path: Path) -> list[int]:
    try:
        ids: list[int] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabelError(f"{path} cannot be read ({error}); remove it and run again") from error
    return ids


def _require_same(folder: Path, identity: dict[str, Any]) -> None:
    settings = folder / SETTINGS
    if settings.exists():
        before = json.loads(settings.read_text())
        require_same_run(str(folder), "a teacher's texts", before, identity, LabelError)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(settings, json.dumps(identity, indent=2, sort_keys=True))
