"""The order of a tree search: which solutions are continued next, and which one is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from s2t_eval.engine.request import Finish
from s2t_eval.engine.sampling import Sampling
from s2t_eval.methods.tot.node import Node

SearchName = Literal["bfs", "dfs"]
SEARCHES: tuple[SearchName, ...] = get_args(SearchName)


@dataclass(frozen=True)
class TreeSettings:
    """The shape of the search.

    Args:
        beam: solutions that are continued from one level to the next (b of the paper); only of `bfs`.
        branch: continuations of each (k).
        budget: most generated tokens of all branches of a request together, sampled evaluations included;
            the default is eight texts of 255 tokens.
        depth: most lines of a solution; None: as many as budget and limit of tokens allow.
        sampling: how the continuations are drawn; None takes the most likely tokens.
        search: `bfs` or `dfs`.
        min_value: a continuation below this value is abandoned; only of `dfs` (v_th of the paper).
    """

    beam: int = 2
    branch: int = 4
    budget: int = 2040
    depth: int | None = None
    sampling: Sampling | None = field(default_factory=lambda: Sampling(0.7, 0.8, 20))
    search: SearchName = "bfs"
    min_value: float = 0.0

    @property
    def most_branches(self) -> int:
        """Most continuations that are decoded at once."""
        return self.branch if self.search == "dfs" else self.beam * self.branch

    def make_search(self) -> Search:
        """The order of a new search."""
        if self.search == "dfs":
            return DepthFirst(self.depth, self.min_value)
        return BreadthFirst(self.beam, self.depth)


class Search(Protocol):
    """Decides which solutions of a tree are continued."""

    @property
    def parents(self) -> Sequence[Node]:
        """The solutions that are continued next, the best first; none where the search has ended."""
        ...

    def add(self, children: Sequence[Node]) -> int:
        """Take the continuations of `parents`, each text once.

        Returns:
            How many of them are kept: those that may be continued, complete ones, those that were cut off.
        """
        ...

    @property
    def best(self) -> Node:
        """The answer, if the search ended here."""
        ...


@dataclass
class BreadthFirst:
    """Levels: the best continuations of all solutions are continued, and complete ones leave the beam.

    It ends when `beam` solutions are complete, none is left, or all levels are done. The answer is the
    complete solution of the highest value, else the best other one. Solutions that were cut off at the limit
    of tokens cannot be continued and take no place in the beam.

    Args:
        beam: solutions that are kept.
        depth: most levels; None: no limit.
        unfinished: the solutions that are continued, the best first.
        complete: complete solutions, in the order of their levels.
        cut_off: solutions that were cut off at the limit of tokens.
        level: levels that are done.
    """

    beam: int
    depth: int | None
    unfinished: list[Node] = field(default_factory=lambda: [Node([])])
    complete: list[Node] = field(default_factory=list)
    cut_off: list[Node] = field(default_factory=list)
    level: int = 0

    @property
    def parents(self) -> Sequence[Node]:
        """The beam, unless the search has ended."""
        has_ended = _is_deepest(self.level, self.depth) or len(self.complete) >= self.beam
        return [] if has_ended else self.unfinished

    def add(self, children: Sequence[Node]) -> int:
        """Keep the best continuations; the complete ones among them leave the beam."""
        cut_off = [node for node in children if node.finish is Finish.LENGTH]
        others = [node for node in children if node.finish is not Finish.LENGTH]
        self.cut_off += cut_off
        selected = sorted(others, key=lambda node: -node.value)[: self.beam - len(self.complete)]
        self.complete += [node for node in selected if node.is_complete]
        self.unfinished = [node for node in selected if node.finish is None]
        self.level += 1
        return len(selected) + len(cut_off)

    @property
    def best(self) -> Node:
        """The complete solution of the highest value, else the best other one."""
        return max(self.complete or [*self.unfinished, *self.cut_off], key=lambda node: node.value)


@dataclass
class DepthFirst:
    """The best continuation is continued first; where none is left, the search goes back to the next best.

    It ends with the first complete solution that it reaches, or where every solution is abandoned. A
    solution is abandoned where its value is below `min_value`, and where it is not complete at `depth` lines
    or at the limit of tokens.

    Args:
        depth: most lines of a solution; None: no limit.
        min_value: smallest value of a solution that is continued.
        stack: solutions that may be continued; the last one is next.
        abandoned: solutions that are not continued, complete ones included.
    """

    depth: int | None
    min_value: float
    stack: list[Node] = field(default_factory=lambda: [Node([])])
    abandoned: list[Node] = field(default_factory=list)

    @property
    def parents(self) -> Sequence[Node]:
        """The last solution on the stack, unless it is complete."""
        return [node for node in self.stack[-1:] if not node.is_complete]

    def add(self, children: Sequence[Node]) -> int:
        """Put the continuations on the stack, the best last; the first of equal ones comes first."""
        self.stack.pop()
        kept = [node for node in children if node.value >= self.min_value and self._is_for_stack(node)]
        self.abandoned += [node for node in children if node not in kept]
        self.stack += sorted(kept, key=lambda node: -node.value)[::-1]
        return len(kept) + sum(node.finish is Finish.LENGTH for node in children)

    def _is_for_stack(self, node: Node) -> bool:
        """Whether it is complete or can be continued."""
        return node.is_complete or (node.finish is None and not _is_deepest(node.depth, self.depth))

    @property
    def best(self) -> Node:
        """The complete solution that was reached.

        Else the complete one of the highest value; else the one that would be continued next; else the best
        abandoned one.
        """
        if self.stack and self.stack[-1].is_complete:
            return self.stack[-1]
        complete = [node for node in [*self.stack, *self.abandoned] if node.is_complete]
        candidates = complete or self.stack[-1:] or self.abandoned
        return max(candidates, key=lambda node: node.value)


def _is_deepest(num_lines: int, depth: int | None) -> bool:
    """Whether solutions of so many lines get no further one; a `depth` of None is no limit."""
    return depth is not None and num_lines >= depth
