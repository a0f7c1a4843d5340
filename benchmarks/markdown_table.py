"""Markdown tables whose cells are Markdown themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The lines of a table, joined.

    Args:
        head: names of the columns.
        rows: the cells of each row, as many as columns.
    """
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *others])
