"""Labels of hard tokens: those that are not the labelling model's argmax under teacher forcing.

A label folder contains `labels.parquet`, with one text a row, and `manifest.json`. Prompts are not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.engine import ModelRunner
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.training.split import split_by_question
from s2t_eval.training.step_states import by_chunks, step_states

FORMAT = 1
MANIFEST = "manifest.json"
TEXTS = "labels.parquet"
HEAD_CHUNK = 256
BATCH_SIZE = 8
"""Texts of one prefill."""
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question_hash", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_ids", pa.list_(pa.int32())),
        ("hard", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True)
class LabelledText:
    """One prompt with the text that is trained on.

    Args:
        problem_id: id of the problem.
        question_hash: hash of the question; texts of one question stay on one side of a split.
        prompt_ids: the prompt, at least one token.
        output_ids: the text with its end token, at least one token.
        hard: whether each token of the text is hard; empty before labelling.
    """

    problem_id: str
    question_hash: str
    prompt_ids: list[int]
    output_ids: list[int]
    hard: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class TahManifest:
    """The model, data and counts of a label folder.

    Args:
        labeller: fingerprint of the labelling model.
        labeller_name: name of that model, for messages.
        vocabulary: hash of its tokenizer's text entries.
        data: source of the texts, with their number and hash.
        prompt: chat template, system instruction, few-shot examples, length limit.
        num_steps: number of labelled tokens.
        num_hard: number of hard tokens.
    """

    labeller: str
    labeller_name: str
    vocabulary: str
    data: dict[str, Any]
    prompt: dict[str, Any]
    num_steps: int
    num_hard: int
    format: int = FORMAT


KIND = ManifestKind(TahManifest, "s2t-eval tah label", TahError, FORMAT, MANIFEST)


class TahLabels:
    """The texts of a label folder, in memory.

    Args:
        manifest: the folder's manifest.
        texts: labelled texts.
    """

    def __init__(self, manifest: TahManifest, texts: Sequence[LabelledText]) -> None:
        self.manifest = manifest
        self.texts = list(texts)

    def __iter__(self) -> Iterator[LabelledText]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def hash(self) -> str:
        """Hash of the manifest, which identifies the labels in the settings of a training run."""
        return data_hash([asdict(self.manifest)])

    def save(self, folder: Path) -> None:
        """Write the folder, completely or not at all."""
        with atomic_path(folder) as partial:
            partial.mkdir()
            rows = [asdict(text) for text in self.texts]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial / TEXTS, compression="zstd")
            write_manifest(partial / MANIFEST, self.manifest)

    @classmethod
    def load(cls, folder: Path) -> TahLabels:
        """Read a folder of `s2t-eval tah label`.

        Raises:
            TahError: the folder is missing or damaged; the message names the row.
        """
        manifest = KIND.read(f"labels={folder}", folder / MANIFEST)
        try:
            table = pq.read_table(folder / TEXTS, schema=SCHEMA)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise TahError(
                f"labels={folder}: {KIND.expected} and {TEXTS}, its {TEXTS} cannot be read "
                f"({single_line_message(error)}); label anew"
            ) from error
        texts = [LabelledText(**row) for row in table.to_pylist()]
        for number, text in enumerate(texts):
            if not text.prompt_ids or not text.output_ids or len(text.hard) != len(text.output_ids):
                raise TahError(
                    f"labels: {folder / TEXTS}, row {number} ({text.problem_id}): expected a prompt, a text "
                    f"and as many labels, got {len(text.prompt_ids)}, {len(text.output_ids)} and "
                    f"{len(text.hard)} entries; label anew"
                )
        return cls(manifest, texts)

    def require_vocabulary(self, vocabulary: str, name: str) -> None:
        """Raise `TahError` unless the student has the vocabulary of the labelling model."""
        fix = f"run `s2t-eval tah label` with {name}"
        saved = self.manifest.vocabulary
        KIND.require_same("labels", "tokenizer", saved, vocabulary, fix, self.manifest.labeller_name)

    def split(self, held_out: float) -> tuple[list[LabelledText], list[LabelledText]]:
        """Training and held-out texts; those of one question are always on the same side.

        Args:
            held_out: share of the questions to hold out; at least one question is.

        Raises:
            TahError: there are too few questions for two sides.
        """
        return split_by_question(self.texts, held_out, TahError)


@torch.inference_mode()
def label_hard_tokens(
    model: ModelRunner, texts: Sequence[LabelledText], batch_size: int = BATCH_SIZE
) -> Iterator[LabelledText]:
    """The texts with labels of hard tokens, from one prefill each.

    Args:
        model: the labelling model, usually the student.
        texts: texts without labels.
        batch_size: texts of one prefill.
    """
    for begin in range(0, len(texts), batch_size):
        part = texts[begin : begin + batch_size]
        encoded = step_states(model, [text.prompt_ids for text in part], [text.output_ids for text in part])
        for text, states in zip(part, encoded, strict=True):
            (argmax,) = by_chunks(lambda chunk: [model.head(chunk).argmax(-1)], states, size=HEAD_CHUNK)
            hard = (argmax.cpu().numpy() != np.array(text.output_ids)).tolist()
            yield replace(text, hard=hard)
    model.release()
