"""A vote over all continuations of a level, which the model reads together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.stop import Decode
from s2t_eval.methods.tot.replies import ReplySampler
from s2t_eval.methods.tot.values import Values

INTRODUCTION = "\n\nFrom here the solution can go on in one of these ways."
NUMBER_TOKENS = 8
"""More than the number of a continuation and the blank lines around it have."""


class Ballot(NamedTuple):
    """The different continuations of one request at one level."""

    prompt_ids: tuple[int, ...]
    solutions: list[list[int]]
    """generated tokens of each"""
    num_shared: int
    """leading tokens that all of them have from their parents"""
    seed: int
    """of the votes"""


@dataclass(frozen=True)
class VoteValue:
    """The share of sampled votes for each continuation; a vote for none of them adds to no share.

    Where no vote is for any of them all have the same share, because nothing is known about them. A single
    continuation has the share 1 without a vote. The decoder divides the values of the parents by
    these shares.

    Args:
        encode: text to token ids.
        decode: token ids to text.
        question: tokens of the question behind the list of continuations.
        replies: samples the votes.
        most_branches: most continuations in a list.
        most_shown: tokens of a continuation that are shown, the last ones of a longer one.
    """

    encode: Callable[[str], Sequence[int]]
    decode: Decode
    question: tuple[int, ...]
    replies: ReplySampler
    most_branches: int
    most_shown: int

    @property
    def extra_slots(self) -> int:
        """Slots for a list, question and reply, which follow a text."""
        introduction = len(self.encode(INTRODUCTION))
        listed = self.most_branches * (self.most_shown + NUMBER_TOKENS)
        return introduction + listed + len(self.question) + self.replies.max_tokens

    def most_sampled(self, num_branches: int) -> int:
        """Most tokens of all votes of a level."""
        return self.replies.most_sampled if num_branches > 1 else 0

    def ballot_ids(self, ballot: Ballot) -> list[int]:
        """Prompt, shared beginning, list of continuations, question."""
        beginning = ballot.solutions[0][: ballot.num_shared]
        parts = [
            f"{number}.\n{self.decode(solution[ballot.num_shared :][-self.most_shown :]).strip()}"
            for number, solution in enumerate(ballot.solutions, 1)
        ]
        listed = self.encode("\n\n".join([INTRODUCTION, *parts]))
        return [*ballot.prompt_ids, *beginning, *listed, *self.question]

    def __call__(self, runner: ModelRunner, ballots: Sequence[Ballot]) -> list[Values]:
        """Values of the continuations of each ballot, in the first rows; the costs are the first one's.

        The beginning that a ballot shares with its solutions is not counted here as processed.
        """
        texts = [self.ballot_ids(ballot) for ballot in ballots]
        rows = range(len(texts))
        states, _ = runner.prefill(rows, texts)
        readings = [partial(voted, len(ballot.solutions)) for ballot in ballots]
        replies = self.replies(runner, rows, states, readings, [ballot.seed for ballot in ballots])
        all_values = []
        for ballot, text, votes in zip(ballots, texts, replies, strict=True):
            count = len(ballot.solutions)
            values = _shares(votes.verdicts, count)
            num_read = len(text) - len(ballot.prompt_ids) - ballot.num_shared
            no_cost = [0] * (count - 1)
            costs = [num_read, votes.sampled, 1 + votes.passes]
            all_values.append(Values(values, *([cost, *no_cost] for cost in costs)))
        return all_values


def _shares(verdicts: Sequence[int | None], count: int) -> list[float]:
    """Share of the votes for each of `count` continuations; equal ones where none of them has a vote."""
    shares = [verdicts.count(number) / len(verdicts) for number in range(1, count + 1)]
    return shares if any(shares) else [1 / count] * count


def voted(count: int, reply: str, is_complete: bool) -> int | None:
    """The first number in a reply, 0 where it is none from 1 to `count`; None without a number (yet)."""
    match = re.search(r"\d+", reply)
    if match is None:
        return None
    number = int(match[0])
    could_go_on = match.end() == len(reply) and 0 < number <= count // 10
    if could_go_on and not is_complete:
        return None
    return number if number <= count else 0
