"""Unbiased estimators, from n samples, of metrics of k samples.

Each is the mean over all subsets of k of the n samples, computed without enumerating them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that at least one of k samples is correct (Chen et al. 2021, equation 1).

    Args:
        n: number of samples.
        correct: number of correct samples.
        k: subset size, from 1 to n.

    Raises:
        ValueError: k is out of range.

    Example:
        >>> pass_at_k(4, 2, 1)
        0.5
    """
    _require(n, k)
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority_at_k(counts: Sequence[int], correct: Sequence[bool], n: int, k: int) -> float:
    """Probability that the most frequent answer of k samples is correct.

    Ties are broken by the first occurrence, so in a random order each tied answer is equally likely. Samples
    without an answer abstain; if all k samples abstain, the result is incorrect.

    Args:
        counts: number of samples for each distinct answer.
        correct: for each distinct answer, whether it is correct.
        n: number of samples, including abstentions.
        k: subset size, from 1 to n.

    Raises:
        ValueError: k is out of range.

    Example:
        >>> majority_at_k([3, 1], [True, False], 4, 1)
        0.75
    """
    _require(n, k)
    num_abstentions = n - sum(counts)
    total = 0.0
    for index, is_right in enumerate(correct):
        if not is_right:
            continue
        others = [count for other_index, count in enumerate(counts) if other_index != index]
        for votes in range(1, min(counts[index], k) + 1):
            ways = _count_ways(others, num_abstentions, k - votes, votes)
            total += comb(counts[index], votes) * sum(way / (1 + ties) for ties, way in enumerate(ways))
    return total / comb(n, k)


def reported_ks(n: int) -> list[int]:
    """The values of k that are reported for n samples: powers of two below n, and n."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i < n]
    return [*powers, n]


def _count_ways(others: Sequence[int], num_abstentions: int, num_drawn: int, max_votes: int) -> list[int]:
    """Number of subsets in which no other answer exceeds `max_votes`, by the number of answers that tie."""
    ways = [[comb(num_abstentions, taken)] + [0] * len(others) for taken in range(num_drawn + 1)]
    for count in others:
        extended = [[0] * (len(others) + 1) for _ in range(num_drawn + 1)]
        for taken in range(num_drawn + 1):
            for ties, way in enumerate(ways[taken]):
                if not way:
                    continue
                for votes in range(min(count, max_votes, num_drawn - taken) + 1):
                    tie = ties + (votes == max_votes)
                    extended[taken + votes][tie] += way * comb(count, votes)
        ways = extended
    return ways[num_drawn]


def _require(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k: expected between 1 and the {n} samples, got {k}")
