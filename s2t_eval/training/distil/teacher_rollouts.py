"""The teacher's own greedy texts on the problems of a label set, each in a file until training ends.

A run that is resumed writes the texts of an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.selection.policy import greedy
from s2t_eval.training.label_collection import groups_of
from s2t_eval.training.labels import LabelError, Trajectory
from s2t_eval.training.processes import all_processes
from s2t_eval.training.teacher import TrainingTeacher

SETTINGS = "settings.json"


def generate_teacher_rollouts(
    teacher: TrainingTeacher,
    text_vocab: int,
    trajectories: Sequence[Trajectory],
    make_request: Callable[[tuple[int, ...]], Request],
    folder: Path,
    identity: Mapping[str, Any],
    rows: int,
) -> dict[str, list[int]]:
    """Generate the teacher's texts that are missing in `folder`, and read all of them.

    Of several processes the first generates the texts; the others then read them.

    Args:
        teacher: the teacher; its prompts may contain privileged context.
        text_vocab: leading rows of the student's head that are text.
        trajectories: trajectories of the problems, in the label set's order.
        make_request: the teacher's prompt -> the engine's request, with limits and stops.
        folder: folder of the texts.
        identity: settings of the texts; a folder of others is refused.
        rows: texts that are generated at once.

    Returns:
        Problem id -> the text's tokens, with its stop token.

    Raises:
        LabelError: the folder contains texts of another run, or a file that cannot be read.
    """
    runner = ModelRunner(teacher.model, teacher.name, text_vocab)
    with (
        all_processes().main_process_first(),
        GenerationProgress(len(trajectories), "Teacher's texts") as progress,
    ):
        _require_same(folder, dict(identity))
        decoder = Decoder(runner, greedy(), rows=rows, decode=teacher.decode)
        for group in groups_of(len(trajectories), rows):
            if all(_path(folder, i).exists() for i in group):
                progress.update(len(group))
                continue
            # Rounding depends on the texts that are decoded together: a group is repeated as a whole, without
            # what an earlier group left in the cache.
            runner.release()
            requests = [make_request(tuple(trajectories[i].teacher_prompt_ids.tolist())) for i in group]
            for result in decoder.run(requests, progress.on_round):
                write_text(_path(folder, group[result.index]), json.dumps(result.output_ids))
                progress.update(1)
        runner.release()
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
        saved = json.loads(settings.read_text())
        require_same_run(str(folder), "a teacher's texts", saved, identity, LabelError)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(settings, json.dumps(identity, indent=2, sort_keys=True))
