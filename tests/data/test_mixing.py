"""Mixup and cutmix."""

import numpy as np
import pytest
from scipy import stats

from striate.data.draws import Draws
from striate.data.mixing import Mixture, beta_quantile, mixture, partners
from striate.structures import ClassTargets

DRAWS = Draws(0, 0)
INDICES = np.arange(2_000, dtype=np.int64)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 4.0])
def test_the_beta_quantile_is_scipys(alpha: float) -> None:
    uniform = np.linspace(0, 1, 1001)[:-1]
    np.testing.assert_allclose(
        beta_quantile(alpha, uniform), stats.beta.ppf(uniform, alpha, alpha), atol=1e-5
    )


def test_a_blend_is_the_weighted_mean_of_both_pictures() -> None:
    images, others = np.full((2, 1, 1, 1), 100, np.uint8), np.full((2, 1, 1, 1), 200, np.uint8)
    blend = Mixture(np.array([0.75, 1.0], np.float32), np.zeros((2, 4), np.int64))
    np.testing.assert_array_equal(blend.images(images, others).ravel(), [125, 100])
    np.testing.assert_array_equal(images.ravel(), [100, 100])


def test_a_paste_takes_exactly_its_box_from_the_partner() -> None:
    images, others = np.zeros((1, 4, 4, 1), np.uint8), np.full((1, 4, 4, 1), 9, np.uint8)
    paste = Mixture(np.array([1 - 2 / 16], np.float32), np.array([[1, 2, 3, 3]], np.int64))
    pasted = paste.images(images, others)[0, :, :, 0]
    assert pasted.sum() == 18
    np.testing.assert_array_equal(pasted[2], [0, 9, 9, 0])


def test_mixed_targets_give_the_share_weighted_sum_of_both_losses() -> None:
    mixed = Mixture(np.array([0.25], np.float32), np.zeros((1, 4), np.int64))
    own = ClassTargets(np.array([[1.0, 0.0]], np.float32), np.array([3.0], np.float32))
    other = ClassTargets(np.array([[0.0, 1.0]], np.float32), np.array([1.0], np.float32))
    result = mixed.targets(own, other)
    # 0.25 x 3 x loss(class 0) + 0.75 x 1 x loss(class 1)
    np.testing.assert_allclose(result.weight * result.probabilities[0], [0.75, 0.75])
    np.testing.assert_allclose(result.probabilities.sum(1), [1])


def test_targets_of_two_pictures_without_weight_stay_without_weight_and_finite() -> None:
    mixed = Mixture(np.array([0.25], np.float32), np.zeros((1, 4), np.int64))
    nothing = ClassTargets(np.array([[1.0, 0.0]], np.float32), np.array([0.0], np.float32))
    result = mixed.targets(nothing, nothing)
    np.testing.assert_array_equal(result.weight, [0])
    np.testing.assert_allclose(result.probabilities, [[1, 0]])


def test_the_share_of_a_paste_is_the_area_that_is_left() -> None:
    mixed = mixture(DRAWS, INDICES, (10, 14), (0.0, 1.0))
    images, others = np.zeros((2_000, 10, 14, 1), np.uint8), np.ones((2_000, 10, 14, 1), np.uint8)
    kept = 1 - mixed.images(images, others).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mixed.share, kept, atol=1e-6)
    assert mixed.boxes.min() == 0
    assert tuple(mixed.boxes[:, 2:].max(0)) == (14, 10)
    assert mixed.share.std() > 0.15


def test_mixup_alone_blends_every_picture_with_a_beta_share() -> None:
    mixed = mixture(DRAWS, INDICES, (8, 8), (0.4, 0.0))
    assert not mixed.boxes.any()
    assert stats.kstest(mixed.share, stats.beta(0.4, 0.4).cdf).pvalue > 0.001


def test_with_both_a_fair_coin_chooses() -> None:
    mixed = mixture(DRAWS, INDICES, (64, 64), (1.0, 1.0))
    pasted = (mixed.boxes[:, 2] > mixed.boxes[:, 0]).mean()
    assert 0.4 < pasted < 0.55  # some pastes are too small for a pixel


def test_partners_come_from_the_pool_and_depend_on_the_index_alone() -> None:
    pool = np.array([5, 8, 13], np.int64)
    chosen = partners(DRAWS, INDICES, pool)
    assert set(chosen.tolist()) == {5, 8, 13}
    np.testing.assert_array_equal(partners(DRAWS, INDICES[[7, 3]], pool), chosen[[7, 3]])
    assert (partners(Draws(0, 1), INDICES, pool) != chosen).any()
    assert (partners(DRAWS, INDICES, pool, purpose="another") != chosen).any()


def test_a_partner_is_of_the_same_block_and_any_of_it() -> None:
    pool = INDICES[1::2]
    blocks = np.random.default_rng(0).integers(0, 10, 2_000)
    found = partners(DRAWS, pool, pool, blocks)
    np.testing.assert_array_equal(blocks[found], blocks[pool])
    assert set(found.tolist()) <= set(pool.tolist())
    # Of n who each draw one of n, about n (1 - 1/e) are drawn.
    assert 0.55 < len(set(found.tolist())) / len(pool) < 0.72
    np.testing.assert_array_equal(partners(DRAWS, pool[[3, 700]], pool, blocks), found[[3, 700]])
