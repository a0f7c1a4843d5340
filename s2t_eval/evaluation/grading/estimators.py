"""Unbiased estimates from n samples of what k samples would give.

Each is the mean over all ways to take k of the n samples, computed without taking them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of k samples is right (Chen et al. 2021, equation 1).

    Args:
        n: samples drawn.
        correct: of them right.
        k: samples one would take, at most n.
    """
    _require(n, k)
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority_at_k(counts: Sequence[int], correct: Sequence[bool], n: int, k: int) -> float:
    """Chance that the most frequent answer of k samples is right.

    Equal counts are decided by who came first, so in a random order each is as likely. Samples
    without an answer do not vote; where none of k votes, the outcome is not right.

    Args:
        counts: samples of each distinct answer.
        correct: whether that answer is right.
        n: samples drawn, those without an answer included.
        k: samples one would take, at most n.
    """
    _require(n, k)
    silent = n - sum(counts)
    total = 0.0
    for place, is_right in enumerate(correct):
        if not is_right:
            continue
        others = [count for other, count in enumerate(counts) if other != place]
        for votes in range(1, min(counts[place], k) + 1):
            ways = _ways(others, silent, k - votes, votes)
            total += comb(counts[place], votes) * sum(way / (1 + ties) for ties, way in enumerate(ways))
    return total / comb(n, k)


def sizes(n: int) -> list[int]:
    """The k that are reported for n samples: powers of two, and n."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i < n]
    return [*powers, n]


def _ways(others: Sequence[int], silent: int, take: int, most: int) -> list[int]:
    """Ways to take samples with no other answer above `most` votes, by the number that ties with it."""
    ways = [[comb(silent, taken)] + [0] * len(others) for taken in range(take + 1)]
    for count in others:
        grown = [[0] * (len(others) + 1) for _ in range(take + 1)]
        for taken in range(take + 1):
            for ties, way in enumerate(ways[taken]):
                if not way:
                    continue
                for votes in range(min(count, most, take - taken) + 1):
                    tie = ties + (votes == most)
                    grown[taken + votes][tie] += way * comb(count, votes)
        ways = grown
    return ways[take]


def _require(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k: expected between 1 and the {n} samples, got {k}")
