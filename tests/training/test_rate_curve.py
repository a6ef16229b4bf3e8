"""The curve of a range test: smoothing, its end, the rate it speaks for."""

import math

import numpy as np
import pytest

from striate.training.rate_curve import has_risen, propose, smooth

RATES = [10.0 ** (-5 + step / 16) for step in range(97)]  # 1e-5 to 10


def valley(lowest: float) -> list[float]:
    """2.3, falling to 0.3 at the rate `lowest`, then rising tenfold a decade."""
    return [2.3 - 2 * math.exp(-((math.log10(rate / lowest)) ** 2)) for rate in RATES]


def test_a_constant_loss_stays_what_it_is_up_to_both_ends() -> None:
    assert smooth(RATES, [1.5] * 97) == pytest.approx([1.5] * 97)


def test_the_curve_does_not_lag_behind_the_losses() -> None:
    smoothed = smooth(RATES, valley(0.01))
    assert RATES[smoothed.index(min(smoothed))] == pytest.approx(0.01)


def test_single_losses_scatter_less_in_the_curve() -> None:
    noise = np.random.default_rng(0).normal(2.0, 0.3, 97)
    assert np.std(smooth(RATES, noise.tolist())) < 0.15


def test_a_curve_above_four_times_its_minimum_has_risen() -> None:
    assert not has_risen(RATES[:40], [1.0] * 20 + [3.9] * 20)
    assert has_risen(RATES[:40], [1.0] * 20 + [4.1] * 20)


def test_one_bad_batch_is_no_rise() -> None:
    assert not has_risen(RATES[:40], [1.0] * 39 + [6.0])


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_finite_number_ends_the_test(loss: float) -> None:
    assert has_risen(RATES[:3], [1.0, 1.0, loss])


def test_the_proposal_is_a_third_of_the_rate_with_the_lowest_loss() -> None:
    assert propose(RATES, valley(0.01)) == 0.0033
    assert propose(RATES, valley(0.1)) == 0.033


def test_scatter_alone_gives_no_proposal() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(2.3, 0.1, 97)
        assert propose(RATES, noise.tolist()) is None


def test_scatter_about_a_valley_does_not_hide_it() -> None:
    for seed in range(20):
        noisy = np.array(valley(0.01)) + np.random.default_rng(seed).normal(0, 0.2, 97)
        assert propose(RATES, noisy.tolist()) == pytest.approx(0.0033, rel=0.5)


def test_a_loss_that_still_falls_at_the_highest_rate_gives_no_proposal() -> None:
    assert propose(RATES, np.linspace(2.3, 0.1, 97).tolist()) is None


def test_no_losses_give_no_proposal() -> None:
    assert propose([], []) is None
