"""Planning of packed passes on the host: the tokens, their cache slots, and what each may attend to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.engine.attention import Segment


@dataclass(frozen=True)
class Packed:
    """The tokens of one pass over several rows, concatenated."""

    ids: Tensor
    """[tokens]"""
    index: Tensor
    """the flat cache index that each is written to, [tokens]"""
    segments: list[Segment]

    def followed_by(self, other: Packed) -> Packed:
        """Both in one pass; the other's segments must already be offset by this one's number of tokens."""
        return Packed(
            torch.cat([self.ids, other.ids]),
            torch.cat([self.index, other.index]),
            [*self.segments, *other.segments],
        )


def pack_uncached(
    rows: Sequence[int], texts: Sequence[Sequence[int]], cached: Sequence[int], capacity: int
) -> Packed:
    """The tokens of each text after its first `cached[i]` ones; texts with equally many attend together.

    Args:
        rows: cache row of each text.
        texts: token ids of each.
        cached: leading tokens of each that are already in its row.
        capacity: slots of a cache row.
    """
    sizes = [len(text) - start for start, text in zip(cached, texts, strict=True)]
    ends = list(itertools.accumulate(sizes))
    ids = [token for start, text in zip(cached, texts, strict=True) for token in text[start:]]
    index, segments = [], []
    for run in contiguous_runs(rows, sizes):
        positions = torch.tensor(cached[run])[:, None] + torch.arange(sizes[run.start])
        tokens = slice(ends[run.start] - sizes[run.start], ends[run.stop - 1])
        segments.append(segment(tokens, rows_of(rows, run), positions, positions))
        index.append(_flat(rows[run], positions, capacity))
    return Packed(torch.tensor(ids), torch.cat(index), segments)


def pack_branches(
    rows: Sequence[int], lengths: Tensor, candidates: Tensor, capacity: int, first_token: int, first_lane: int
) -> Packed:
    """Candidates after each row's text: they share one position and do not attend to each other.

    Args:
        rows: cache row of each text.
        lengths: tokens of each text, [rows].
        candidates: token ids, [rows, lanes].
        capacity: slots of a cache row.
        first_token: tokens of the pass before these.
        first_lane: slots after the text that are already in use.
    """
    lanes = candidates.shape[1]
    positions = lengths[:, None].expand(-1, lanes)
    own = positions + torch.arange(first_lane, first_lane + lanes)
    segments = []
    for run in contiguous_runs(rows, [lanes] * len(rows)) if lanes else []:
        tokens = slice(first_token + run.start * lanes, first_token + run.stop * lanes)
        segments.append(segment(tokens, rows_of(rows, run), positions[run], own[run]))
    return Packed(candidates.flatten(), _flat(rows, own, capacity), segments)


def segment(tokens: slice, rows: slice, positions: Tensor, own: Tensor) -> Segment:
    """A segment that may attend to every slot up to the last one that it writes."""
    return Segment(tokens, rows, positions, own, int(own.max()) + 1)


def contiguous_runs(rows: Sequence[int], sizes: Sequence[int]) -> list[slice]:
    """Runs of neighbouring rows of one size, as slices of both lists: [0, 1, 4], [1, 1, 1] -> [0:2, 2:3]."""
    runs: list[slice] = []
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if runs and row == rows[i - 1] + 1 and size == sizes[i - 1]:
            runs[-1] = slice(runs[-1].start, i + 1)
        else:
            runs.append(slice(i, i + 1))
    return runs


def rows_of(rows: Sequence[int], run: slice) -> slice:
    """The rows of one of `contiguous_runs`' runs."""
    return slice(rows[run.start], rows[run.stop - 1] + 1)


def batches(items: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Items in order, split where a pass would exceed `limit` tokens; `sizes[item]` tokens each."""
    parts: list[list[int]] = []
    room = 0
    for item in items:
        if not parts or sizes[item] > room:
            parts.append([])
            room = limit
        parts[-1].append(item)
        room -= sizes[item]
    return parts


def _flat(rows: Sequence[int], slots: Tensor, capacity: int) -> Tensor:
    return (torch.tensor(list(rows))[:, None] * capacity + slots).flatten()
