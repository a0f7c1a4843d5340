"""Collection of a label set: rollouts of all problems, then the teacher's labels, then Parquet shards.

Each rollout and each set of labels is a file of its own until the label set is written. Problems are
processed in groups that depend only on their order and on the number of rows, and each group starts with
empty KV caches, because the rounding of a text depends on the texts beside it. A resumed run therefore
repeats the group that was interrupted and ends with exactly the numbers of an uninterrupted run. All
rollouts come before the first label, so student and teacher need not be in memory together.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.artifacts.output_paths import require_no_labels
from s2t_eval.engine import Decoder, ModelRunner, OnRound, Request, Result
from s2t_eval.engine.packing import batches
from s2t_eval.engine.stop import AnswerOf, Decode
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.triggers import EntropyTrigger, MarginTrigger, TopEntropyTrigger, Trigger
from s2t_eval.training.labelling import label_texts
from s2t_eval.training.labels import (
    LabelError,
    LabelManifest,
    Trajectory,
    columns_of,
    non_finite_columns,
    write_labels,
)

KINDS = ("rollouts", "labels")
"""Kinds of the files that hold a problem's rollout and its labels."""
KEEP_TOP = 64
NUM_CANDIDATES = 16
NUM_ROUTER_LOG_PROBS = 8
HIT_RATE_KS = (1, 2, 4, 8, 16)
LABEL_BATCH_TOKENS = 1024
PROBLEMS_PER_ROW = 8
"""Problems of a group for each row of the decoder. More would repeat more after an interruption; fewer leave
rows idle at the end of every group."""


@dataclass(frozen=True)
class LabelledProblem:
    """One problem to roll out and label.

    Args:
        problem_id: an id that is unique over data sets.
        question_hash: hash of the normalised question.
        request: the student's prompt and limits.
        teacher_prompt_ids: the teacher's prompt.
    """

    problem_id: str
    question_hash: str
    request: Request
    teacher_prompt_ids: tuple[int, ...]


class CollectionFolder:
    """The files of an unfinished collection, under `FOLDER/work`.

    Args:
        folder: folder of the label set.
        identity: settings of the run; an unfinished collection of another run is refused.
        kinds: kinds of files; there is one file of each kind for each problem.

    Raises:
        LabelError: the folder holds a finished label set, or an unfinished one of another run.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], kinds: Sequence[str] = KINDS) -> None:
        require_no_labels(folder, LabelError)
        self.folder = folder
        self.work = folder / "work"
        settings = self.work / "settings.json"
        if settings.exists():
            saved = json.loads(settings.read_text())
            require_same_run(f"--out {folder}", "the unfinished work", saved, identity, LabelError)
        for name in kinds:
            (self.work / name).mkdir(parents=True, exist_ok=True)
        write_text(settings, json.dumps(identity, indent=2, sort_keys=True))

    def missing(self, kind: str, count: int) -> list[int]:
        """Indices of the problems that have no file of this kind yet.

        Args:
            kind: "rollouts" or "labels".
            count: number of problems.
        """
        return [i for i in range(count) if not self._path(kind, i).exists()]

    def save(self, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        """Write one problem's file, completely or not at all."""
        with atomic_path(self._path(kind, index)) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)

    def load(self, kind: str, index: int) -> dict[str, Tensor]:
        """Read one problem's file."""
        path = self._path(kind, index)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise LabelError(f"labels: {path} cannot be read ({error}); remove it and run again") from error

    def clear(self) -> None:
        """Remove the working files once what is made of them is written, and their folder if it is empty."""
        shutil.rmtree(self.work)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, kind: str, index: int) -> Path:
        return self.work / kind / f"{index:06d}.safetensors"


Advance = Callable[[int], object]
"""Called with the number of problems that were finished since the last call, for a progress bar."""


def generate_rollouts(
    student: ModelRunner,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    rows: int,
    decode: Decode,
    answer_of: AnswerOf | None,
    advance: Advance,
    on_round: OnRound | None = None,
    policy: Policy | None = None,
    scorer: ModelRunner | None = None,
    teacher: ModelRunner | None = None,
) -> None:
    """Generate the texts of all problems that have no rollout yet, and save them.

    Args:
        student: the student.
        problems: all problems, in order.
        work: where rollouts are saved.
        rows: texts that are generated at once.
        decode: token ids to text, for stop strings.
        answer_of: the part of a text outside of its thoughts, for requests of reasoning models.
        advance: called as problems are finished.
        on_round: the engine's observer, for a progress bar.
        policy: how the texts are written; None: greedily. The candidates of a step are the student's own most
            likely tokens under every policy.
        scorer: the model that scores a local selector's candidates.
        teacher: the larger model, where the policy needs one.
    """
    observe: list[Trigger] = [EntropyTrigger(), TopEntropyTrigger(), MarginTrigger()]
    policy = greedy() if policy is None else policy
    decoder = Decoder(
        student,
        policy,
        teacher if policy.needs_teacher else None,
        rows,
        decode,
        observe,
        scorer,
        KEEP_TOP,
        answer_of,
    )

    def record(problem: LabelledProblem, result: Result) -> dict[str, Tensor]:
        rollout = rollout_columns(result, *map(torch.tensor, result.observed))
        require_finite_outputs("student", student.name, problem, rollout)
        return rollout

    generate_texts(decoder, problems, work, "rollouts", record, advance, on_round)


def generate_texts(
    decoder: Decoder,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    kind: str,
    record: Callable[[LabelledProblem, Result], dict[str, Tensor]],
    advance: Advance,
    on_round: OnRound | None,
) -> None:
    """Generate the texts of all problems that have no file of a kind yet, in groups, and save each.

    Args:
        decoder: generates the texts; what its models cached is released before each group.
        problems: all problems, in order.
        work: where the files are saved.
        kind: kind of the files.
        record: the tensors of a text's file.
        advance: called as problems are finished.
        on_round: the engine's observer, for a progress bar.
    """
    for group in unfinished(groups_of(len(problems), decoder.rows), kind, work, advance):
        for runner in decoder.stepper.runners:
            runner.release()  # a prefix cached by an earlier group would be reused
        for result in decoder.run([problems[i].request for i in group], on_round):
            index = group[result.index]
            work.save(kind, index, record(problems[index], result))
            advance(1)


def groups_of(num_problems: int, rows: int) -> list[range]:
    """The problems that are decoded together and repeated together, by their numbers.

    Args:
        num_problems: how many there are.
        rows: texts that are generated at once.
    """
    size = PROBLEMS_PER_ROW * rows
    return [range(i, min(i + size, num_problems)) for i in range(0, num_problems, size)]


def unfinished(
    groups: Sequence[Sequence[int]], kind: str, work: CollectionFolder, advance: Advance
) -> Iterator[Sequence[int]]:
    """The groups in which a file of this kind is missing; the others are counted as finished."""
    missing = set(work.missing(kind, 1 + max((i for group in groups for i in group), default=-1)))
    for group in groups:
        if missing.isdisjoint(group):
            advance(len(group))
        else:
            yield group


def require_finite_outputs(
    role: str, name: str, problem: LabelledProblem, columns: dict[str, Tensor]
) -> None:
    """Raise `LabelError` if a model's outputs contain NaN, or an infinity other than log(0)."""
    values = {key: column.numpy() for key, column in columns.items() if column.is_floating_point()}
    broken = non_finite_columns(values)
    if broken:
        raise LabelError(
            f"{role} {name}: on problem {problem.problem_id} its {', '.join(broken)} are not finite; its "
            "weights are damaged, or its dtype is too narrow (try float32)"
        )


def rollout_columns(result: Result, entropy: Tensor, entropy64: Tensor, margin: Tensor) -> dict[str, Tensor]:
    """The tensors of a rollout's file.

    Args:
        result: a greedy text with the most likely tokens of every step.
        entropy: of the student, nats, [steps].
        entropy64: of its 64 most likely tokens and of all others as one, nats, [steps].
        margin: 1 - (p_1 - p_2) of its two most likely tokens, [steps].
    """
    assert result.top_ids is not None and result.top_log_probs is not None
    return {
        "output_ids": torch.tensor(result.output_ids, dtype=torch.int32),
        "entropy": entropy,
        "entropy64": entropy64,
        "margin": margin,
        "top_ids": result.top_ids,
        "top_log_probs": result.top_log_probs,
    }


def label_rollouts(
    teacher: ModelRunner, problems: Sequence[LabelledProblem], work: CollectionFolder, advance: Advance
) -> None:
    """Label every rollout that has no labels yet, with one teacher prefill each."""
    sizes = [
        len(problem.teacher_prompt_ids) + len(work.load("rollouts", i)["output_ids"])
        for i, problem in enumerate(problems)
    ]
    groups = batches(range(len(problems)), sizes, LABEL_BATCH_TOKENS)
    for batch in unfinished(groups, "labels", work, advance):
        teacher.release()
        rollouts = [work.load("rollouts", i) for i in batch]
        labels = label_texts(
            teacher,
            [problems[i].teacher_prompt_ids for i in batch],
            [rollout["output_ids"].tolist() for rollout in rollouts],
            [rollout["top_ids"] for rollout in rollouts],
            [rollout["top_log_probs"] for rollout in rollouts],
            NUM_CANDIDATES,
        )
        for i, step_labels in zip(batch, labels, strict=True):
            require_finite_outputs("teacher", teacher.name, problems[i], step_labels._asdict())
            work.save("labels", i, step_labels._asdict())
        advance(len(batch))


def write_label_set(
    work: CollectionFolder,
    problems: Sequence[LabelledProblem],
    manifest: LabelManifest,
    reused: Mapping[str, Trajectory] | None = None,
) -> LabelManifest:
    """Determine the top tau of steps over the whole set, and write shards and manifest.

    Args:
        work: holds a rollout and labels of every problem that is not reused, numbered without those.
        problems: all problems, in order.
        manifest: models, data and settings; counts, hit rates and shards are filled in here.
        reused: id of a problem -> its labelled text of another set, with candidates at every step.

    Returns:
        The complete manifest.
    """
    reused = {} if reused is None else reused
    rows, number = [], 0
    for problem in problems:
        if problem.problem_id in reused:
            rows.append(columns_of(reused[problem.problem_id]))
            continue
        rows.append(_row(problem, work.load("rollouts", number), work.load("labels", number)))
        number += 1
    divergences = np.concatenate([row["kl_student_teacher"] for row in rows])
    threshold = float(np.quantile(divergences, 1 - manifest.tau))
    hits = dict.fromkeys(HIT_RATE_KS, 0)
    num_top = num_kept = 0
    for i, row in enumerate(rows):
        is_top = row["kl_student_teacher"] > threshold
        is_hit = row["candidates"][is_top] == row["teacher_argmax"][is_top][:, None]
        num_top += int(is_top.sum())
        for k in hits:
            hits[k] += int(is_hit[:, :k].any(-1).sum())
        if manifest.steps == "top":
            rows[i] = _keep_candidates(row, np.flatnonzero(is_top))
        num_kept += len(rows[i]["kept"])
    counted = replace(
        manifest,
        kl_threshold=threshold,
        num_steps=len(divergences),
        num_kept=num_kept,
        num_top=num_top,
        hit_rate={str(k): hits[k] / num_top if num_top else None for k in hits},
    )
    return write_labels(work.folder, counted, rows)


def _row(problem: LabelledProblem, rollout: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Any]:
    """A trajectory with candidates at every step."""
    steps = len(rollout["output_ids"])

    def leading(name: str, count: int) -> np.ndarray:
        """A copy: a view would keep all 64 likely tokens of every step of the set in memory."""
        columns: np.ndarray = rollout[name][:, :count].clone().numpy()
        return columns

    return {
        "problem_id": problem.problem_id,
        "question_hash": problem.question_hash,
        "prompt_ids": np.array(problem.request.prompt_ids, dtype=np.int32),
        "teacher_prompt_ids": np.array(problem.teacher_prompt_ids, dtype=np.int32),
        "output_ids": rollout["output_ids"].numpy(),
        "entropy": rollout["entropy"].numpy(),
        "entropy64": rollout["entropy64"].numpy(),
        "margin": rollout["margin"].numpy(),
        "top_log_probs": leading("top_log_probs", NUM_ROUTER_LOG_PROBS),
        "kept": np.arange(steps, dtype=np.int32),
        "candidates": leading("top_ids", NUM_CANDIDATES),
        "student_log_probs": leading("top_log_probs", NUM_CANDIDATES),
        "teacher_mass": labels["teacher_log_probs"].exp().sum(-1).numpy(),
        **{name: labels[name].numpy() for name in labels},
    }


def _keep_candidates(row: dict[str, Any], steps: np.ndarray) -> dict[str, Any]:
    """The row with candidates at these steps only."""
    per_kept = ("kept", "candidates", "student_log_probs", "teacher_log_probs", "teacher_mass")
    return {**row, **{name: row[name][steps] for name in per_kept}}
