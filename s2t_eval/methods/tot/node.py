"""A solution in the tree of one request, and a continuation of it that is being decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2t_eval.engine.request import Finish, Request
from s2t_eval.engine.sampling import derive_seed
from s2t_eval.engine.sequence import Sequence as DecodedSequence
from s2t_eval.engine.stop import StopRule


@dataclass
class Node:
    """A solution, complete or not.

    Args:
        output: its generated tokens.
        log_likelihood: sum of the model's log-probabilities of them, at temperature 1.
        value: value of the solution; 0 before it is evaluated.
        finish: the reason of its end; None while it is unfinished.
        first: generated tokens that it shares with its parent.
        depth: lines that it consists of.
        is_read: whether the model has computed its last token, as it does to evaluate it.
    """

    output: list[int]
    log_likelihood: float = 0.0
    value: float = 0.0
    finish: Finish | None = None
    first: int = 0
    depth: int = 0
    is_read: bool = False

    @property
    def line(self) -> list[int]:
        """Tokens that its parent lacks."""
        return self.output[self.first :]

    @property
    def is_complete(self) -> bool:
        """Whether the model has ended it; one that was cut off at the limit of tokens is not complete."""
        return self.finish in (Finish.STOP_ID, Finish.STOP_STRING)


class Branch(DecodedSequence):
    """A continuation that is being decoded: a sequence whose output begins with its parent's.

    Args:
        index: of the request in the list that is decoded.
        request: prompt and limits.
        stop: when the text ends.
        parent: the solution that is continued.
        seed: of the continuation's random numbers.
    """

    def __init__(self, index: int, request: Request, stop: StopRule, parent: Node, seed: int) -> None:
        super().__init__(index, request, stop)
        self.token_numbers.seed(seed)
        self.parent = parent
        self.num_sampled = 0  # tokens that were generated to evaluate it
        self.ids += parent.output
        self.output += parent.output
        self.node = Node(self.output, parent.log_likelihood, first=len(parent.output), depth=parent.depth + 1)

    @property
    def log_likelihood(self) -> float:
        """Sum of the model's log-probabilities of the generated tokens, at temperature 1."""
        return self.node.log_likelihood

    @property
    def solution(self) -> list[int]:
        """The generated tokens without a final stop token or stop string: it is no line of the solution."""
        return list(self.stop.before_end(self.output))

    @property
    def num_generated(self) -> int:
        """Generated tokens, those of its parents included."""
        return len(self.output)

    @property
    def value_seed(self) -> int:
        """The seed of its evaluation. It depends on the text alone: equal continuations have equal values."""
        return derive_seed(self.request.seed, "value", *self.output)


def distinct(texts: Sequence[Sequence[int]]) -> list[int]:
    """Index of the first text that is equal to each."""
    first: dict[tuple[int, ...], int] = {}
    return [first.setdefault(tuple(text), i) for i, text in enumerate(texts)]
