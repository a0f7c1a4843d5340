"""Questions that models are scored on, and the refusal to learn from them.

`evaluation_questions.json` holds hashes of the questions of every benchmark we ship a task for, and of the
development problems that settings are chosen by: the check needs no network and no data. Made anew by

    python -m s2t_eval.training.contamination DATA      # a folder laid out like the hub
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2t_eval.artifacts.files import write_text
from s2t_eval.evaluation.benchmark_data import gsm8k
from s2t_eval.training.question_index import RECORD, QuestionIndex, Records, records

HASHES = Path(__file__).with_name("evaluation_questions.json")

SOURCES = {
    "gsm8k": ("openai/gsm8k", "question"),
    "math500": ("HuggingFaceH4/MATH-500", "problem"),
    "humaneval": ("openai/openai_humaneval", "prompt"),
    "mmlu_pro": ("TIGER-Lab/MMLU-Pro", "question"),
    "aime25": ("math-ai/aime25", "problem"),
    "olympiadbench": ("olympiadbench", "problem"),
    "minerva_math": ("minerva_math", "problem"),
}
"""Benchmark -> its folder and the field that holds the question."""


LEAVE_OUT = "leave them out with --drop-overlap or choose other data"


class OverlapError(ValueError):
    """Training problems that are also evaluation problems."""


def question_hash(question: str) -> str:
    """16 hex digits of a question without its case, spacing and punctuation.

    Label sets hold it, and their split into training and held-out problems follows its order: it stays as
    it is. What is compared with benchmarks is `find_overlap`'s.
    """
    words = re.findall(r"[^\W_]+|[^\w\s]", question.lower())
    letters = [word for word in words if word not in ".,;:!?'\"`$"]
    return hashlib.sha256(" ".join(letters).encode()).hexdigest()[:16]


@functools.cache
def evaluation_records() -> dict[str, Records]:
    """Benchmark -> records of its questions, as they are shipped."""
    content: dict[str, str] = json.loads(HASHES.read_text())
    return {name: np.frombuffer(base64.b64decode(text), RECORD) for name, text in content.items()}


@functools.cache
def _evaluation_index() -> QuestionIndex:
    return QuestionIndex(evaluation_records())


def find_overlap(texts: Sequence[str], further: Mapping[str, Iterable[str]] | None = None) -> dict[int, str]:
    """Index -> benchmark, for those of these texts that are or hold a question of a benchmark.

    Spelling, markup and typesetting do not matter, nor does what stands around the question; see
    `question_index`.

    Args:
        texts: training questions or whole prompts.
        further: more evaluation sets, name -> questions.
    """
    indices = [_evaluation_index()]
    if further:
        indices.append(QuestionIndex({name: records(questions) for name, questions in further.items()}))
    found: dict[int, str] = {}
    for i, text in enumerate(texts):
        name = next((name for index in indices if (name := index.find(text)) is not None), None)
        if name is not None:
            found[i] = name
    return found


def require_no_overlap(overlap: Mapping[int, str], total: int, advice: str) -> None:
    """Raise `OverlapError` that names how many problems are whose, and the first.

    Args:
        overlap: what `find_overlap` found.
        total: problems that were looked at.
        advice: what to do.
    """
    if not overlap:
        return
    first, name = next(iter(overlap.items()))
    names = ", ".join(sorted(set(overlap.values())))
    raise OverlapError(
        f"{len(overlap)} of {total} problems are also evaluation problems of {names} (the first is problem "
        f"{first}, of {name}): what is measured on them must not be learnt from; {advice}"
    )


def require_no_evaluation_prompts(prompts: Sequence[Any], decode: Callable[[list[int]], str]) -> None:
    """Raise `OverlapError` if one of a label set's prompts holds a question that models are scored on.

    Args:
        prompts: token ids of each.
        decode: of their tokenizer.
    """
    overlap = find_overlap([decode([int(i) for i in prompt]) for prompt in prompts])
    require_no_overlap(overlap, len(prompts), "collect labels of other problems (or with --drop-overlap)")


def main() -> None:
    """Hash the benchmarks under a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder whose layout is the hub's")
    data: Path = parser.parse_args().data
    questions = {}
    for name, (folder, field) in SOURCES.items():
        (path,) = sorted((data / folder).rglob("test*.jsonl"))
        with path.open(encoding="utf-8") as lines:
            questions[name] = [json.loads(line)[field] for line in lines]
    questions["gsm8k_dev"] = list(gsm8k(str(data))["dev"]["question"])
    content = {}
    for name, texts in questions.items():
        found = records(texts)
        content[name] = base64.b64encode(found.tobytes()).decode()
        print(f"{name}: {len(found)} of {len(texts)} questions")
    write_text(HASHES, json.dumps(content, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
