"""The documents of `--samples`, whose numbers the harness writes into its samples by their place in the list.

It evaluates them in the order of the data, each once. With another order, or a number that stands twice, the
samples named wrong documents, and so did everything that finds documents by these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence


def in_order_of_data(task: str, chosen: Sequence[int] | None, count: int) -> None:
    """Put a task's chosen documents into the order of the data, each once, as the harness evaluates them.

    The harness has only this list, so the list itself is changed.

    Args:
        task: the task, for messages.
        chosen: numbers of its documents, from 0; None: all documents.
        count: how many the task has.

    Raises:
        ValueError: no number at all, one that is no document's, or another sequence than a list in another
            order.
    """
    if chosen is None:
        return
    wrong = [number for number in chosen if not _is_document(number, count)]
    if wrong or not chosen:
        found = repr(wrong[0]) if wrong else "none"
        raise ValueError(
            f"task {task}, --samples: expected numbers of its documents, 0 to {count - 1}, got {found}"
        )
    ordered = sorted(set(chosen))
    if ordered == list(chosen):
        return
    if not isinstance(chosen, list):
        raise ValueError(f"task {task}, --samples: expected a list, or each number once and ascending")
    chosen[:] = ordered


def _is_document(number: object, count: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < count
