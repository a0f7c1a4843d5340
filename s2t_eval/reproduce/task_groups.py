"""Groups of tasks in a recipe: when it is read, each is replaced by the tasks in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from s2t_eval.reproduce.schema import TaskPart

GROUPS = {
    "s2t_math": ("s2t_gsm8k", "s2t_math500", "s2t_olympiadbench", "s2t_aime25"),
    "s2t_paper": ("s2t_math", "s2t_humaneval", "s2t_mmlu_pro"),
}
"""Group -> its tasks and groups; a test compares it with the groups' own files."""


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a name stands for: those of a group of ours and of its groups, else the name alone.

    Example:
        >>> tasks_of("s2t_paper")[3:]
        ('s2t_aime25', 's2t_humaneval', 's2t_mmlu_pro')
    """
    return tuple(task for member in GROUPS.get(name, ()) for task in tasks_of(member)) or (name,)


def without_groups(parts: Sequence[TaskPart]) -> tuple[TaskPart, ...]:
    """The columns of a recipe with the tasks of each group in its place, each with the group's options.

    lm_eval has `--samples` by task, and a group's results are those of several tasks.

    Args:
        parts: the section `tasks`.

    Raises:
        ValueError: a task that two parts stand for.
    """
    place_of: dict[str, int] = {}
    tasks = []
    for i, part in enumerate(parts):
        for name in tasks_of(part.task):
            if name in place_of:
                first = place_of[name]
                raise ValueError(
                    f"tasks.{i}.task: expected each task once, got {name} in tasks.{first} "
                    f"({parts[first].task}) and in tasks.{i} ({part.task}); leave one of the two out, or "
                    "name the tasks instead of the group"
                )
            place_of[name] = i
            tasks.append(replace(part, task=name))
    return tuple(tasks)
