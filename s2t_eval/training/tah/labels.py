"""Which tokens are hard: a labeller's first guess under teacher forcing is not the next token.

A folder with `labels.parquet` and `manifest.json`; one row a text, prompts are never labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.engine import ModelRunner
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.training.split import split_by_question

FORMAT = 1
MANIFEST = "manifest.json"
TEXTS = "labels.parquet"
HEAD_CHUNK = 256
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
class Text:
    """One prompt with the text to learn from.

    Args:
        problem_id: where it comes from.
        question_hash: of the question; texts of one question stay on one side of a split.
        prompt_ids: the prompt, at least one token.
        output_ids: the text, its end token included, at least one token.
        hard: which of its tokens the labeller would not have said; empty before labelling.
    """

    problem_id: str
    question_hash: str
    prompt_ids: list[int]
    output_ids: list[int]
    hard: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """What labels were made of.

    Args:
        labeller: fingerprint of the model that labelled.
        labeller_name: how it was called.
        vocabulary: hash of its tokenizer's text entries.
        data: where the texts come from, with their number and hash.
        prompt: how problems were put.
        num_steps: labelled tokens.
        num_hard: how many of them are hard.
    """

    labeller: str
    labeller_name: str
    vocabulary: str
    data: dict[str, Any]
    prompt: dict[str, Any]
    num_steps: int
    num_hard: int
    format: int = FORMAT


KIND = ManifestKind(Manifest, "s2t-eval tah label", TahError, FORMAT, MANIFEST)


class TahLabels:
    """Labelled texts, in memory."""

    def __init__(self, manifest: Manifest, texts: Sequence[Text]) -> None:
        self.manifest = manifest
        self.texts = list(texts)

    def __iter__(self) -> Iterator[Text]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def save(self, folder: Path) -> None:
        """Write the folder whole or not at all."""
        with atomic_path(folder) as partial:
            partial.mkdir()
            rows = [asdict(text) for text in self.texts]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial / TEXTS, compression="zstd")
            write_manifest(partial / MANIFEST, self.manifest)

    @classmethod
    def load(cls, folder: Path) -> TahLabels:
        """Read a folder of `s2t-eval tah label`.

        Raises:
            TahError: missing or damaged; the message names the row.
        """
        manifest = KIND.read(f"labels={folder}", folder / MANIFEST)
        try:
            table = pq.read_table(folder / TEXTS, schema=SCHEMA)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise TahError(
                f"labels={folder}: {KIND.expected} and {TEXTS}, its {TEXTS} cannot be read "
                f"({single_line_message(error)}); label anew"
            ) from error
        texts = [Text(**row) for row in table.to_pylist()]
        for number, text in enumerate(texts):
            if not text.prompt_ids or not text.output_ids or len(text.hard) != len(text.output_ids):
                raise TahError(
                    f"labels: {folder / TEXTS}, row {number} ({text.problem_id}): prompt, text and labels "
                    "do not fit together; label anew"
                )
        return cls(manifest, texts)

    def require_vocabulary(self, vocabulary: str, name: str) -> None:
        """Raise `TahError` unless the student has the labeller's tokens."""
        fix = f"run `s2t-eval tah label` with {name}"
        saved = self.manifest.vocabulary
        KIND.require_same("labels", "tokenizer", saved, vocabulary, fix, self.manifest.labeller_name)

    def split(self, held_out: float) -> tuple[list[Text], list[Text]]:
        """Training and held-out texts; a question is never on both sides.

        Args:
            held_out: share of the questions to hold out, at least one.

        Raises:
            TahError: too few questions for two sides.
        """
        return split_by_question(self.texts, held_out, TahError)


@torch.inference_mode()
def label_hard(model: ModelRunner, texts: Sequence[Text], batch: int = 8) -> Iterator[Text]:
    """The texts with their labels, one prefill each.

    Args:
        model: the labeller, as a rule the student.
        texts: unlabelled texts.
        batch: texts encoded at once.
    """
    for begin in range(0, len(texts), batch):
        part = texts[begin : begin + batch]
        encoded = model.encode([[*text.prompt_ids, *text.output_ids[:-1]] for text in part])
        for text, states in zip(part, encoded, strict=True):
            deciding = states[len(text.prompt_ids) - 1 :]
            guesses = torch.cat([model.head(states).argmax(-1) for states in deciding.split(HEAD_CHUNK)])
            hard = (guesses.cpu().numpy() != np.array(text.output_ids)).tolist()
            yield Text(text.problem_id, text.question_hash, text.prompt_ids, text.output_ids, hard)
    model.release()
