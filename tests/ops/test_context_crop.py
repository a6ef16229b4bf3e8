"""Warped boxes against plain sampling, and against Pillow's resizing."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from striate.ops.context_crop import warped


def random_values(height: int, width: int, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def by_plain_sampling(picture: NDArray[np.float64], box: list[float], side: int, context: int) -> Tensor:
    """Each pixel of the square on its own; picture (H, W)."""
    x0, y0, x1, y1 = box
    inner = side - 2 * context
    square = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            # The box fills the inner pixels; those of the border go on at the same pace.
            x = x0 + (column + 0.5 - context) * (x1 - x0) / inner
            y = y0 + (row + 0.5 - context) * (y1 - y0) / inner
            square[row, column] = between(picture, x - 0.5, y - 0.5)
    return torch.from_numpy(square)


def between(picture: NDArray[np.float64], x: float, y: float) -> float:
    left, top = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row, part in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
                total += part * share * picture[row, column]
    return total


@pytest.mark.parametrize(
    "box", [[3.0, 4, 15, 9], [0, 0, 20, 14], [16.5, 10.25, 19, 13], [-4, 2, 6, 30], [7, 7, 8, 8]]
)
@pytest.mark.parametrize("context", [0, 3])
def test_it_equals_plain_sampling(box: list[float], context: int) -> None:
    values = random_values(14, 20)
    found = warped(values, torch.tensor([[box]]), 10, context)
    assert found.shape == (1, 1, 2, 10, 10)
    for channel in range(2):
        expected = by_plain_sampling(values[0, channel].double().numpy(), box, 10, context)
        torch.testing.assert_close(found[0, 0, channel].double(), expected, atol=1e-5, rtol=0)


def test_inside_a_box_that_grows_it_equals_pillow() -> None:
    values = random_values(12, 16, channels=1)
    box = [3.0, 2, 11, 8]
    found = warped(values, torch.tensor([[box]]), 48, 0)[0, 0, 0]
    whole = Image.fromarray(values[0, 0].numpy())
    resized = whole.resize((48, 48), Image.Resampling.BILINEAR, box=(3, 2, 11, 8))
    # Pillow sees nothing outside the box: its outermost half pixels, 4 of 48, differ.
    np.testing.assert_allclose(found[4:-4, 4:-4], np.asarray(resized)[4:-4, 4:-4], atol=1e-5)


def test_a_box_of_the_inner_size_is_copied_with_its_surroundings() -> None:
    values = random_values(30, 40)
    found = warped(values, torch.tensor([[[10.0, 8, 18, 16]]]), 14, 3)
    torch.testing.assert_close(found[0, 0], values[0, :, 5:19, 7:21])


def test_what_lies_outside_is_zero() -> None:
    values = torch.ones(1, 1, 20, 20)
    found = warped(values, torch.tensor([[[0.0, 0, 8, 8]]]), 12, 2)[0, 0, 0]
    expected = torch.zeros(12, 12)
    expected[2:, 2:] = 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_each_box_is_cut_out_of_its_own_picture() -> None:
    values = torch.stack([torch.full((1, 9, 9), float(number)) for number in (1, 2, 3)])
    boxes = torch.tensor([[[2.0, 2, 5, 5], [3, 3, 6, 6]]]).expand(3, 2, 4)
    found = warped(values, boxes, 4, 0)
    assert found.mean((2, 3, 4)).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_no_boxes_give_no_squares() -> None:
    assert warped(random_values(9, 9), torch.zeros(1, 0, 4), 4, 1).shape == (1, 0, 2, 4, 4)
