"""Short replies that a model samples behind questions, several to each question."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sampling import Sampling, derive_seed, sample
from s2t_eval.engine.stop import Decode

Verdict = TypeVar("Verdict")
Reading = Callable[[str, bool], Verdict | None]
"""Text of a reply so far, whether it is complete -> its verdict; None where it has none (yet)."""


@dataclass(frozen=True)
class Replies(Generic[Verdict]):
    """The verdicts of one question's replies, and their cost.

    Args:
        verdicts: of each reply; None where a reply has none.
        sampled: generated tokens.
    """

    verdicts: list[Verdict | None]
    sampled: int

    @property
    def passes(self) -> int:
        """Passes of the model behind the question: a reply's first token needs none."""
        return self.sampled - len(self.verdicts)


@dataclass(frozen=True)
class ReplySampler:
    """Samples replies, each up to its verdict, its first line's end or a limit of tokens.

    Args:
        decode: token ids to text.
        num_replies: replies to each question.
        max_tokens: most tokens of a reply.
        sampling: how tokens are drawn; None takes the most likely ones, so that there is only one reply.
        stop_ids: tokens that end a reply.
    """

    decode: Decode
    num_replies: int
    max_tokens: int
    sampling: Sampling | None
    stop_ids: frozenset[int] = frozenset()

    @property
    def num_different(self) -> int:
        """Replies that are sampled: without sampling all replies to a question are the same one."""
        return 1 if self.sampling is None else self.num_replies

    @property
    def most_sampled(self) -> int:
        """Most tokens of all replies to a question."""
        return self.num_different * self.max_tokens

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        states: Tensor,
        readings: Sequence[Reading[Verdict]],
        seeds: Sequence[int],
    ) -> list[Replies[Verdict]]:
        """Replies to the questions at the ends of these rows, which contain the questions alone afterwards.

        Args:
            runner: the model.
            rows: rows that end with a question.
            states: hidden states at the ends of the questions, [rows, hidden].
            readings: how the replies to each question are read.
            seeds: of the replies to each question; the replies of other rows have no effect on them.
        """
        lengths = [len(runner.tokens[row]) for row in rows]
        all_replies = [Replies[Verdict]([], 0) for _ in rows]
        for number in range(self.num_different):
            numbers = [random.Random(derive_seed(seed, number)) for seed in seeds]
            replies = self._one_reply_each(runner, rows, states, readings, numbers)
            for i, (row, (verdict, sampled)) in enumerate(zip(rows, replies, strict=True)):
                verdicts = [*all_replies[i].verdicts, verdict]
                all_replies[i] = Replies(verdicts, all_replies[i].sampled + sampled)
                runner.truncate(row, lengths[i])
        return all_replies

    def _one_reply_each(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        states: Tensor,
        readings: Sequence[Reading[Verdict]],
        numbers: Sequence[random.Random],
    ) -> list[tuple[Verdict | None, int]]:
        """The verdict of one reply in each row, and its number of tokens."""
        replies: list[list[int]] = [[] for _ in rows]
        verdicts: list[Verdict | None] = [None] * len(rows)
        active, hidden = list(range(len(rows))), states
        while active:
            tokens = self._next_tokens(runner.head(hidden), [numbers[i] for i in active])
            unfinished = []
            for i, token in zip(active, tokens, strict=True):
                replies[i].append(token)
                text = self.decode(replies[i])
                is_complete = self._is_complete(replies[i], text)
                verdicts[i] = readings[i](text, is_complete)
                if verdicts[i] is None and not is_complete:
                    unfinished.append(i)
            active = unfinished
            if active:
                new_tokens = [[replies[i][-1]] for i in active]
                hidden = torch.cat(runner.extend([rows[i] for i in active], new_tokens))
        return list(zip(verdicts, map(len, replies), strict=True))

    def _is_complete(self, reply: Sequence[int], text: str) -> bool:
        has_ended = reply[-1] in self.stop_ids or "\n" in text.lstrip()
        return has_ended or len(reply) >= self.max_tokens

    def _next_tokens(self, logits: Tensor, numbers: Sequence[random.Random]) -> list[int]:
        tokens: list[int]
        if self.sampling is None:
            tokens = logits.argmax(-1).tolist()
        else:
            tokens = sample(logits, self.sampling, [each.random() for each in numbers]).tolist()
        return tokens
