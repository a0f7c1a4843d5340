"""Rollouts and labels of many problems, one file a problem until all are there; then a label set.

Problems are worked on in groups that depend on nothing but their order and the number of rows, each from
empty slots: the rounding of a text depends on what is computed beside it. A run that was killed repeats the
group it was killed in and ends with the same numbers, to the last bit, as one that was not. Student and
teacher need not be in memory together: all rollouts come first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2t_eval.artifacts.files import replaced, write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.engine import Decoder, ModelRunner, OnRound, Request, Result
from s2t_eval.engine.stop import Decode
from s2t_eval.selection.policy import greedy
from s2t_eval.selection.triggers import EntropyTrigger, MarginTrigger, Trigger
from s2t_eval.training.labelling import label_texts
from s2t_eval.training.labels import MANIFEST, LabelError, Manifest, not_numbers, write_labels

KEEP_TOP = 64
NUM_CANDIDATES = 16
NUM_ROUTER_LOG_PROBS = 8
HIT_RATE_KS = (1, 2, 4, 8, 16)
LABEL_BATCH_TOKENS = 1024
ROWS_FILLED = 8
"""Problems of a group a row: more would be repeated after a kill, fewer leave rows empty at its end."""


@dataclass(frozen=True)
class Problem:
    """One problem to roll out and label.

    Args:
        problem_id: unique over data sets.
        question_hash: of the normalised question.
        request: the student's prompt and limits.
        teacher_prompt_ids: the teacher's prompt.
    """

    problem_id: str
    question_hash: str
    request: Request
    teacher_prompt_ids: tuple[int, ...]


class LabelFolder:
    """The working state of a collection under `FOLDER/work`.

    Args:
        folder: the label folder to be.
        identity: what the run is made of; a resumed run must have the same.
        kinds: of files, one a problem each.

    Raises:
        LabelError: the folder holds a finished set, or the work of another run.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], kinds: Sequence[str] = ("rollouts", "labels")
    ) -> None:
        if (folder / MANIFEST).exists():
            raise LabelError(f"--out {folder}: it holds a finished label set; name another folder")
        self.folder = folder
        self.work = folder / "work"
        settings = self.work / "settings.json"
        if settings.exists():
            before = json.loads(settings.read_text())
            require_same_run(f"--out {folder}", "the unfinished work", before, identity, LabelError)
        for name in kinds:
            (self.work / name).mkdir(parents=True, exist_ok=True)
        write_text(settings, json.dumps(identity, indent=2, sort_keys=True))

    def missing(self, kind: str, count: int) -> list[int]:
        """Indices of problems without this file yet."""
        return [i for i in range(count) if not self._path(kind, i).exists()]

    def save(self, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        """Write one problem's file whole or not at all."""
        with replaced(self._path(kind, index)) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)

    def load(self, kind: str, index: int) -> dict[str, Tensor]:
        """Read one problem's file."""
        path = self._path(kind, index)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise LabelError(f"labels: {path} cannot be read ({error}); remove it and run again") from error

    def clear(self) -> None:
        """Drop the working files of a finished set."""
        shutil.rmtree(self.work)

    def _path(self, kind: str, index: int) -> Path:
        return self.work / kind / f"{index:06d}.safetensors"


Advance = Callable[[int], object]
"""Told how many problems are done more, for a progress bar."""


def roll_out(
    student: ModelRunner,
    problems: Sequence[Problem],
    work: LabelFolder,
    rows: int,
    decode: Decode,
    advance: Advance,
    on_round: OnRound | None = None,
) -> None:
    """The student's greedy texts of all problems that have none yet, with its top tokens at every step."""
    observe: list[Trigger] = [EntropyTrigger(), MarginTrigger()]
    decoder = Decoder(student, greedy(), rows=rows, decode=decode, observe=observe, keep_top=KEEP_TOP)
    size = ROWS_FILLED * rows
    groups = [range(i, min(i + size, len(problems))) for i in range(0, len(problems), size)]
    for group in unfinished(groups, "rollouts", work, advance):
        student.release()  # what earlier groups left in the slots would be copied
        for result in decoder.run([problems[i].request for i in group], on_round):
            problem = problems[group[result.index]]
            rollout = _rollout(result)
            require_numbers("student", student.name, problem, rollout)
            work.save("rollouts", group[result.index], rollout)
            advance(1)


def unfinished(
    groups: Sequence[Sequence[int]], kind: str, work: LabelFolder, advance: Advance
) -> Iterator[Sequence[int]]:
    """The groups of which a problem has no file of this kind yet; the others are reported as done."""
    missing = set(work.missing(kind, sum(map(len, groups))))
    for group in groups:
        if missing.isdisjoint(group):
            advance(len(group))
        else:
            yield group


def require_numbers(role: str, name: str, problem: Problem, columns: dict[str, Tensor]) -> None:
    """Raise `LabelError` if a model gave NaN, or infinities where there can be none."""
    kept = {key: values.numpy() for key, values in columns.items() if values.is_floating_point()}
    broken = not_numbers(kept)
    if broken:
        raise LabelError(
            f"{role} {name}: on problem {problem.problem_id} its {', '.join(broken)} are not numbers; its "
            "weights are damaged, or its dtype is too narrow (try float32)"
        )


def _rollout(result: Result) -> dict[str, Tensor]:
    assert result.top_ids is not None and result.top_log_probs is not None
    entropy, margin = (torch.tensor(values) for values in result.observed)
    return {
        "output_ids": torch.tensor(result.output_ids, dtype=torch.int32),
        "entropy": entropy,
        "margin": margin,
        "top_ids": result.top_ids,
        "top_log_probs": result.top_log_probs,
    }


def label(teacher: ModelRunner, problems: Sequence[Problem], work: LabelFolder, advance: Advance) -> None:
    """One teacher prefill for every rollout that has no labels yet."""
    groups = list(_batches(work, problems))
    for part in unfinished(groups, "labels", work, advance):
        teacher.release()
        rollouts = [work.load("rollouts", i) for i in part]
        labels = label_texts(
            teacher,
            [problems[i].teacher_prompt_ids for i in part],
            [rollout["output_ids"].tolist() for rollout in rollouts],
            [rollout["top_ids"] for rollout in rollouts],
            [rollout["top_log_probs"] for rollout in rollouts],
            NUM_CANDIDATES,
        )
        for i, found in zip(part, labels, strict=True):
            require_numbers("teacher", teacher.name, problems[i], found._asdict())
            work.save("labels", i, found._asdict())
        advance(len(part))


def _batches(work: LabelFolder, problems: Sequence[Problem]) -> Iterator[list[int]]:
    """Problems in order, as many at once as fill a prefill pass."""
    part: list[int] = []
    tokens = 0
    for i, problem in enumerate(problems):
        size = len(problem.teacher_prompt_ids) + len(work.load("rollouts", i)["output_ids"])
        if part and tokens + size > LABEL_BATCH_TOKENS:
            yield part
            part, tokens = [], 0
        part.append(i)
        tokens += size
    if part:
        yield part


def finish(work: LabelFolder, problems: Sequence[Problem], manifest: Manifest) -> Manifest:
    """Make the label set: find the top tau of steps over the whole set, write shards and manifest.

    Args:
        work: holds a rollout and labels of every problem.
        problems: in order.
        manifest: with the models, data and settings; its counts and shards are filled in here.
    """
    rows = [
        _row(problem, work.load("rollouts", i), work.load("labels", i)) for i, problem in enumerate(problems)
    ]
    divergences = np.concatenate([row["kl_student_teacher"] for row in rows])
    threshold = float(np.quantile(divergences, 1 - manifest.tau))
    hits = dict.fromkeys(HIT_RATE_KS, 0)
    num_top = num_kept = 0
    for i, row in enumerate(rows):
        is_top = row["kl_student_teacher"] > threshold
        found = row["candidates"][is_top] == row["teacher_argmax"][is_top][:, None]
        num_top += int(is_top.sum())
        for k in hits:
            hits[k] += int(found[:, :k].any(-1).sum())
        if manifest.steps == "top":
            rows[i] = _kept(row, np.flatnonzero(is_top))
        num_kept += len(rows[i]["kept"])
    counted = replace(
        manifest,
        kl_threshold=threshold,
        num_steps=len(divergences),
        num_kept=num_kept,
        num_top=num_top,
        hit_rate={str(k): hits[k] / max(1, num_top) for k in hits},
    )
    return write_labels(work.folder, counted, rows)


def _row(problem: Problem, rollout: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Any]:
    """A trajectory with candidates at every step."""
    steps = len(rollout["output_ids"])
    return {
        "problem_id": problem.problem_id,
        "question_hash": problem.question_hash,
        "prompt_ids": np.array(problem.request.prompt_ids, dtype=np.int32),
        "teacher_prompt_ids": np.array(problem.teacher_prompt_ids, dtype=np.int32),
        "output_ids": rollout["output_ids"].numpy(),
        "entropy": rollout["entropy"].numpy(),
        "margin": rollout["margin"].numpy(),
        "top_log_probs": rollout["top_log_probs"][:, :NUM_ROUTER_LOG_PROBS].numpy(),
        "kept": np.arange(steps, dtype=np.int32),
        "candidates": rollout["top_ids"][:, :NUM_CANDIDATES].numpy(),
        "student_log_probs": rollout["top_log_probs"][:, :NUM_CANDIDATES].numpy(),
        "teacher_mass": labels["teacher_log_probs"].exp().sum(-1).numpy(),
        **{name: labels[name].numpy() for name in labels},
    }


def _kept(row: dict[str, Any], steps: np.ndarray) -> dict[str, Any]:
    per_kept = ("kept", "candidates", "student_log_probs", "teacher_log_probs", "teacher_mass")
    return {**row, **{name: row[name][steps] for name in per_kept}}
