"""Detection of evaluation questions in training data.

`evaluation_questions.json` contains hashes of the questions of every benchmark that has a task here, and of
the development problems that settings are chosen on, so that the check needs neither network nor data. The
file is written by `python -m scripts.hash_evaluation_questions`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2t_eval.training.question_index import RECORD, QuestionIndex, Records, records

HASHES = Path(__file__).with_name("evaluation_questions.json")

LEAVE_OUT = "leave them out with --drop_overlap or choose other data"


class OverlapError(ValueError):
    """Training problems are also evaluation problems."""


def question_hash(question: str) -> str:
    """Hash of a question, 16 hex digits, regardless of case, spacing and punctuation.

    This function must not change: label sets contain its values, and the split into training and held-out
    problems follows their order. Comparison with benchmarks uses `find_overlap` instead.
    """
    words = re.findall(r"[^\W_]+|[^\w\s]", question.lower())
    letters = [word for word in words if word not in ".,;:!?'\"`$"]
    return hashlib.sha256(" ".join(letters).encode()).hexdigest()[:16]


@functools.cache
def evaluation_records() -> dict[str, Records]:
    """Benchmark -> records of its questions, from the file of this package."""
    content: dict[str, str] = json.loads(HASHES.read_text())
    return {name: np.frombuffer(base64.b64decode(text), RECORD) for name, text in content.items()}


@functools.cache
def _evaluation_index() -> QuestionIndex:
    return QuestionIndex(evaluation_records())


def find_overlap(
    texts: Sequence[str], extra_benchmarks: Mapping[str, Iterable[str]] | None = None
) -> dict[int, str]:
    """Index -> benchmark, for the texts that are or contain a question of a benchmark.

    Spelling, markup, typesetting and the text around the question do not matter; see `question_index`.

    Args:
        texts: training questions or whole prompts.
        extra_benchmarks: name -> questions of evaluation sets beside those of this package.
    """
    indices = [_evaluation_index()]
    if extra_benchmarks:
        extra = {name: records(questions) for name, questions in extra_benchmarks.items()}
        indices.append(QuestionIndex(extra))
    overlap: dict[int, str] = {}
    for i, text in enumerate(texts):
        name = next((name for index in indices if (name := index.find(text)) is not None), None)
        if name is not None:
            overlap[i] = name
    return overlap


def require_no_overlap(overlap: Mapping[int, str], total: int, advice: str) -> None:
    """Raise `OverlapError` if there is any overlap.

    Args:
        overlap: number of a problem -> benchmark, as of `find_overlap`.
        total: number of problems that were checked.
        advice: what the message advises the user to do.
    """
    if not overlap:
        return
    first, name = next(iter(overlap.items()))
    names = ", ".join(sorted(set(overlap.values())))
    raise OverlapError(
        f"{len(overlap)} of {total} problems are also evaluation problems of {names} (the first is problem "
        f"{first}, of {name}): a model must not be trained on problems that it is scored on; {advice}"
    )


def require_no_evaluation_prompts(prompts: Sequence[Any], decode: Callable[[list[int]], str]) -> None:
    """Raise `OverlapError` if one of a label set's prompts contains an evaluation question.

    Args:
        prompts: token ids of each prompt.
        decode: token ids to text, of the prompts' tokenizer.
    """
    overlap = find_overlap([decode([int(i) for i in prompt]) for prompt in prompts])
    require_no_overlap(overlap, len(prompts), "collect labels of other problems (or with --drop_overlap)")
