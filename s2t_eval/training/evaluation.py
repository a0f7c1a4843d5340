"""Questions that models are scored on, and the refusal to learn from them.

`evaluation_questions.json` holds hashes of the questions of every benchmark we ship a task for, and of the
development problems that settings are chosen by: the check needs no network and no data. Made anew by

    python -m s2t_eval.training.evaluation DATA      # a folder laid out like the hub
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from s2t_eval.benchmark_data import gsm8k
from s2t_eval.files import write_text

HASHES = Path(__file__).with_name("evaluation_questions.json")
HASH_DIGITS = 12

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


class OverlapError(ValueError):
    """Training problems that are also evaluation problems."""


def question_hash(question: str) -> str:
    """16 hex digits of a question without its case, spacing and punctuation."""
    words = re.findall(r"[^\W_]+|[^\w\s]", question.lower())
    letters = [word for word in words if word not in ".,;:!?'\"`$"]
    return hashlib.sha256(" ".join(letters).encode()).hexdigest()[:16]


def evaluation_hashes() -> dict[str, frozenset[str]]:
    """Benchmark -> hashes of its questions, `HASH_DIGITS` hex digits each."""
    content: dict[str, str] = json.loads(HASHES.read_text())
    return {
        name: frozenset(text[i : i + HASH_DIGITS] for i in range(0, len(text), HASH_DIGITS))
        for name, text in content.items()
    }


def find_overlap(hashes: Sequence[str], further: Mapping[str, Iterable[str]] | None = None) -> dict[int, str]:
    """Index -> benchmark, for those of these question hashes that a benchmark holds.

    Args:
        hashes: of the training questions.
        further: more evaluation sets, name -> question hashes.
    """
    known = {name: set(found) for name, found in evaluation_hashes().items()}
    for name, more in (further or {}).items():
        known.setdefault(name, set()).update(value[:HASH_DIGITS] for value in more)
    return {i: name for i, value in enumerate(hashes) for name in known if value[:HASH_DIGITS] in known[name]}


def require_no_overlap(overlap: Mapping[int, str], total: int) -> None:
    """Raise `OverlapError` that names how many problems are whose, and the first."""
    if not overlap:
        return
    first, name = next(iter(overlap.items()))
    names = ", ".join(sorted(set(overlap.values())))
    raise OverlapError(
        f"{len(overlap)} of {total} problems are also evaluation problems of {names} (the first is problem "
        f"{first}, of {name}): what is measured on them must not be learnt from; leave them out with "
        "--drop-overlap or choose other data"
    )


def main() -> None:
    """Hash the benchmarks under a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder whose layout is the hub's")
    data: Path = parser.parse_args().data
    questions = {}
    for name, (folder, field) in SOURCES.items():
        (path,) = sorted((data / folder).rglob("test*.jsonl"))
        questions[name] = [json.loads(line)[field] for line in path.open(encoding="utf-8")]
    questions["gsm8k_dev"] = list(gsm8k(str(data))["dev"]["question"])
    content = {}
    for name, texts in questions.items():
        content[name] = "".join(sorted({question_hash(text)[:HASH_DIGITS] for text in texts}))
        print(f"{name}: {len(content[name]) // HASH_DIGITS} of {len(texts)} questions")
    write_text(HASHES, json.dumps(content, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
