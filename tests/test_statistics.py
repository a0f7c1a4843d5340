"""Statistics against their definitions, by brute force, on lopsided samples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from s2t_eval.statistics import (
    clustered_wilson,
    detectable_effect,
    holm,
    mcnemar_exact,
    mean_rank_correlation,
    paired_bootstrap,
    paired_p,
    share_of_gain,
    spearman,
    stratified_bootstrap,
    teacher_gain,
    wilson,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 164), (7, 7), (150, 164), (21, 96)])
def test_wilson_bounds_are_where_the_score_test_turns(hits: int, n: int) -> None:
    """By definition a bound p solves (hits/n - p)^2 = z^2 p (1 - p) / n."""
    z2 = stats.norm.ppf(0.975) ** 2
    for bound in wilson(hits, n):
        assert (hits / n - bound) ** 2 == pytest.approx(z2 * bound * (1 - bound) / n, abs=1e-12)


def test_wilson_refuses_no_items() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="5 of 4"):
        wilson(5, 4)


def test_the_interval_of_steps_is_close_to_a_bootstrap_of_their_texts() -> None:
    """200 texts of 5 to 59 steps with shares of their own; that of independent steps is half as wide."""
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 60, size=200)
    hits = rng.binomial(counts, rng.beta(2, 2, size=200))
    draws = rng.integers(200, size=(4000, 200))
    bootstrap = np.quantile(hits[draws].sum(1) / counts[draws].sum(1), [0.025, 0.975])
    low, high = clustered_wilson(hits, counts)
    assert [low, high] == pytest.approx(bootstrap, abs=0.004)
    independent = wilson(int(hits.sum()), int(counts.sum()))
    assert high - low > 2 * (independent.high - independent.low)


def test_texts_that_resemble_each_other_have_the_interval_of_their_steps() -> None:
    """No text differs from another: the variance between texts is 0, and the steps count as independent."""
    assert clustered_wilson([3, 3, 3], [4, 4, 4]) == wilson(9, 12)
    assert clustered_wilson([4, 4, 0], [4, 4, 0]) == wilson(8, 8)


def test_a_single_text_has_no_interval_and_impossible_counts_are_refused() -> None:
    assert all(map(math.isnan, clustered_wilson([3, 0], [4, 0])))
    for hits, counts in (([5, 0], [4, 4]), ([1], [4, 4]), ([0, 0], [0, 0])):
        with pytest.raises(ValueError, match=r"^clustered_wilson: expected 0 <= hits <= counts"):
            clustered_wilson(hits, counts)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (0, 6), (18, 1), (3, 3), (20, 2), (1, 40)])
def test_mcnemar_is_the_exact_binomial_test(won: int, lost: int) -> None:
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    assert mcnemar_exact(won, lost) == pytest.approx(min(1.0, 2 * tail))


def test_a_stratified_bootstrap_is_close_to_the_enumerated_one() -> None:
    """Every resample of two items of the one part and three of the other; both means have equal weight."""
    one, two = [0.0, 1.0], [0.0, 0.0, 1.0]
    means = [
        (np.mean(first) + np.mean(second)) / 2
        for first in itertools.product(one, repeat=2)
        for second in itertools.product(two, repeat=3)
    ]
    parts = [np.array(one), np.array(two)]
    interval = stratified_bootstrap(parts)
    assert interval == stratified_bootstrap(parts)
    assert interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.05)
    assert stratified_bootstrap([np.ones(5), np.ones(9)]) == (1.0, 1.0)


def test_a_part_of_one_item_has_no_interval() -> None:
    for parts in ([], [np.ones(5), np.ones(1)]):
        low, high = stratified_bootstrap(parts)
        assert low != low and high != high


def test_bootstrap_is_seeded_and_close_to_the_enumerated_one() -> None:
    new, base = [1.0, 1, 1, 0, 0], [0.0, 0, 0, 0, 1]
    delta = np.array(new) - np.array(base)
    means = [np.mean(draw) for draw in itertools.product(delta, repeat=5)]
    expected = np.quantile(means, [0.025, 0.975])
    interval = paired_bootstrap(new, base)
    assert interval == paired_bootstrap(new, base)
    assert interval == pytest.approx(expected, abs=0.2)  # one step of the mean of five
    assert interval != paired_bootstrap(new, base, resamples=37, seed=5)


def test_bootstrap_covers_on_a_lopsided_sample() -> None:
    """97 of 100 items alike, three lost: the interval reaches zero, and lies below it."""
    base, new = np.ones(100), np.ones(100)
    new[:3] = 0
    low, high = paired_bootstrap(new, base)
    assert -0.08 < low < -0.03
    assert high == pytest.approx(0, abs=0.011)


def test_bootstrap_of_one_pair_and_of_none() -> None:
    assert all(math.isnan(bound) for bound in paired_bootstrap([1.0], [0.0]))
    assert paired_bootstrap([1.0, 0.0], [1.0, 0.0]) == (0.0, 0.0)
    with pytest.raises(ValueError, match="got 0 and 0"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="got 2 and 1"):
        paired_bootstrap([1.0, 0.0], [1.0])


def test_p_of_graded_scores_is_the_share_of_sign_patterns() -> None:
    new, base = [0.9, 0.7, 0.2, 0.5, 0.6], [0.1, 0.6, 0.3, 0.2, 0.2]
    delta = np.array(new) - np.array(base)
    means = [np.mean(delta * signs) for signs in itertools.product((1, -1), repeat=5)]
    at_least = np.mean(np.array(means) >= delta.mean() - 1e-12)
    at_most = np.mean(np.array(means) <= delta.mean() + 1e-12)
    assert paired_p(new, base) == pytest.approx(min(1.0, 2 * min(at_least, at_most)))


def test_p_of_right_and_wrong_is_mcnemar() -> None:
    new, base = [1.0] * 9 + [0.0] * 3, [0.0] * 8 + [1.0] * 2 + [0.0] * 2
    assert paired_p(new, base) == mcnemar_exact(8, 1)
    assert paired_p([0.5, 0.5], [0.5, 0.5]) == 1.0


def test_p_of_one_pair_is_1() -> None:
    """scipy permutes no single observation, which ended comparisons of one document with graded scores."""
    assert paired_p([0.5], [0.25]) == paired_p([1.0], [0.0]) == paired_p([-1.0], [0.0]) == 1.0


def test_p_of_negated_right_and_wrong_is_mcnemar() -> None:
    """Scores of a metric of which less is better are negated; -1 did not count as binary."""
    new, base = np.array([1.0] * 18 + [0.0] * 3), np.array([0.0] * 18 + [1.0] + [0.0] * 2)
    assert paired_p(-new, -base) == mcnemar_exact(1, 18)
    # Of three values a sign test would ignore that one difference is twice the others.
    graded = np.array([1.0, 1, 1, 1, 0]), np.array([-1.0, 0, 0, 0, 1])
    assert paired_p(*graded) != mcnemar_exact(4, 1)


def test_holm_is_the_step_down_rule() -> None:
    p = [0.04, 0.001, 0.03, 0.5]
    expected, running = {}, 0.0
    for rank, index in enumerate(sorted(range(4), key=p.__getitem__)):
        running = max(running, min(1.0, (4 - rank) * p[index]))
        expected[index] = running
    assert holm(p) == pytest.approx([expected[i] for i in range(4)])
    assert holm([]) == []


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    """Ties and adjusted values above 1 too."""
    p = np.random.default_rng(count).choice([0.0, 0.004, 0.03, 0.03, 0.2, 0.7, 1.0], count)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


@pytest.mark.parametrize(("n", "won", "lost"), [(164, 0, 0), (96, 4, 2), (300, 12, 30), (1319, 80, 70)])
def test_detectable_effect_is_found_as_often_as_it_says(n: int, won: int, lost: int) -> None:
    """Simulated: changes drawn at that effect are significant in four of five samples."""
    effect = detectable_effect(n, won, lost)
    noise = 2 * min(won, lost) / n
    shares = [noise / 2, noise / 2 + effect, 1 - noise - effect]
    draws = np.random.default_rng(0).multinomial(n, shares, size=2000)
    is_detected = [mcnemar_exact(int(w), int(k)) <= 0.05 and k > w for w, k, _ in draws]
    assert np.mean(is_detected) == pytest.approx(0.8, abs=0.03)


def test_detectable_effect_is_near_the_normal_approximation_where_that_holds() -> None:
    """Connor's formula at n = 5,000 and 10 % noise."""
    n, noise = 5000, 0.1
    effect = detectable_effect(n, 250, 250)
    z_alpha, z_power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    share = noise + effect
    needed = ((z_alpha * share**0.5 + z_power * (share - effect**2) ** 0.5) / effect) ** 2
    assert needed == pytest.approx(n, rel=0.03)


def test_five_items_can_show_nothing() -> None:
    assert math.isnan(detectable_effect(5, 0, 0))  # 2 / 2^5 is more than 0.05
    assert detectable_effect(164, 0, 0) > 6 / 164


def test_spearman_of_a_constant_is_undefined() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert spearman([1, 2, 3], [1, 4, 9]) == pytest.approx(1)


def test_mean_rank_correlation_is_the_mean_of_spearman_s() -> None:
    """Ties within groups; a group whose values are all tied is left out."""
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 5, (40, 6)).astype(float), rng.normal(size=(40, 6)).round(1)
    scores[3], targets[7] = 2.0, -1.0
    rhos = [spearman(a, b) for a, b in zip(scores, targets, strict=True)]
    defined = [rho for rho in rhos if not math.isnan(rho)]
    assert len(defined) == 38
    assert mean_rank_correlation(scores, targets) == pytest.approx(np.mean(defined))
    assert math.isnan(mean_rank_correlation(scores[3:4], targets[3:4]))


def test_the_interval_of_a_share_is_close_to_the_enumerated_one() -> None:
    """Every resample of six triples. Those in which the reference gains nothing have no share: with theirs,
    which are far below 0, the lower bound would be another."""
    new = np.array([0.5, 0.3, -0.2, -0.1, 0.4, 0.35])
    full = np.array([0.9, 0.2, 0.65, -0.21, 0.7, 0.4])
    base = np.array([0.1, 0.0, 0.3, 0.2, 0.0, 0.05])
    draws = np.array(list(itertools.product(range(6), repeat=6)))
    gains, full_gains = (new - base)[draws].mean(1), (full - base)[draws].mean(1)
    has_share = full_gains > 0
    assert 0.01 < 1 - has_share.mean() < 0.1
    shares = gains[has_share] / full_gains[has_share]
    share, (low, high) = share_of_gain(new, full, base)
    assert share == pytest.approx((new - base).mean() / (full - base).mean())
    assert np.quantile(shares, 0.02) < low < np.quantile(shares, 0.03)
    assert np.quantile(shares, 0.97) < high < np.quantile(shares, 0.98)


def test_of_a_loss_there_is_no_share() -> None:
    """A run that loses half of what the reference loses would "keep half of the gain"."""
    base = np.ones(8)
    half, full = base.copy(), base.copy()
    half[:2], full[:4] = 0, 0
    share, interval = share_of_gain(half, full, base)
    assert math.isnan(share) and all(math.isnan(bound) for bound in interval)


def test_the_gain_of_a_pick_is_measured_from_greedy_s_token_and_is_finite() -> None:
    """By hand: a candidate that the teacher rules out costs no more than one of e^-30."""
    teacher = np.array([[-0.5, -2.0, -np.inf], [-40.0, -0.1, -35.0], [-1.0, -0.25, -3.0], [-0.5, -0.7, -0.9]])
    assert teacher_gain(teacher, np.array([2, 1, 1, 0])).tolist() == pytest.approx([-29.5, 29.9, 0.75, 0.0])


def test_intervals_are_those_of_95_percent() -> None:
    """Of many items the bootstrap's are those of the normal distribution: 1.96 standard errors wide on each
    side. An interval of 90 % would be a sixth narrower, within what the small samples above allow."""
    rng = np.random.default_rng(0)
    many, few = rng.normal(size=400), 3 * rng.normal(size=100)
    errors = [sample.std() / math.sqrt(len(sample)) for sample in (many, few)]
    for interval, error in (
        (paired_bootstrap(many, np.zeros(400)), errors[0]),
        (stratified_bootstrap([many, few]), math.hypot(*errors) / 2),
    ):
        assert (interval.high - interval.low) / 2 == pytest.approx(stats.norm.ppf(0.975) * error, rel=0.04)
