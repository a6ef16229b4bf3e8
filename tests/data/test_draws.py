"""Random numbers as a function of what they are for."""

import subprocess
import sys

import numpy as np
import pytest

from striate.data.draws import BLOCKS_MIXED, Draws

INDICES = np.arange(20_000, dtype=np.int64)


def test_draws_are_uniform_in_the_unit_interval() -> None:
    numbers = Draws(0, 0).uniform(INDICES, "test", 5)
    assert numbers.shape == (20_000, 5)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    # Chi-square with 19 degrees of freedom: 43.8 has a chance of 1 in 1000.
    assert ((counts - 5_000) ** 2 / 5_000).sum() < 43.8


@pytest.mark.parametrize(("other", "purpose"), [(Draws(1, 0), "a"), (Draws(0, 1), "a"), (Draws(0, 0), "b")])
def test_seed_epoch_and_purpose_each_give_unrelated_numbers(other: Draws, purpose: str) -> None:
    here = Draws(0, 0).uniform(INDICES, "a", 1)[:, 0]
    there = other.uniform(INDICES, purpose, 1)[:, 0]
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.03
    assert not (here == there).any()


def test_swapping_seed_and_epoch_gives_other_numbers() -> None:
    assert not (Draws(3, 5).uniform(INDICES, "a", 1) == Draws(5, 3).uniform(INDICES, "a", 1)).any()


def test_neighbouring_samples_and_positions_are_unrelated() -> None:
    numbers = Draws(0, 0).uniform(INDICES, "a", 2)
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.03


def test_a_sample_draws_the_same_in_any_batch() -> None:
    whole = Draws(7, 3).uniform(INDICES[:100], "crop", 4)
    some = np.array([42, 3, 99], np.int64)
    np.testing.assert_array_equal(Draws(7, 3).uniform(some, "crop", 4), whole[some])


def test_more_numbers_leave_the_first_ones_as_they_are() -> None:
    few, many = (Draws(7, 3).uniform(INDICES[:10], "crop", count) for count in (2, 5))
    np.testing.assert_array_equal(few, many[:, :2])


def test_order_is_a_permutation_that_changes_by_epoch_and_not_by_the_given_order() -> None:
    indices = np.arange(10, 60, dtype=np.int64)
    first, second = Draws(0, 0).order(indices), Draws(0, 1).order(indices)
    assert sorted(first.tolist()) == indices.tolist()
    assert first.tolist() != second.tolist()
    np.testing.assert_array_equal(Draws(0, 0).order(indices[::-1].copy()), first)


def test_blocks_come_one_after_the_other_a_few_at_a_time_and_no_index_is_lost() -> None:
    indices = np.arange(1000, 11_000, dtype=np.int64)
    blocks = np.full(11_000, -1, np.int64)
    blocks[indices] = np.arange(10_000) // 500  # 20 blocks
    order, other = (Draws(0, epoch).order(indices, blocks) for epoch in (0, 1))
    assert sorted(order.tolist()) == indices.tolist()
    places = [np.flatnonzero(blocks[order] == block) for block in range(20)]
    # While a block is being read, those before it end and those after it begin.
    assert max(np.ptp(place) for place in places) < 500 * 2 * BLOCKS_MIXED
    assert (np.argsort([place[0] for place in places]) != np.arange(20)).any()
    assert blocks[order[0]] != blocks[other[0]]
    # In the middle, where all are mixed, a stretch as long as a block has several in about equal shares.
    shares = np.bincount(blocks[order[5000:5500]], minlength=20) / 500
    assert np.count_nonzero(shares > 0.1) >= BLOCKS_MIXED
    assert shares.max() < 0.5


def test_the_order_in_blocks_does_not_depend_on_the_given_order() -> None:
    indices, blocks = np.arange(100, dtype=np.int64), np.arange(100) // 10
    np.testing.assert_array_equal(
        Draws(0, 0).order(indices[::-1].copy(), blocks), Draws(0, 0).order(indices, blocks)
    )
    assert Draws(0, 0).order(indices, blocks).tolist() != Draws(0, 1).order(indices, blocks).tolist()


def test_few_blocks_are_shuffled_as_one() -> None:
    indices = np.arange(100, dtype=np.int64)
    blocks = indices // 25
    assert len(set(blocks.tolist())) == BLOCKS_MIXED
    np.testing.assert_array_equal(Draws(0, 0).order(indices, blocks), Draws(0, 0).order(indices))


def test_another_process_draws_the_same_numbers() -> None:
    code = (
        "import numpy as np; from striate.data.draws import BLOCKS_MIXED, Draws;"
        "print(Draws(1, 2).uniform(np.array([3], np.int64), 'flip', 1)[0, 0].hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == Draws(1, 2).uniform(np.array([3], np.int64), "flip", 1)[0, 0].hex()
