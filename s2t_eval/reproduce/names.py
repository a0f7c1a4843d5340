"""Names in a recipe: those of our tasks, and the message for an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache

from s2t_eval.artifacts.code import PACKAGE

OURS = "s2t_"
"""Beginning of the names of our tasks and groups."""
TASK_FOLDERS = (PACKAGE / "tasks", PACKAGE.parent / "tasks")
"""Of an installed package, and of a checkout."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


@cache
def own_tasks() -> tuple[str, ...]:
    """Our tasks and groups; each is a file of its name."""
    return tuple(sorted(path.stem for place in TASK_FOLDERS for path in place.rglob(f"{OURS}*.yaml")))


def require_task(task: str | None) -> None:
    """Raise `ValueError` for a task whose name is one of ours and that we do not have.

    Others are lm_eval's own or the user's; only lm_eval knows them.

    Args:
        task: the setting `task`; None where it is left out.
    """
    if task is not None and task.startswith(OURS) and task not in own_tasks():
        raise ValueError(f"task: there is no task {task!r}{suggestion(task, own_tasks())}")
