"""How many references a training needs: on each side those of the first problems that can be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

IsUsable = Callable[[str, Sequence[int]], bool]
"""Whether the text of a problem, as its id and tokens, can be a reference."""


@dataclass
class NeededReferences:
    """The references that one side needs.

    Args:
        problem_ids: the problems of the side, in order.
        limit: of these the first with a usable text are needed, this many. None: the texts of all are.
        is_usable: whether a text can be a reference; called at most once for each text, in order.
    """

    problem_ids: Sequence[str]
    limit: int | None
    is_usable: IsUsable
    _num_read: int = 0
    _num_found: int = 0
    _waiting: dict[str, Sequence[int]] = field(default_factory=dict)
    """Texts of problems behind one whose text is not finished."""

    @property
    def total(self) -> int:
        """How many references are needed; there are fewer where too few texts are usable."""
        size = len(self.problem_ids)
        return size if self.limit is None else min(self.limit, size)

    def add(self, problem_id: str, output_ids: Sequence[int]) -> int:
        """Take the text of one of these problems into account.

        Returns:
            How many more of the needed references there are now. At the last problem those that no text is
            left for are counted too, since nothing is missing then.
        """
        if self.limit is None:
            return 1
        self._waiting[problem_id] = output_ids
        before = self._num_found
        while self._num_found < self.total and self.problem_ids[self._num_read] in self._waiting:
            current = self.problem_ids[self._num_read]
            self._num_read += 1
            self._num_found += self.is_usable(current, self._waiting.pop(current))
            if self._num_read == len(self.problem_ids):
                self._num_found = self.total
        return self._num_found - before


class NeededOfSides:
    """The references that both sides need, in the form that `generate_teacher_rollouts` takes.

    Args:
        sides: what is needed of each side.
    """

    def __init__(self, sides: Sequence[NeededReferences]) -> None:
        self._side_of = {problem_id: side for side in sides for problem_id in side.problem_ids}
        self.total = sum(side.total for side in sides)

    def add(self, problem_id: str, output_ids: Sequence[int]) -> int:
        """Take a problem's text into account; returns how many more of the needed references there are."""
        return self._side_of[problem_id].add(problem_id, output_ids)
