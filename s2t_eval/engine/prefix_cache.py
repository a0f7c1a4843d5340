"""Reuse of shared prefixes: the tokens in each cache row, and what a new text can copy from them."""

from __future__ import annotations

import functools
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
        cached_texts: list[np.ndarray] = []

        @functools.cache
        def array_of(i: int) -> np.ndarray:
            return np.asarray(texts[i])

        for i in waiting:
            own = self.tokens[rows[i]]
            if len(own) > len(texts[i]) - MIN_SHARED and list(texts[i][: len(own)]) == own:
                # No other text can share so much more with it that a copy would pay.
                plan.now.append(i)
                plan.cached.append(min(len(own), len(texts[i]) - 1))
                continue
            cached_texts = cached_texts or [np.asarray(tokens) for tokens in self.tokens]
            text = array_of(i)
            donor, length = self._donor(text, cached_texts, rows[i])
            soon = max((common_prefix(text, array_of(j)) for j in plan.now), default=0)
            if soon >= length + MIN_SHARED:
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

    def _donor(self, text: np.ndarray, cached_texts: Sequence[np.ndarray], row: int) -> tuple[int, int]:
        """The row to copy from and the shared length; another row only for `MIN_SHARED` more tokens."""
        own = common_prefix(text, cached_texts[row])
        donor, length = max(
            ((other, common_prefix(text, tokens)) for other, tokens in enumerate(cached_texts)),
            key=lambda candidate: candidate[1],
        )
        return (row, own) if length < own + MIN_SHARED else (donor, length)


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Number of leading tokens that two texts share."""
    n = min(len(a), len(b))
    differs = np.nonzero(a[:n] != b[:n])[0]
    return int(differs[0]) if len(differs) else n


def cached_prefix(text: Sequence[int], tokens: Sequence[int]) -> int:
    """Leading tokens of a text whose keys and values a row with these tokens already contains.

    The last token never counts: it is always computed, because its hidden state is needed.
    """
    length = min(len(text), len(tokens))
    if list(text[:length]) != list(tokens[:length]):  # as a rule they agree, and lists are compared quickly
        length = common_prefix(np.asarray(text), np.asarray(tokens))
    return min(length, len(text) - 1)
