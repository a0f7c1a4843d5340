"""The tree of one request: its search, its token budget and its costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from s2t_eval.engine.request import Finish, Request, Result, Usage
from s2t_eval.engine.sampling import derive_seed
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.tot.node import Branch, Node, distinct
from s2t_eval.methods.tot.search import Search, TreeSettings


@dataclass
class Tree:
    """The search of one request.

    Args:
        index: of the request in the list that is decoded.
        request: prompt, limits and seed; its own sampling is not used.
        settings: the shape of the search.
        is_vote: whether the values of a level are shares of what their parents have (`value_at_stake`).
        search: the order of the search, with its solutions.
        spent: generated tokens of all branches and of their sampled evaluations.
        level: expansions that are complete; of a breadth-first search, its levels.
    """

    index: int
    request: Request
    settings: TreeSettings
    is_vote: bool = False
    search: Search = field(init=False)
    spent: int = 0
    level: int = 0
    usage: Usage = field(default_factory=Usage)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.search = self.settings.make_search()

    def branches(
        self,
        make_stop: Callable[[Request], StopRule],
        max_line: int,
        most_sampled: Callable[[int], int] = lambda num_branches: 0,
    ) -> list[Branch]:
        """The next continuations: as many as the budget allows, the best parents first.

        Every continuation may need `max_line` tokens. Towards the end of the budget a level is narrower, and
        the last lines of the best solution have only one continuation each.

        Args:
            make_stop: the rule by which a text ends.
            max_line: most tokens of a line.
            most_sampled: number of continuations -> most tokens that are sampled to evaluate them.
        """
        parents = self.search.parents
        candidates = [(parent, k) for k in range(self.settings.branch) for parent in range(len(parents))]
        num_branches = len(candidates)
        left = self.settings.budget - self.spent
        while num_branches > 1 and num_branches * max_line + most_sampled(num_branches) > left:
            num_branches -= 1
        request = replace(self.request, sampling=self.settings.sampling)
        return [
            Branch(self.index, request, make_stop(request), parents[parent], self._seed(parent, k))
            for parent, k in sorted(candidates[:num_branches])
        ]

    def _seed(self, parent: int, k: int) -> int:
        """The seed of one continuation, which does not depend on other continuations."""
        return derive_seed(self.request.seed, self.level, parent, k)

    def grow(self, children: Sequence[Node], sampled: int = 0) -> None:
        """Give the continuations to the search, equal ones once.

        Args:
            children: in the order of `branches`.
            sampled: tokens that were sampled to evaluate them.
        """
        self.spent += sum(len(node.line) for node in children) + sampled
        unique = [children[i] for i in sorted(set(distinct([node.output for node in children])))]
        num_kept = self.search.add(unique)
        self.usage.drafted_steps += len(children)
        self.usage.rejected_steps += len(children) - num_kept
        self.level += 1

    @property
    def value_at_stake(self) -> float:
        """Sum of the values of a breadth-first search's beam, 1 at first; always 1 of a depth-first search.

        It is what a vote over the next level divides. The value of a complete solution was taken out of it,
        so the end of the only line that is left does not outdo one that had most votes. Where a line that was
        cut off has had all votes, it is 1 again: the others are compared with each other alone. A depth-first
        search compares the continuations of one solution alone.
        """
        if self.level == 0 or self.settings.search == "dfs":
            return 1.0
        return self._beam_value or 1.0

    @property
    def _beam_value(self) -> float:
        """Sum of the values of the solutions that are continued next."""
        return sum(parent.value for parent in self.search.parents)

    @property
    def _is_decided(self) -> bool:
        """Whether a vote cannot give a solution that is continued more than the best complete one has."""
        if not self.is_vote or self.settings.search == "dfs":
            return False
        best = self.search.best
        return best.is_complete and best.value >= self._beam_value

    @property
    def is_done(self) -> bool:
        """Whether the search has ended or is decided, or its budget is spent."""
        return not self.search.parents or self._is_decided or self.spent >= self.settings.budget

    def result(self) -> Result:
        """The answer of the search, with its costs."""
        best, usage = self.search.best, self.usage
        usage.tokens = len(best.output)
        usage.discarded_tokens = self.spent - len(best.output)
        usage.seconds = time.perf_counter() - self.started
        finish = best.finish or Finish.LENGTH
        return Result(self.request, self.index, best.output, finish, [], usage)
