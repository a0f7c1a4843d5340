"""Label sets: the student's trajectories with what a teacher makes of every step.

A folder of Parquet shards and `manifest.json`, which is written last: a folder without it is not whole.
One row a trajectory; steps are counted from the first generated token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.training.split import split_by_question

FORMAT = 1
SHARD_ROWS = 128
MANIFEST = "manifest.json"

FINITE = ("kl_student_teacher", "kl_teacher_student", "entropy", "margin", "teacher_mass")
LOG_PROBS = ("top_log_probs", "student_log_probs", "teacher_log_probs")
"""Of a trajectory's columns."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class LabelError(ValueError):
    """A label set that is damaged, not whole, or not made for this use."""


@dataclass(frozen=True)
class Trajectory:
    """One greedy text of the student, labelled.

    Args:
        problem_id: unique over data sets: source, split and index.
        question_hash: of the normalised question, see `evaluation.question_hash`.
        prompt_ids: the student's prompt, [prompt].
        teacher_prompt_ids: the teacher's, which may hold privileged context.
        output_ids: the text, its final stop token included, [steps].
        kl_student_teacher: KL(p_S || p_L) over the student's top 64, nats, [steps].
        kl_teacher_student: KL(p_L || p_S) over the same tokens, [steps].
        entropy: of the student, nats, [steps].
        margin: 1 - (p_1 - p_2) of the student, [steps].
        top_log_probs: the student's log-probabilities of its eight most likely tokens, [steps, 8].
        teacher_argmax: the teacher's token over the whole text vocabulary, [steps].
        kept: the steps with candidates, ascending, [kept].
        candidates: the student's most likely tokens there, most likely first, [kept, 16].
        student_log_probs: of the candidates, [kept, 16].
        teacher_log_probs: of the candidates, over the teacher's text vocabulary, [kept, 16].
        teacher_mass: probability that the teacher gives the candidates together, [kept].
        shard: file that it was read from, for messages.
        row: row of that file.
    """

    problem_id: str
    question_hash: str
    prompt_ids: Ints
    teacher_prompt_ids: Ints
    output_ids: Ints
    kl_student_teacher: Floats
    kl_teacher_student: Floats
    entropy: Floats
    margin: Floats
    top_log_probs: Floats
    teacher_argmax: Ints
    kept: Ints
    candidates: Ints
    student_log_probs: Floats
    teacher_log_probs: Floats
    teacher_mass: Floats
    shard: str = ""
    row: int = 0

    @property
    def text_ids(self) -> Ints:
        """Prompt and text, [prompt + steps]."""
        return np.concatenate([self.prompt_ids, self.output_ids])


@dataclass(frozen=True)
class Manifest:
    """What a label set was made of; compared at every later use.

    Args:
        student: fingerprint of the model that wrote the texts.
        teacher: fingerprint of the model that labelled them.
        student_name: how it was called, for people.
        teacher_name: how it was called.
        vocabulary: hash of the tokenizer's text entries.
        data: source, split, hash and number of the problems.
        prompt: chat template, system instruction, few-shot examples, length limit.
        seed: of the rollouts (greedy ones do not use it).
        teacher_context: what the teacher saw beyond the student's prompt; None: nothing.
        steps: "top" keeps candidates at the top `tau` of steps by KL, "all" at every step.
        tau: rate of the steps that count as top.
        kl_threshold: KL(p_S || p_L) above which a step belongs to the top `tau`, nats.
        num_steps: all steps.
        num_kept: steps with candidates.
        num_top: steps above `kl_threshold`.
        hit_rate: K -> share of top steps whose teacher's argmax is among the first K candidates.
        shards: file name -> rows.
    """

    student: str
    teacher: str
    student_name: str
    teacher_name: str
    vocabulary: str
    data: dict[str, Any]
    prompt: dict[str, Any]
    seed: int
    teacher_context: str | None
    steps: str
    tau: float
    kl_threshold: float
    num_steps: int
    num_kept: int
    num_top: int
    hit_rate: dict[str, float]
    shards: dict[str, int]
    format: int = field(default=FORMAT)


KIND = ManifestKind(Manifest, "s2t-eval collect", LabelError, FORMAT, MANIFEST)


class LabelSet:
    """The trajectories of a label folder, in memory.

    Args:
        manifest: what they were made of.
        trajectories: in the order of their problems.
    """

    def __init__(self, manifest: Manifest, trajectories: Sequence[Trajectory]) -> None:
        self.manifest = manifest
        self.trajectories = list(trajectories)

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    @classmethod
    def load(cls, folder: Path) -> LabelSet:
        """Read a folder that `s2t-eval collect` finished.

        Raises:
            LabelError: no finished label set, a missing, truncated or empty shard, or an unusable row.
        """
        manifest = _read_manifest(folder)
        trajectories: list[Trajectory] = []
        for name, rows in manifest.shards.items():
            trajectories.extend(_read_shard(folder / name, rows))
        ids = [trajectory.problem_id for trajectory in trajectories]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise LabelError(f"labels: {folder} holds problem {twice} twice; collect it anew")
        return cls(manifest, trajectories)

    def require_student(self, fingerprint: str, vocabulary: str) -> None:
        """Raise `LabelError` unless this student wrote the texts."""
        for what, saved, current in (
            ("student", self.manifest.student, fingerprint),
            ("tokenizer", self.manifest.vocabulary, vocabulary),
        ):
            fix = "run `s2t-eval collect` with this student"
            KIND.require_same("labels", what, saved, current, fix, self.manifest.student_name)

    def split(self, held_out: float) -> tuple[list[Trajectory], list[Trajectory]]:
        """Training and held-out trajectories; a question is never on both sides.

        Args:
            held_out: share of the questions to hold out, at least one.

        Raises:
            LabelError: too few questions for two sides.
        """
        return split_by_question(self.trajectories, held_out, LabelError)


def write_labels(folder: Path, manifest: Manifest, rows: Sequence[dict[str, Any]]) -> Manifest:
    """Write shards, then the manifest that makes them a label set; returns it with its shards."""
    (folder / "shards").mkdir(exist_ok=True)
    shards: dict[str, int] = {}
    for begin in range(0, len(rows), SHARD_ROWS):
        part = rows[begin : begin + SHARD_ROWS]
        name = f"shards/shard-{begin // SHARD_ROWS:05d}.parquet"
        columns = [item.name for item in fields(Trajectory) if item.name not in ("shard", "row")]
        table = pa.Table.from_pylist([{name: _plain(row[name]) for name in columns} for row in part], SCHEMA)
        with atomic_path(folder / name) as partial:
            pq.write_table(table, partial, compression="zstd")
        shards[name] = len(part)
    whole = Manifest(**{**asdict(manifest), "shards": shards})
    write_manifest(folder / MANIFEST, whole)
    return whole


def _schema() -> pa.Schema:
    types = {"Ints": pa.int32(), "Floats": pa.float32(), "str": pa.string()}
    matrices = ("top_log_probs", "candidates", "student_log_probs", "teacher_log_probs")
    columns = []
    for item in fields(Trajectory):
        if item.name in ("shard", "row"):
            continue
        kind = types[str(item.type)]
        if item.type != "str":
            kind = pa.list_(pa.list_(kind) if item.name in matrices else kind)
        columns.append(pa.field(item.name, kind))
    return pa.schema(columns)


SCHEMA = _schema()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _read_manifest(folder: Path) -> Manifest:
    unfinished = (folder / "work").is_dir()
    hint = "its collection was broken off; run the same command again" if unfinished else ""
    return KIND.read(f"labels={folder}", folder / MANIFEST, hint)


def _read_shard(path: Path, expected: int) -> list[Trajectory]:
    try:
        table = pq.read_table(path, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"labels: shard {path} is missing, truncated or not Parquet ({reason}); collect the labels anew"
        ) from error
    if table.num_rows != expected or not expected:
        raise LabelError(
            f"labels: shard {path} has {table.num_rows} rows, the manifest says {expected}; "
            "collect the labels anew"
        )
    return [_trajectory(row, path.name, i) for i, row in enumerate(table.to_pylist())]


def _trajectory(row: dict[str, Any], shard: str, number: int) -> Trajectory:
    values: dict[str, Any] = {"shard": shard, "row": number}
    for item in fields(Trajectory):
        if item.name in values:
            continue
        value = row[item.name]
        if item.type == "str":
            values[item.name] = value
            continue
        dtype = np.int32 if item.type == "Ints" else np.float32
        try:
            values[item.name] = np.array(value, dtype=dtype)
        except (ValueError, TypeError) as error:
            raise LabelError(
                f"labels: shard {shard}, row {number}: {item.name} is ragged or empty"
            ) from error
    return _checked(Trajectory(**values))


def _checked(row: Trajectory) -> Trajectory:
    """Refuse a row whose columns do not fit together."""
    where = f"labels: shard {row.shard}, row {row.row} ({row.problem_id})"
    steps, kept = len(row.output_ids), len(row.kept)
    per_step = ("kl_student_teacher", "kl_teacher_student", "entropy", "margin", "teacher_argmax")
    wrong = [name for name in per_step if len(getattr(row, name)) != steps]
    per_kept = ("candidates", "student_log_probs", "teacher_log_probs", "teacher_mass")
    wrong += [name for name in per_kept if len(getattr(row, name)) != kept]
    if wrong or not steps or not len(row.prompt_ids) or (kept and int(row.kept.max()) >= steps):
        raise LabelError(f"{where}: {', '.join(wrong) or 'its steps'} do not fit together; collect it anew")
    if kept and (row.candidates.ndim != 2 or row.candidates.shape[1] < 2):
        raise LabelError(
            f"{where}: a step has {row.candidates.shape[-1]} candidate; expected at least 2 to choose from"
        )
    broken = not_numbers({name: getattr(row, name) for name in (*FINITE, *LOG_PROBS)})
    if broken:
        raise LabelError(f"{where}: {', '.join(broken)} are not numbers; collect it anew")
    return row


def not_numbers(columns: Mapping[str, npt.ArrayLike]) -> list[str]:
    """Names of the columns that hold NaN, or an infinity that cannot be.

    A log-probability may be minus infinity: a token that its model never gives.
    """
    broken = []
    for name, values in columns.items():
        array = np.asarray(values, dtype=np.float64)
        fine = array < np.inf if name in LOG_PROBS else np.isfinite(array)
        if not fine.all():
            broken.append(name)
    return broken
