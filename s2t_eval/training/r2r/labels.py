"""R2R's labels on disk: `manifest.json` and shards of safetensors; the manifest is written last.

A shard contains some texts of the teacher, each under its number: `NUMBER.output_ids` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.training.r2r.rules import DIVERGENT, IDENTICAL, NEUTRAL, UNSCORED
from s2t_eval.training.split import split_by_question

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_TEXTS = 64


@dataclass(frozen=True)
class LabelledText:
    """One greedy text of the teacher, with the student's outputs and a verdict at each step.

    Args:
        problem_id: unique over data sets: source, split and index.
        question_hash: of the normalised question.
        prompt_ids: int32 [prompt].
        output_ids: the text, its final stop token included, int32 [steps].
        student_ids: the student's most likely token at each step, int32 [steps].
        top_logits: its largest logits, largest first, float16 [steps, num_logits].
        hidden: its last hidden states, float16 [steps, hidden].
        verdicts: IDENTICAL, NEUTRAL, DIVERGENT or UNSCORED, uint8 [steps].
    """

    problem_id: str
    question_hash: str
    prompt_ids: Tensor
    output_ids: Tensor
    student_ids: Tensor
    top_logits: Tensor
    hidden: Tensor
    verdicts: Tensor


COLUMNS = tuple(item.name for item in fields(LabelledText) if str(item.type) == "Tensor")


@dataclass(frozen=True)
class R2RManifest:
    """What R2R's labels were made of.

    Args:
        student: fingerprint of the model whose tokens were compared.
        teacher: fingerprint of the model that wrote and continued the texts.
        student_name: how it was called, for people.
        teacher_name: how it was called.
        vocabulary: hash of the tokenizer's text entries.
        hidden_size: width of the student.
        num_logits: largest logits kept at each step.
        data: source, split, hash and number of the problems.
        prompt: chat template, system instruction, few-shot examples, length limit.
        settings: of the rule.
        num_texts: texts that ended within their limit; only they are labelled.
        num_unfinished: texts that reached their limit, and were left out.
        num_identical: tokens at which the student's most likely token is the teacher's.
        num_neutral: tokens at which it is another, but the text keeps its meaning by the rule.
        num_divergent: tokens at which it is another, and the text changes its meaning by the rule.
        num_unscored: tokens at which the rule gave no verdict.
        validation: agreement and Cohen's kappa with the rule `answer` on a sample, with its n; None without
            one.
        cost: tokens that the teacher generated and prefilled, and the student prefilled, by stage.
        problems: problem and hash of the question of each text, in order.
        shards: file name -> number of texts.
    """

    student: str
    teacher: str
    student_name: str
    teacher_name: str
    vocabulary: str
    hidden_size: int
    num_logits: int
    data: dict[str, Any]
    prompt: dict[str, Any]
    settings: dict[str, Any]
    num_texts: int = 0
    num_unfinished: int = 0
    num_identical: int = 0
    num_neutral: int = 0
    num_divergent: int = 0
    num_unscored: int = 0
    validation: dict[str, float] | None = None
    cost: dict[str, int] = field(default_factory=dict)
    problems: list[list[str]] = field(default_factory=list)
    shards: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def shares(self) -> tuple[float, float, float]:
        """Identical, neutral and divergent tokens among those with a verdict, percent."""
        counts = (self.num_identical, self.num_neutral, self.num_divergent)
        identical, neutral, divergent = (100 * count / max(1, sum(counts)) for count in counts)
        return identical, neutral, divergent

    def described(self) -> dict[str, Any]:
        """The part that a router's folder stores: all but the list of problems and files."""
        return {name: value for name, value in asdict(self).items() if name not in ("problems", "shards")}


KIND = ManifestKind(R2RManifest, "s2t-eval r2r label", R2RError, FORMAT, MANIFEST)


class R2RLabels:
    """Labelled texts, in memory."""

    def __init__(self, manifest: R2RManifest, texts: Sequence[LabelledText]) -> None:
        self.manifest = manifest
        self.texts = list(texts)

    def __iter__(self) -> Iterator[LabelledText]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def load(cls, folder: Path) -> R2RLabels:
        """Read a folder of `s2t-eval r2r label`.

        Raises:
            R2RError: no finished folder, a missing or damaged shard, or tensors that do not fit together.
        """
        unfinished = (folder / "work").is_dir()
        hint = "its labelling was interrupted; run the same command again" if unfinished else ""
        manifest = KIND.read(f"labels={folder}", folder / MANIFEST, hint)
        tensors: dict[str, Tensor] = {}
        for name in manifest.shards:
            try:
                tensors.update(load_file(folder / name))
            except (OSError, SafetensorError) as error:
                raise R2RError(
                    f"labels: shard {folder / name} is missing or damaged ({error}); label anew"
                ) from error
        numbered = enumerate(manifest.problems)
        return cls(
            manifest, [_labelled_text(folder, manifest, i, identity, tensors) for i, identity in numbered]
        )

    def require_student(self, fingerprint: str, vocabulary: str) -> None:
        """Raise `R2RError` unless these are the labels of this student."""
        fix = "run `s2t-eval r2r label` with this student"
        for what, saved, current in (
            ("student", self.manifest.student, fingerprint),
            ("tokenizer", self.manifest.vocabulary, vocabulary),
        ):
            KIND.require_same("labels", what, saved, current, fix, self.manifest.student_name)

    def split(self, held_out: float) -> tuple[list[LabelledText], list[LabelledText]]:
        """Training and held-out texts; a question is never on both sides; see `split_by_question`."""
        return split_by_question(self.texts, held_out, R2RError)


def write_labels(folder: Path, manifest: R2RManifest, texts: Sequence[LabelledText]) -> R2RManifest:
    """Write the shards, then the manifest that makes them a label set; returns it, counted."""
    (folder / "shards").mkdir(exist_ok=True)
    shards: dict[str, int] = {}
    for begin in range(0, len(texts), SHARD_TEXTS):
        shard_texts = texts[begin : begin + SHARD_TEXTS]
        name = f"shards/shard-{begin // SHARD_TEXTS:05d}.safetensors"
        tensors = {
            f"{begin + i:06d}.{column}": getattr(text, column).contiguous()
            for i, text in enumerate(shard_texts)
            for column in COLUMNS
        }
        with atomic_path(folder / name) as partial:
            save_file(tensors, partial)
        shards[name] = len(shard_texts)
    all_verdicts = torch.cat([text.verdicts for text in texts])
    counts = {verdict: int((all_verdicts == verdict).sum()) for verdict in range(UNSCORED + 1)}
    complete = replace(
        manifest,
        num_texts=len(texts),
        num_identical=counts[IDENTICAL],
        num_neutral=counts[NEUTRAL],
        num_divergent=counts[DIVERGENT],
        num_unscored=counts[UNSCORED],
        problems=[[text.problem_id, text.question_hash] for text in texts],
        shards=shards,
    )
    write_manifest(folder / MANIFEST, complete)
    return complete


def _labelled_text(
    folder: Path, manifest: R2RManifest, number: int, identity: Sequence[str], tensors: Mapping[str, Tensor]
) -> LabelledText:
    try:
        problem_id, question_hash = identity
        columns = {column: tensors[f"{number:06d}.{column}"] for column in COLUMNS}
    except (KeyError, ValueError) as error:
        raise R2RError(f"labels={folder}: text {number} is not whole ({error}); label anew") from error
    text = LabelledText(problem_id, question_hash, **columns)
    steps = len(text.output_ids)
    shapes = {
        "student_ids": (steps,),
        "top_logits": (steps, manifest.num_logits),
        "hidden": (steps, manifest.hidden_size),
        "verdicts": (steps,),
    }
    misshapen = [column for column, shape in shapes.items() if tuple(columns[column].shape) != shape]
    if misshapen or not steps or not len(text.prompt_ids) or int(text.verdicts.max()) > UNSCORED:
        reason = ", ".join(misshapen) or "its steps"
        raise R2RError(f"labels={folder}: text {number} ({problem_id}): {reason} do not fit; label anew")
    return text
