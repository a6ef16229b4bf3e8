"""U-Net's weight map."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data import border_weight as border_weight_module
from striate.data.border_weight import border_weight, cells


def by_brute_force(labels: NDArray[np.uint8], height: float, sigma: float) -> NDArray[np.float32]:
    """The map by the distance of every pixel to every pixel of every cell."""
    found = cells(labels)
    weight = np.zeros(labels.shape)
    for row, column in zip(*np.nonzero(labels == 0), strict=True):
        distances = sorted(
            min(math.dist((row, column), pixel) for pixel in zip(*np.nonzero(found == number), strict=True))
            for number in range(1, int(found.max()) + 1)
        )
        if len(distances) > 1:
            weight[row, column] = height * math.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2))
    return np.where(weight >= 1e-3, weight, 0).astype(np.float32)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_the_map_is_the_papers_formula(size: tuple[int, int], density: float) -> None:
    for seed in range(4):
        chance = np.random.default_rng(seed)
        labels = ((chance.random(size) < density) * chance.integers(1, 3, size)).astype(np.uint8)
        labels[chance.random(size) < 0.05] = 255
        for height, sigma in ((10.0, 5.0), (3.0, 1.0)):
            expected = by_brute_force(labels, height, sigma)
            np.testing.assert_allclose(border_weight(labels, height, sigma), expected, rtol=1e-5)


def test_many_cells_far_apart_are_counted_in_longer_numbers() -> None:
    # 16,384 cells need 15 bits, and squared distances up to 2 x 129^2 another 16.
    labels = np.zeros((256, 256), np.uint8)
    labels[::2, ::2] = 1
    weight = border_weight(labels, 10, 30)
    assert border_weight_module._Coding.for_cells(cells(labels), 129).kind is np.int64
    # Beside a cell: 1 and 1 away. In the middle of four: twice the root of 2. At the edge: 1 and root 5.
    assert weight[0, 1] == pytest.approx(10 * math.exp(-4 / 1800))
    assert weight[1, 1] == pytest.approx(10 * math.exp(-8 / 1800))
    assert weight[255, 0] == pytest.approx(10 * math.exp(-((1 + math.sqrt(5)) ** 2) / 1800))
    few = border_weight(labels[:128, :128], 10, 30)
    np.testing.assert_array_equal(weight[:127, :127], few[:127, :127])


def test_a_gap_of_one_pixel_weighs_as_computed_by_hand() -> None:
    labels = np.array([[1, 0, 1]], np.uint8)
    weight = border_weight(labels, 10, 5)
    # Both cells are 1 pixel away: 10 exp(-(1 + 1)^2 / 50).
    np.testing.assert_allclose(weight, [[0, 10 * math.exp(-4 / 50), 0]], rtol=1e-6)


def test_one_cell_alone_and_none_give_no_weight() -> None:
    labels = np.zeros((8, 8), np.uint8)
    assert not border_weight(labels, 10, 5).any()
    labels[2:4, 2:5] = 1
    assert not border_weight(labels, 10, 5).any()
    assert not border_weight(np.full((8, 8), 255, np.uint8), 10, 5).any()


def test_cells_beyond_reach_of_each_other_give_no_weight() -> None:
    labels = np.zeros((1, 60), np.uint8)
    labels[0, [0, 59]] = 1
    assert not border_weight(labels, 10, 5).any()


def test_cells_hang_together_by_sides_within_one_class() -> None:
    labels = np.array(
        [
            [1, 0, 1, 2, 255],
            [1, 1, 1, 2, 1],
            [0, 0, 0, 1, 0],
            [2, 2, 0, 1, 1],
        ],
        np.uint8,
    )
    # The ones at the upper left join by a way around; the 2s and the 1 of the last column stay apart, and
    # what touches by a corner alone does too.
    expected = [
        [1, 0, 1, 2, 0],
        [1, 1, 1, 2, 3],
        [0, 0, 0, 4, 0],
        [5, 5, 0, 4, 4],
    ]
    np.testing.assert_array_equal(cells(labels), expected)


def test_a_spiral_is_one_cell() -> None:
    labels = np.zeros((41, 41), np.uint8)
    row = column = 0
    steps = [40, 40, 40]
    for length in range(38, 0, -2):
        steps += [length, length]
    for (down, right), length in zip([(0, 1), (1, 0), (0, -1), (-1, 0)] * 20, steps, strict=False):
        for _ in range(length):
            labels[row, column] = 1
            row, column = row + down, column + right
    found = cells(labels)
    assert found.max() == 1
    np.testing.assert_array_equal(found > 0, labels > 0)
