"""The tree of one request: its beam of unfinished solutions, its finished ones, and its token budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from s2t_eval.engine.request import Finish, Request, Result, Usage
from s2t_eval.engine.sampling import Sampling, derive_seed
from s2t_eval.engine.sequence import Sequence as DecodedSequence
from s2t_eval.engine.stop import StopRule


@dataclass(frozen=True)
class TreeSettings:
    """The shape of the search.

    Args:
        beam: solutions that are continued from one level to the next (b of the paper).
        branch: continuations of each (k).
        budget: most generated tokens of all branches of a request together.
        depth: most levels.
        sampling: how the continuations are drawn; None takes the most likely tokens.
    """

    beam: int = 2
    branch: int = 4
    budget: int = 2040
    depth: int = 24
    sampling: Sampling | None = field(default_factory=lambda: Sampling(0.7, 0.8, 20))


@dataclass
class Node:
    """A solution, complete or not.

    Args:
        output: its generated tokens.
        log_likelihood: sum of the model's log-probabilities of them, at temperature 1.
        value: value of the solution; 0 before it is evaluated.
        finish: the reason of its end; None while it is unfinished.
        first: generated tokens that it shares with its parent.
    """

    output: list[int]
    log_likelihood: float = 0.0
    value: float = 0.0
    finish: Finish | None = None
    first: int = 0

    @property
    def num_generated(self) -> int:
        """Generated tokens, those of its parents included."""
        return len(self.output)

    @property
    def line(self) -> list[int]:
        """Tokens that its parent lacks."""
        return self.output[self.first :]


class Branch(DecodedSequence):
    """A continuation that is being decoded: a sequence whose output begins with its parent's."""

    def __init__(self, index: int, request: Request, stop: StopRule, parent: Node, seed: int) -> None:
        super().__init__(index, request, stop)
        self.token_numbers.seed(seed)
        self.ids += parent.output
        self.output += parent.output
        self.node = Node(self.output, parent.log_likelihood, first=len(parent.output))


@dataclass
class Tree:
    """The search of one request.

    Args:
        index: of the request in the list that is decoded.
        request: prompt, limits and seed; its own sampling is not used.
        settings: the shape of the search.
        beam: the solutions that are continued, the best first.
        finished: complete solutions, in the order of their levels.
        spent: generated tokens of all branches.
        level: levels that are complete.
    """

    index: int
    request: Request
    settings: TreeSettings
    beam: list[Node] = field(default_factory=lambda: [Node([])])
    finished: list[Node] = field(default_factory=list)
    spent: int = 0
    level: int = 0
    usage: Usage = field(default_factory=Usage)
    started: float = field(default_factory=time.perf_counter)

    def branches(self, make_stop: Callable[[Request], StopRule], max_line: int) -> list[Branch]:
        """The next level's continuations: as many as the budget allows, the best parents first.

        Every continuation may need `max_line` tokens. Towards the end of the budget a level is narrower, and
        the last lines of the best solution have only one continuation each.
        """
        candidates = [(parent, k) for k in range(self.settings.branch) for parent in range(len(self.beam))]
        num_branches = max(1, (self.settings.budget - self.spent) // max_line)
        request = replace(self.request, sampling=self.settings.sampling)
        return [
            Branch(self.index, request, make_stop(request), self.beam[parent], self._seed(parent, k))
            for parent, k in sorted(candidates[:num_branches])
        ]

    def _seed(self, parent: int, k: int) -> int:
        """The seed of one continuation, which does not depend on other continuations."""
        return derive_seed(self.request.seed, self.level, parent, k)

    def grow(self, children: Sequence[Node]) -> None:
        """Keep the best of this level's children, equal ones once; the complete ones leave the beam."""
        self.spent += sum(len(node.line) for node in children)
        num_kept = self.settings.beam - len(self.finished)
        unique = [children[i] for i in sorted(set(distinct([node.output for node in children])))]
        selected = sorted(unique, key=lambda node: -node.value)[:num_kept]
        self.usage.drafted_steps += len(children)
        self.usage.rejected_steps += len(children) - len(selected)
        self.finished += [node for node in selected if node.finish is not None]
        self.beam = [node for node in selected if node.finish is None]
        self.level += 1

    @property
    def is_done(self) -> bool:
        """Whether `beam` solutions are complete, none is left, or depth or budget is spent."""
        settings = self.settings
        return (
            not self.beam
            or len(self.finished) >= settings.beam
            or self.level >= settings.depth
            or self.spent >= settings.budget
        )

    def result(self) -> Result:
        """The complete solution of the highest value, else the best unfinished one."""
        best = max(self.finished or self.beam, key=lambda node: node.value)
        usage = self.usage
        usage.tokens = len(best.output)
        usage.discarded_tokens = self.spent - len(best.output)
        usage.seconds = time.perf_counter() - self.started
        finish = best.finish or Finish.LENGTH
        return Result(self.request, self.index, best.output, finish, [], usage)


def distinct(texts: Sequence[Sequence[int]]) -> list[int]:
    """Index of the first text that is equal to each."""
    first: dict[tuple[int, ...], int] = {}
    return [first.setdefault(tuple(text), i) for i, text in enumerate(texts)]


def log_probs_of(logits: torch.Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-probability of one token in each row of logits [n, vocab]."""
    token_ids = torch.tensor(tokens, device=logits.device)[:, None]
    log_probs: list[float] = (logits.gather(-1, token_ids)[:, 0] - logits.logsumexp(-1)).tolist()
    return log_probs
