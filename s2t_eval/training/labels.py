"""Label sets: the student's trajectories with a teacher's labels of every step.

A label set is a folder of Parquet shards with a `manifest.json`, which is written last: a folder without it
is unfinished. A row is one trajectory; steps are counted from the first generated token.
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
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.training.split import split_by_question

FORMAT = 1
SHARD_ROWS = 128
MANIFEST = "manifest.json"
ENTROPY = "entropy"
"""Key of `LabelManifest.data` that names another trigger, where the column `entropy` has its divergence."""

FINITE = ("kl_student_teacher", "kl_teacher_student", "entropy", "entropy64", "margin", "teacher_mass")
"""Columns of a trajectory whose values are finite."""
LOG_PROBS = ("top_log_probs", "student_log_probs", "teacher_log_probs")
"""Columns of log-probabilities, which may be minus infinity."""

NOT_COLUMNS = ("shard", "row", "has_exact_entropy")
"""Fields of a trajectory that are no columns of its shard."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class LabelError(ValueError):
    """A label set is damaged or unfinished, or does not fit the models that it is used with."""


@dataclass(frozen=True)
class Trajectory:
    """One labelled text: the student's greedy one, or one that a selector wrote from its candidates.

    Args:
        problem_id: an id that is unique over data sets: source, split and index.
        question_hash: hash of the normalised question; texts of one question stay on one side of a split.
        prompt_ids: the student's prompt, [prompt].
        teacher_prompt_ids: the teacher's prompt, which may contain privileged context.
        output_ids: the generated tokens, with the final stop token, [steps].
        kl_student_teacher: KL(p_S || p_L) over the student's top 64 tokens, nats, [steps].
        kl_teacher_student: KL(p_L || p_S) over the same tokens, nats, [steps].
        entropy: entropy of the student, nats, [steps]; of a set that servers made `entropy64`.
        margin: 1 - (p_1 - p_2) of the student's two most likely tokens, [steps].
        top_log_probs: the student's log-probabilities of its eight most likely tokens, [steps, 8].
        teacher_argmax: the teacher's most likely token of the whole text vocabulary, [steps].
        kept: the steps that have candidates, ascending, [kept].
        candidates: the student's most likely tokens at these steps, most likely first, [kept, 16].
        student_log_probs: log-probabilities of the candidates under the student, [kept, 16].
        teacher_log_probs: log-probabilities of the candidates under the teacher, over its whole text
            vocabulary, [kept, 16].
        teacher_mass: summed probability of the candidates under the teacher, [kept].
        entropy64: entropy of the student's 64 most likely tokens and of all others as one, nats, [steps];
            empty in sets of earlier versions.
        shard: name of the shard, for messages.
        row: index of the row in its shard, for messages.
        has_exact_entropy: whether `entropy` is over the whole vocabulary. A server returns 64 tokens of it,
            and then it is that of the trigger `entropy64`.
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
    entropy64: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    shard: str = ""
    row: int = 0
    has_exact_entropy: bool = True

    @property
    def text_ids(self) -> Ints:
        """Prompt and generated tokens, [prompt + steps]."""
        return np.concatenate([self.prompt_ids, self.output_ids])

    @property
    def source(self) -> str:
        """Shard, row and problem, for messages."""
        return f"{self.shard}, row {self.row} ({self.problem_id})"


@dataclass(frozen=True)
class LabelManifest:
    """The models, data and settings of a label set, which every later use is compared with.

    Args:
        student: fingerprint of the model that generated the texts.
        teacher: fingerprint of the model that labelled them.
        student_name: name of the student, for messages.
        teacher_name: name of the teacher, for messages.
        vocabulary: hash of the tokenizer's text entries.
        data: source, split, hash and number of the problems; of a set that servers made also `entropy`, the
            trigger whose value the column of this name has.
        prompt: chat template, system instruction, few-shot examples, length limit.
        seed: seed of the rollouts (greedy rollouts do not use it).
        teacher_context: kind of context that only the teacher's prompts contain; None without any.
        steps: "top" keeps candidates at the top `tau` of steps by KL, "all" at every step.
        tau: share of the steps that are top steps.
        kl_threshold: KL(p_S || p_L) above which a step is a top step, nats.
        num_steps: number of steps.
        num_kept: number of steps with candidates.
        num_top: number of steps above `kl_threshold`.
        hit_rate: K -> share of the top steps at which the teacher's argmax is among the first K candidates;
            None without top steps.
        shards: file name -> number of rows.
        rollouts: the selector with which the texts were written, and its policy; None for greedy texts.
        dtypes: "student" and "teacher" -> data type of its weights, where they are in this process, and of a
            student on servers where the user states it; None in sets of earlier versions.
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
    hit_rate: dict[str, float | None]
    shards: dict[str, int]
    format: int = field(default=FORMAT)
    rollouts: dict[str, Any] | None = None
    dtypes: dict[str, str] | None = None

    @property
    def has_exact_entropy(self) -> bool:
        """Whether the entropies are over the whole vocabulary; see `Trajectory`."""
        return ENTROPY not in self.data


KIND = ManifestKind(LabelManifest, "s2t-eval collect", LabelError, FORMAT, MANIFEST)


class LabelSet:
    """The trajectories of a label folder, in memory.

    Args:
        manifest: the set's manifest.
        trajectories: trajectories in the order of their problems.
    """

    def __init__(self, manifest: LabelManifest, trajectories: Sequence[Trajectory]) -> None:
        self.manifest = manifest
        self.trajectories = list(trajectories)

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    @property
    def hash(self) -> str:
        """Hash of the manifest, which identifies the set in the settings of a training run."""
        content = asdict(self.manifest)
        if self.manifest.dtypes is None:
            del content["dtypes"]  # the hash of sets that were made without it
        return data_hash([content])

    @classmethod
    def load(cls, folder: Path) -> LabelSet:
        """Read a folder of `s2t-eval collect`.

        Raises:
            LabelError: the set is unfinished, a shard is missing, truncated or empty, or a row is unusable.
        """
        manifest = _read_manifest(folder)
        trajectories: list[Trajectory] = []
        for name, rows in manifest.shards.items():
            trajectories.extend(_read_shard(folder / name, rows, manifest.has_exact_entropy))
        ids = [trajectory.problem_id for trajectory in trajectories]
        if len(set(ids)) != len(ids):
            repeated = next(i for i in ids if ids.count(i) > 1)
            raise LabelError(f"labels: {folder} holds problem {repeated} twice; collect the labels anew")
        return cls(manifest, trajectories)

    def require_student(self, fingerprint: str, vocabulary: str) -> None:
        """Raise `LabelError` unless this student generated the texts.

        Args:
            fingerprint: fingerprint of the student.
            vocabulary: hash of its tokenizer's text entries.
        """
        self._require_same("student", self.manifest.student, fingerprint)
        self.require_vocabulary(vocabulary)

    def require_vocabulary(self, vocabulary: str) -> None:
        """Raise `LabelError` unless the texts are of a tokenizer with this hash of its text entries."""
        self._require_same("tokenizer", self.manifest.vocabulary, vocabulary)

    def _require_same(self, field_name: str, saved: str, current: str) -> None:
        fix = "run `s2t-eval collect` with this student"
        KIND.require_same("labels", field_name, saved, current, fix, self.manifest.student_name)

    def split(self, held_out: float) -> tuple[list[Trajectory], list[Trajectory]]:
        """Training and held-out trajectories; those of one question are always on the same side.

        Args:
            held_out: share of the questions to hold out; at least one question is.

        Raises:
            LabelError: there are too few questions for two sides.
        """
        return split_by_question(self.trajectories, held_out, LabelError)


def columns_of(row: Trajectory) -> dict[str, Any]:
    """The columns of a trajectory in its shard."""
    return {name: getattr(row, name) for name in SCHEMA.names}


def write_labels(folder: Path, manifest: LabelManifest, rows: Sequence[dict[str, Any]]) -> LabelManifest:
    """Write the shards, then the manifest, which makes the folder a finished label set.

    Args:
        folder: an existing folder.
        manifest: the manifest without its shards.
        rows: trajectories, as mappings of their columns.

    Returns:
        The manifest with its shards.
    """
    (folder / "shards").mkdir(exist_ok=True)
    shards: dict[str, int] = {}
    for begin in range(0, len(rows), SHARD_ROWS):
        part = rows[begin : begin + SHARD_ROWS]
        name = f"shards/shard-{begin // SHARD_ROWS:05d}.parquet"
        table = pa.Table.from_pylist(
            [{column: _to_list(row[column]) for column in SCHEMA.names} for row in part], SCHEMA
        )
        with atomic_path(folder / name) as partial:
            pq.write_table(table, partial, compression="zstd")
        shards[name] = len(part)
    complete = LabelManifest(**{**asdict(manifest), "shards": shards})
    write_manifest(folder / MANIFEST, complete)
    return complete


def _schema() -> pa.Schema:
    types = {"Ints": pa.int32(), "Floats": pa.float32(), "str": pa.string()}
    matrices = ("top_log_probs", "candidates", "student_log_probs", "teacher_log_probs")
    columns = []
    for item in fields(Trajectory):
        if item.name in NOT_COLUMNS:
            continue
        kind = types[str(item.type)]
        if item.type != "str":
            kind = pa.list_(pa.list_(kind) if item.name in matrices else kind)
        columns.append(pa.field(item.name, kind))
    return pa.schema(columns)


SCHEMA = _schema()


def _to_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _read_manifest(folder: Path) -> LabelManifest:
    unfinished = (folder / "work").is_dir()
    hint = "its collection was interrupted; run the same command again to resume it" if unfinished else ""
    return KIND.read(f"labels={folder}", folder / MANIFEST, hint)


def _read_shard(path: Path, expected_rows: int, has_exact_entropy: bool) -> list[Trajectory]:
    try:
        table = pq.read_table(path, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"labels: shard {path} is missing, truncated or not Parquet ({reason}); collect the labels anew"
        ) from error
    if table.num_rows != expected_rows or not expected_rows:
        raise LabelError(
            f"labels: shard {path}: expected {expected_rows} rows, as in the manifest, got {table.num_rows}; "
            "collect the labels anew"
        )
    return [
        _trajectory(row, {"shard": path.name, "row": i, "has_exact_entropy": has_exact_entropy})
        for i, row in enumerate(table.to_pylist())
    ]


def _trajectory(row: dict[str, Any], more: dict[str, Any]) -> Trajectory:
    """A trajectory from a row's columns and the fields that are none."""
    values, shard, number = dict(more), more["shard"], more["row"]
    for item in fields(Trajectory):
        if item.name in values:
            continue
        value = row[item.name]
        if item.type == "str":
            values[item.name] = value
            continue
        dtype = np.int32 if item.type == "Ints" else np.float32
        try:
            values[item.name] = np.array([] if value is None else value, dtype=dtype)
        except (ValueError, TypeError) as error:
            raise LabelError(
                f"labels: shard {shard}, row {number}: {item.name} is ragged or empty"
            ) from error
    return _checked(Trajectory(**values))


def _checked(row: Trajectory) -> Trajectory:
    """The row itself; raises `LabelError` if its columns do not fit together or are not finite."""
    where = f"labels: shard {row.source}"
    steps, kept = len(row.output_ids), len(row.kept)
    per_step = ("kl_student_teacher", "kl_teacher_student", "entropy", "margin", "teacher_argmax")
    wrong = [name for name in per_step if len(getattr(row, name)) != steps]
    wrong += ["entropy64"] if len(row.entropy64) not in (0, steps) else []
    per_kept = ("candidates", "student_log_probs", "teacher_log_probs", "teacher_mass")
    wrong += [name for name in per_kept if len(getattr(row, name)) != kept]
    if wrong or not steps or not len(row.prompt_ids) or (kept and int(row.kept.max()) >= steps):
        raise LabelError(
            f"{where}: the lengths of {', '.join(wrong) or 'its steps'} differ from the text's; collect the "
            "labels anew"
        )
    if kept and (row.candidates.ndim != 2 or row.candidates.shape[1] < 2):
        raise LabelError(
            f"{where}: expected at least 2 candidates a step, got {row.candidates.shape[-1]}; collect the "
            "labels anew"
        )
    broken = non_finite_columns({name: getattr(row, name) for name in (*FINITE, *LOG_PROBS)})
    if broken:
        raise LabelError(f"{where}: {', '.join(broken)} are not finite; collect the labels anew")
    return row


def non_finite_columns(columns: Mapping[str, npt.ArrayLike]) -> list[str]:
    """Names of the columns that contain NaN or an infinity.

    A log-probability may be minus infinity, for a token of probability 0.
    """
    broken = []
    for name, values in columns.items():
        array = np.asarray(values, dtype=np.float64)
        is_valid = array < np.inf if name in LOG_PROBS else np.isfinite(array)
        if not is_valid.all():
            broken.append(name)
    return broken
