"""The teacher's own greedy texts on the problems of a label set, each in a file until training ends.

A run that is resumed writes the texts of an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.engine import Decoder, ModelRunner, OnRound, Request, Round
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.selection.policy import greedy
from s2t_eval.training.label_collection import groups_of
from s2t_eval.training.labels import LabelError, Trajectory
from s2t_eval.training.processes import all_processes
from s2t_eval.training.teacher import TrainingTeacher

SETTINGS = "settings.json"
COST = "cost.json"


@dataclass
class RolloutCost:
    """What the texts of a folder have cost, those included that were abandoned or written again.

    Not counted is a group of texts whose process was killed, and did not end with an error.

    Args:
        generated: generated tokens.
        prefilled: tokens of the prompts; a beginning that prompts share counts in each.
    """

    generated: int = 0
    prefilled: int = 0

    def read(self, folder: Path) -> None:
        """Take over what earlier runs have counted in this folder."""
        path = folder / COST
        if path.exists():
            saved = _read(path)
            self.generated, self.prefilled = saved["generated"], saved["prefilled"]

    @contextmanager
    def counted(self, folder: Path, on_round: OnRound | None) -> Iterator[OnRound]:
        """Add the tokens of a decoding that the yielded observer follows, and write the sums.

        Args:
            folder: folder of the texts.
            on_round: another observer, which is called too.
        """
        sequences: dict[int, Any] = {}  # by identity: after an error of memory a request has a second one

        def observe(state: Round) -> None:
            sequences.update((id(seq), seq) for seq in state.active)
            if on_round is not None:
                on_round(state)

        try:
            yield observe
        finally:
            self.generated += sum(len(seq.output) for seq in sequences.values())
            self.prefilled += sum(len(seq.request.prompt_ids) for seq in sequences.values())
            write_text(folder / COST, json.dumps(asdict(self)))


class NeededTexts(Protocol):
    """Which texts are needed, where those of the first problems may be enough."""

    @property
    def total(self) -> int:
        """How many things are needed, such as texts or right answers."""
        ...

    def add(self, problem_id: str, output_ids: Sequence[int]) -> int:
        """Take a finished text into account; returns how many more of these things there are with it."""
        ...


class _AllTexts:
    """Every problem's text is needed."""

    def __init__(self, total: int) -> None:
        self.total = total

    def add(self, problem_id: str, output_ids: Sequence[int]) -> int:
        """Each text is one more."""
        return 1


class _FinishedTexts:
    """The texts so far, and whether they are enough."""

    def __init__(self, needed: NeededTexts, progress: GenerationProgress) -> None:
        self.texts: dict[str, list[int]] = {}
        self._needed = needed
        self._progress = progress
        self._num_missing = needed.total

    @property
    def is_enough(self) -> bool:
        """Whether nothing that is needed is missing."""
        return self._num_missing <= 0

    def read(self, paths: Mapping[str, Path]) -> None:
        """Add texts that an interrupted run has written, as far as they are needed.

        Args:
            paths: problem id -> its file, which may be missing.
        """
        for problem_id, path in paths.items():
            if not self.is_enough and path.exists():
                output_ids: list[int] = _read(path)
                self.add(problem_id, output_ids)

    def add(self, problem_id: str, output_ids: list[int]) -> None:
        """Add a problem's text."""
        self.texts[problem_id] = output_ids
        count = self._needed.add(problem_id, output_ids)
        self._num_missing -= count
        self._progress.update(count)


def generate_teacher_rollouts(
    teacher: TrainingTeacher,
    text_vocab: int,
    trajectories: Sequence[Trajectory],
    make_request: Callable[[tuple[int, ...]], Request],
    folder: Path,
    identity: Mapping[str, Any],
    rows: int,
    needed: NeededTexts | None = None,
    cost: RolloutCost | None = None,
) -> dict[str, list[int]]:
    """Generate the teacher's texts that are missing in `folder`, and read the others.

    Of several processes the first generates the texts; the others then read them.

    Args:
        teacher: the teacher; its prompts may contain privileged context.
        text_vocab: leading rows of the student's head that are text.
        trajectories: trajectories of the problems, in the label set's order.
        make_request: the teacher's prompt -> the engine's request, with limits and stops.
        folder: folder of the texts.
        identity: settings of the texts; a folder of others is refused.
        rows: texts that are generated at once.
        needed: ends the generation as soon as the texts so far are enough; they are those that a generation
            of all texts would have written. None: all texts are needed.
        cost: is set to what the texts have cost, earlier runs included. None: nothing is counted.

    Returns:
        Problem id -> the text's tokens, with its stop token; problems without a text are left out.

    Raises:
        LabelError: the folder contains texts of another run, or a file that cannot be read.
    """
    runner = ModelRunner(teacher.model, teacher.name, text_vocab)
    needed = _AllTexts(len(trajectories)) if needed is None else needed
    with (
        all_processes().main_process_first(),
        GenerationProgress(needed.total, "Teacher's texts") as progress,
    ):
        _require_same(folder, dict(identity))
        if cost is not None:
            cost.read(folder)
        decoder = Decoder(runner, greedy(), rows=rows, decode=teacher.decode)
        finished = _FinishedTexts(needed, progress)
        for group in groups_of(len(trajectories), rows):
            paths = {trajectories[i].problem_id: _path(folder, i) for i in group}
            finished.read(paths)
            if finished.is_enough:
                break
            if finished.texts.keys() >= paths.keys():
                continue
            # Rounding depends on the texts that are decoded together: a group is repeated as a whole, without
            # what an earlier group left in the cache.
            runner.release()
            requests = [make_request(tuple(trajectories[i].teacher_prompt_ids.tolist())) for i in group]
            names = list(paths)
            counting: AbstractContextManager[OnRound | None] = (
                nullcontext(progress.on_round) if cost is None else cost.counted(folder, progress.on_round)
            )
            with counting as on_round:
                for result in decoder.run(requests, on_round):
                    name = names[result.index]
                    if name not in finished.texts:
                        write_text(paths[name], json.dumps(result.output_ids))
                        finished.add(name, result.output_ids)
                    if finished.is_enough:
                        break
        runner.release()
        return finished.texts


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabelError(f"{path} cannot be read ({error}); remove it and run again") from error


def _require_same(folder: Path, identity: dict[str, Any]) -> None:
    settings = folder / SETTINGS
    if settings.exists():
        saved = json.loads(settings.read_text())
        require_same_run(str(folder), "a teacher's texts", saved, identity, LabelError)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(settings, json.dumps(identity, indent=2, sort_keys=True))
