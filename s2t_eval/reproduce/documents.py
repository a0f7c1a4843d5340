"""Which documents of a task are evaluated, as options of lm_eval."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from s2t_eval.evaluation import benchmark_data
from s2t_eval.reproduce.commands import least
from s2t_eval.reproduce.read import RecipeError
from s2t_eval.reproduce.schema import TaskPart, document_ids

SIZES = {
    "s2t_gsm8k": 1319,
    "s2t_gsm8k_dev": 500,
    "s2t_math500": 500,
    "s2t_olympiadbench": 674,
    "s2t_aime25": 30,
    "s2t_humaneval": 164,
    "s2t_mmlu_pro": 12032,
    "s2t_minerva_math": 272,
    "s2t_arith": 300,
    "s2t_arith_dev": 300,
}
"""Documents of a whole task: for estimates of time, and to refuse a document that a task lacks before any
step runs. Another task's documents are checked by lm_eval, when its row begins."""
UNKNOWN_SIZE = 1000


@dataclass(frozen=True)
class Documents:
    """A choice of documents: their numbers, the first so many, or all (both None)."""

    ids: tuple[int, ...] | None = None
    limit: int | None = None

    def options(self, task: str) -> list[str]:
        """Options of lm_eval."""
        if self.ids is not None:
            return ["--samples", json.dumps({task: list(self.ids)}, separators=(",", ":"))]
        return ["--limit", str(self.limit)] if self.limit is not None else []

    def count(self, task: str) -> int:
        """How many, as far as it is known without reading the task."""
        size = SIZES.get(task, UNKNOWN_SIZE)
        return len(self.ids) if self.ids is not None else min(size, self.limit or size)


def selected_documents(part: TaskPart, most: int | None) -> Documents:
    """The documents that a part of a recipe chooses.

    Args:
        part: a column.
        most: largest number of documents; the first ones are taken.

    Raises:
        RecipeError: `limit_of_each` of a task whose documents cannot be read, or of an unknown field; or a
            document that one of s2t-eval's own tasks does not have.
    """
    if part.documents is not None:
        ids = tuple(document_ids(part.documents))
        _require_documents(part.task, ids)
        return Documents(ids[:most])
    if part.limit_of_each:
        return Documents(_first_ids_of_each(part)[:most])
    return Documents(limit=least(part.limit, most))


def _require_documents(task: str, ids: tuple[int, ...]) -> None:
    size = SIZES.get(task)
    if size is None:
        return
    if absent := [i for i in ids if i >= size]:
        raise RecipeError(
            f"tasks, {task}: expected documents from 0 to {size - 1}, got {absent[0]}"
            + (f" and {len(absent) - 1} more above it" if len(absent) > 1 else "")
        )


def _first_ids_of_each(part: TaskPart) -> tuple[int, ...]:
    name = part.task.removeprefix("s2t_")
    load = getattr(benchmark_data, name, None)
    if not part.task.startswith("s2t_") or not callable(load):
        raise RecipeError(
            f"tasks, {part.task}: limit_of_each is for s2t-eval's own tasks (s2t_*) alone; use documents"
        )
    ids = []
    counts: Counter[tuple[str, object]] = Counter()
    for i, document in enumerate(load()["test"]):
        for field, count in part.limit_of_each.items():
            if field not in document:
                known = ", ".join(document)
                raise RecipeError(f"tasks, {part.task}: documents have no field {field!r}; there are {known}")
            counts[field, document[field]] += 1
            if counts[field, document[field]] <= count:
                ids.append(i)
    return tuple(sorted(set(ids)))
