"""Random numbers as a function of what they are for."""

import subprocess
import sys

import numpy as np
import pytest

from striate.data.draws import Draws

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


def test_another_process_draws_the_same_numbers() -> None:
    code = (
        "import numpy as np; from striate.data.draws import Draws;"
        "print(Draws(1, 2).uniform(np.array([3], np.int64), 'flip', 1)[0, 0].hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == Draws(1, 2).uniform(np.array([3], np.int64), "flip", 1)[0, 0].hex()
