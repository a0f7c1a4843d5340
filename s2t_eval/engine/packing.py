"""Planning of packed passes on the host: the tokens, their cache slots, and what each may attend to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
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
    sizes = np.array([len(text) - start for start, text in zip(cached, texts, strict=True)])
    ids = [token for start, text in zip(cached, texts, strict=True) for token in text[start:]]
    starts = sizes.cumsum() - sizes
    in_row = np.arange(len(ids)) - np.repeat(starts - np.array(cached), sizes)
    index = torch.from_numpy(np.repeat(np.array(rows) * capacity, sizes) + in_row)
    positions = torch.from_numpy(in_row)
    segments = []
    for run in contiguous_runs(rows, sizes.tolist()):
        size = int(sizes[run.start])
        tokens = slice(int(starts[run.start]), int(starts[run.start]) + size * (run.stop - run.start))
        own = positions[tokens].view(-1, size)
        segments.append(Segment(tokens, rows_of(rows, run), own, own, max(cached[run]) + size))
    return Packed(torch.tensor(ids), index, segments)


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


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """The same tokens in few segments, for a device that takes as long to launch a kernel as to run it.

    Every segment costs a few kernels in each layer. Those with similarly many tokens a row (up to the same
    power of two) attend together, and shorter ones are padded with copies of their last token, which attend
    to what that token attends to, so that their outputs are its own.

    Args:
        segments: of one pass; those of other kinds, or of rows that are not neighbours, are left as they are.
    """
    groups: dict[int, list[Segment]] = {}
    others = []
    for part in segments:
        if type(part) is Segment and isinstance(part.tokens, slice) and isinstance(part.rows, slice):
            groups.setdefault((part.positions.shape[1] - 1).bit_length(), []).append(part)
        else:
            others.append(part)
    return [*map(_joined, groups.values()), *others]


def _joined(group: Sequence[Segment]) -> Segment:
    if len(group) == 1:
        return group[0]
    heights, sizes = np.array([part.positions.shape for part in group]).T
    first_rows, first_tokens = np.array([(_start(part.rows), _start(part.tokens)) for part in group]).T
    row_in_part = np.arange(heights.sum()) - np.repeat(heights.cumsum() - heights, heights)
    rows = np.repeat(first_rows, heights) + row_in_part
    row_sizes = np.repeat(sizes, heights)
    columns = np.minimum(np.arange(sizes.max()), row_sizes[:, None] - 1)
    tokens = (np.repeat(first_tokens, heights) + row_in_part * row_sizes)[:, None] + columns
    places = torch.from_numpy((row_sizes.cumsum() - row_sizes)[:, None] + columns)
    positions = torch.cat([part.positions.flatten() for part in group])[places]
    own = positions
    if any(part.own is not part.positions for part in group):
        own = torch.cat([part.own.flatten() for part in group])[places]
    are_neighbours = bool((np.diff(rows) == 1).all())
    return Segment(
        torch.from_numpy(tokens.flatten()),
        slice(int(rows[0]), int(rows[-1]) + 1) if are_neighbours else torch.from_numpy(rows),
        positions,
        own,
        max(part.length for part in group),
    )


def _start(index: slice | Tensor) -> int:
    assert isinstance(index, slice)
    return int(index.start)


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


def batches(items: Sequence[int], sizes: Sequence[int] | Mapping[int, int], limit: int) -> list[list[int]]:
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
