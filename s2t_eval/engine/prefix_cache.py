"""Reuse of shared prefixes: the tokens in each cache row, and what a new text can copy from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MIN_SHARED = 16
"""A shared prefix shorter than this many tokens is computed again instead of copied."""


class PrefillPlan(NamedTuple):
    """How the texts that still need their prefill get their keys and values."""

    now: list[int]
    """texts to compute in this round"""
    cached: list[int]
    """leading tokens of each of them that are in its row once the copies are made"""
    source: list[Tensor]
    target: list[Tensor]
    """flat cache indices to copy between, in pairs"""
    postponed: list[int]
    """texts that can copy a longer prefix once this round is computed"""


class PrefixCache:
    """The token ids whose keys and values lie in each row of a `KVCache`.

    They stay after a text has ended, so that a later prompt with the same prefix copies its keys and
    values instead of computing them.

    Args:
        rows: number of cache rows.
    """

    def __init__(self, rows: int) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(rows)]

    def plan(
        self,
        rows: Sequence[int],
        texts: Sequence[Sequence[int]],
        waiting: Sequence[int],
        capacity: int,
    ) -> PrefillPlan:
        """Match each waiting text with the longest prefix that any row contains.

        This plan may overwrite the row that a postponed text would copy from, so every round makes a new
        plan. The last token of a text is always computed, because its hidden state is needed.

        Args:
            rows: row of each text.
            texts: token ids of each.
            waiting: indices of the texts to plan for.
            capacity: slots of a cache row.
        """
        plan = PrefillPlan([], [], [], [], [])
        for i in waiting:
            own, text = self.tokens[rows[i]], texts[i]
            if len(own) > len(text) - MIN_SHARED and list(text[: len(own)]) == own:
                # No other text can share so much more with it that a copy would pay.
                plan.now.append(i)
                plan.cached.append(min(len(own), len(text) - 1))
                continue
            donor, length = self._donor(text, rows[i])
            if _longest(text, [texts[j] for j in plan.now], length + MIN_SHARED) is not None:
                plan.postponed.append(i)
                continue
            length = min(length, len(text) - 1)
            plan.now.append(i)
            plan.cached.append(length)
            if donor != rows[i]:
                slots = torch.arange(length)
                plan.source.append(slots + donor * capacity)
                plan.target.append(slots + rows[i] * capacity)
        return plan

    def _donor(self, text: Sequence[int], row: int) -> tuple[int, int]:
        """The row to copy from and the shared length; another row only for `MIN_SHARED` more tokens."""
        own = common_prefix(text, self.tokens[row])
        return _longest(text, self.tokens, own + MIN_SHARED) or (row, own)


def _longest(text: Sequence[int], others: Sequence[Sequence[int]], least: int) -> tuple[int, int] | None:
    """The other text that shares the longest prefix with a text, and its length; None below `least` tokens.

    Few have the text's tokens as far as the shared prefix has to reach at least, and only these are compared.
    A teacher that is prefilled where steps fire calls this for every such row, with every other row.
    """
    at = least - 1
    if at >= len(text):
        return None
    token, head = text[at], list(text[:least])
    lengths = (
        (i, common_prefix(text, other))
        for i, other in enumerate(others)
        if len(other) > at and other[at] == token and list(other[:least]) == head
    )
    i, length = max(lengths, key=lambda found: found[1], default=(0, 0))
    return (i, length) if length >= least else None


def common_prefix(a: Sequence[int] | np.ndarray, b: Sequence[int] | np.ndarray) -> int:
    """Number of leading tokens that two texts share."""
    n = min(len(a), len(b))
    differs = np.nonzero(np.asarray(a[:n]) != np.asarray(b[:n]))[0]
    return int(differs[0]) if len(differs) else n


def cached_prefix(text: Sequence[int], tokens: Sequence[int]) -> int:
    """Leading tokens of a text whose keys and values a row with these tokens already contains.

    The last token never counts: it is always computed, because its hidden state is needed.
    """
    length = min(len(text), len(tokens))
    if list(text[:length]) != list(tokens[:length]):  # as a rule they agree, and lists are compared quickly
        length = common_prefix(text, tokens)
    return min(length, len(text) - 1)
