"""The statistics of every table: intervals, paired tests, detectable effects, shares of a gain.

Each function is a thin layer over scipy or statsmodels that defines its result in limiting cases (no
discordant pair, a single pair), in which those libraries warn, divide by zero or disagree.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

Scores = NDArray[np.float64]

RESAMPLES = 10_000
"""Resamples of a bootstrap or a permutation test; the Monte Carlo error is then below one percentile."""
LEAST_LOG_PROB = -30.0
"""Lower bound of the teacher's log-probability of a candidate, in nats."""


class Interval(NamedTuple):
    """Bounds of a confidence interval, in the unit of what was measured."""

    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"))
"""The interval of figures whose sample shows no variation that could be resampled, such as a single item."""


def wilson(hits: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share, as fractions; an effective n is seldom whole.

    Raises:
        ValueError: no items, or more hits than items.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"wilson: expected 0 <= hits <= n and n >= 1, got {hits} of {n}")
    low, high = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def clustered_wilson(hits: ArrayLike, counts: ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share of steps that come from texts, as fractions.

    Steps of one text resemble each other, so the number of steps is divided by the design effect: the
    variance of sum(hits) / sum(counts) between texts (linearised, as in surveys) over that of independent
    steps, at least 1 (Dean and Pagano 2015). The interval of a single text is undefined: (nan, nan).

    Args:
        hits: of each text, [texts]; expected numbers where ties are drawn.
        counts: steps of each text, [texts]; some may be 0.

    Raises:
        ValueError: vectors of different length, no steps, or more hits than steps.
    """
    hits, counts = np.asarray(hits, dtype=float), np.asarray(counts, dtype=float)
    is_share = hits.shape == counts.shape and bool(((hits >= 0) & (hits <= counts)).all())
    n = counts.sum()
    if not is_share or n == 0:
        raise ValueError(
            "clustered_wilson: expected 0 <= hits <= counts for each text and a step at all, got "
            f"{hits.sum():g} hits of {len(hits)} texts and {n:g} steps of {len(counts)}"
        )
    texts = int((counts > 0).sum())
    if texts < 2:
        return UNDEFINED
    share = hits.sum() / n
    independent = share * (1 - share) / n
    between = texts / (texts - 1) * ((hits - share * counts) ** 2).sum() / n**2
    effective = n / max(1.0, between / independent) if independent else n
    return wilson(share * effective, effective, confidence)


def mcnemar_exact(won: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test for items won and lost; 1 without discordant pairs."""
    if won + lost == 0:
        return 1.0
    return min(1.0, float(mcnemar([[0, won], [lost, 0]], exact=True).pvalue))


def paired_bootstrap(
    new: Sequence[float] | Scores,
    base: Sequence[float] | Scores,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of mean(new - base), items resampled as pairs.

    The interval of a single pair is undefined: (nan, nan).

    Raises:
        ValueError: vectors of different length, or empty ones.
    """
    delta = differences(new, base)
    if len(delta) == 1:
        return UNDEFINED
    interval = stats.bootstrap(
        (delta,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="percentile",
        batch=max(1, 2_000_000 // len(delta)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


def stratified_bootstrap(
    parts: Sequence[Scores], confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of the parts' means, items resampled within each part.

    The interval is undefined, (nan, nan), where a part has fewer than two items.

    Args:
        parts: scores, [n] each; the parts may differ in n.
    """
    if not parts or min(map(len, parts)) < 2:
        return UNDEFINED

    def mean_of_means(*samples: Scores, axis: int) -> Scores:
        means: Scores = np.mean([sample.mean(axis=axis) for sample in samples], axis=0)
        return means

    interval = stats.bootstrap(
        tuple(parts),
        mean_of_means,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        method="percentile",
        batch=max(1, 2_000_000 // sum(map(len, parts))),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


def paired_p(new: Sequence[float] | Scores, base: Sequence[float] | Scores, seed: int = 0) -> float:
    """Two-sided p of paired scores: the exact McNemar test for 0/1 scores, else a sign-flip permutation test.

    Scores of 0 and 1 may all be negated (`are_right_or_wrong`). p of a single pair is 1.

    Raises:
        ValueError: vectors of different length, or empty ones.
    """
    delta = differences(new, base)
    if are_right_or_wrong(np.concatenate([new, base])):
        return mcnemar_exact(int((delta > 0).sum()), int((delta < 0).sum()))
    if len(delta) == 1 or not delta.any():
        return 1.0
    test = stats.permutation_test(
        (delta,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(delta)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def are_right_or_wrong(scores: Scores) -> bool:
    """Whether all scores, [n], are 0 or 1, or all are 0 or -1: negated, because less is better."""
    return any(np.isin(scores, pair).all() for pair in ((0.0, 1.0), (0.0, -1.0)))


def differences(new: Sequence[float] | Scores, base: Sequence[float] | Scores) -> Scores:
    """new - base, [n]; raises `ValueError` for vectors of different length or empty ones."""
    left, right = np.asarray(new, dtype=float), np.asarray(base, dtype=float)
    if left.shape != right.shape or left.ndim != 1 or len(left) == 0:
        raise ValueError(
            f"paired scores: expected two lists of one length, at least 1, got {len(left)} and {len(right)}"
        )
    return left - right


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's method, in the same order; each is compared with alpha itself.

    As `multipletests` of statsmodels, which collects the garbage of the whole process at each call.
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1.0)
    return [float(p) for p in adjusted]


def detectable_effect(n: int, won: int, lost: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that the exact McNemar test detects with this power, as a fraction.

    Discordant pairs in both directions (twice the smaller of won and lost) are taken as noise that remains; a
    difference adds pairs in one direction. The power is exact, because the normal approximation overstates it
    where few pairs are discordant, and where none are, it would make every difference detectable.

    Returns:
        The difference, or nan where not even a change of every item would be detected.
    """
    noise = 2 * min(won, lost) / n
    largest = 1 - noise
    if _power(largest, noise, n, alpha) < power:
        return float("nan")
    low, high = 0.0, largest
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, noise, n, alpha) >= power else (middle, high)
    return high


def _power(difference: float, noise: float, n: int, alpha: float) -> float:
    """Probability that n pairs show a significant loss, for these shares of discordant pairs."""
    discordant = min(1.0, noise + difference)
    counts = np.arange(stats.binom.ppf(1e-9, n, discordant), stats.binom.ppf(1 - 1e-9, n, discordant) + 1)
    # Significant with c of m discordant pairs in the rarer direction: 2 P(X <= c) <= alpha, X ~ Bin(m, 1/2).
    critical = stats.binom.ppf(alpha / 2, counts, 0.5)
    critical -= 2 * stats.binom.cdf(critical, counts, 0.5) > alpha
    to_loss = (noise / 2 + difference) / discordant if discordant else 0.5
    is_significant = stats.binom.cdf(critical, counts, 1 - to_loss)
    return float((stats.binom.pmf(counts, n, discordant) * is_significant).sum())


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rho; nan where one vector is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(left, right).statistic)


def mean_rank_correlation(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of Spearman's rho within groups [groups, K]; those whose values are all tied are left out.

    Returns:
        The mean; nan where every group is left out.
    """
    ranks, target_ranks = stats.rankdata(scores, axis=-1), stats.rankdata(targets, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    target_ranks -= target_ranks.mean(-1, keepdims=True)
    norm = np.sqrt((ranks**2).sum(-1) * (target_ranks**2).sum(-1))
    has_order = norm > 0
    if not has_order.any():
        return float("nan")
    return float(((ranks * target_ranks).sum(-1)[has_order] / norm[has_order]).mean())


def teacher_gain(teacher: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """The gain of each pick in nats: the teacher's log-probability of it minus that of greedy's token.

    Args:
        teacher: the teacher's log-probabilities of the candidates, greedy's token first, [steps, K].
        picked: the index of each pick among them, [steps].
    """
    values = teacher.clip(LEAST_LOG_PROB)
    gained: np.ndarray = values[np.arange(len(values)), picked] - values[:, 0]
    return gained


def share_of_gain(
    new: Scores, full: Scores, base: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval]:
    """(mean(new) - mean(base)) / (mean(full) - mean(base)), and its percentile bootstrap interval, 95 %.

    Items are resampled as triples. Resamples in which `full` gains nothing have no share and are left out.
    The share is nan without items and where `full` itself gains nothing. Its interval is undefined,
    (nan, nan), there and for a single item.

    Raises:
        ValueError: vectors of different length.
    """
    if len(new) == len(full) == len(base) == 0:
        return float("nan"), UNDEFINED
    gains = np.stack([differences(new, base), differences(full, base)])
    n = gains.shape[1]
    gain, full_gain = gains.mean(1)
    if full_gain <= 0:
        return float("nan"), UNDEFINED
    if n == 1:
        return float(gain / full_gain), UNDEFINED
    rng, batch = np.random.default_rng(seed), max(1, 2_000_000 // n)
    sizes = [min(batch, resamples - begin) for begin in range(0, resamples, batch)]
    draws = (rng.multinomial(n, np.full(n, 1 / n), size=size) for size in sizes)
    numerators, denominators = np.concatenate([gains @ draw.T for draw in draws], axis=1)
    has_share = denominators > 0
    shares = numerators[has_share] / denominators[has_share]
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(gain / full_gain), Interval(float(low), float(high))
