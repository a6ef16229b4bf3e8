import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.errors import UsageError
from striate.layers.smallest_size import SmallestSize, smallest_side
from striate.structures import Preprocess


def test_pictures_large_enough_pass_unchanged() -> None:
    images = torch.zeros(2, 3, 8, 9, dtype=torch.uint8)
    assert SmallestSize(Preprocess(size=(8, 8), fit="stretch"), side=8)(images) is images


@pytest.mark.parametrize("size", [(7, 9), (9, 7)])
def test_pictures_too_small_are_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"at least 8 pixels a side, got {size[0]}x{size[1]}"):
        SmallestSize(Preprocess(), side=8)(torch.zeros(1, 3, *size))


def test_a_spec_too_small_is_refused_on_creation() -> None:
    with pytest.raises(UsageError, match="at least 9 pixels a side, got 8x9") as caught:
        SmallestSize(Preprocess(size=(8, 9), fit="stretch"), side=9)
    assert "9x9 or more" in str(caught.value)


def test_five_pools_of_two_need_32_pixels() -> None:
    pools = [nn.MaxPool2d(2) for _ in range(5)]
    assert smallest_side(pools) == 32
    assert smallest_side([*pools, nn.ReLU(), nn.BatchNorm2d(3)]) == 32


def test_pools_that_round_up_leave_a_pixel_of_any_picture() -> None:
    assert smallest_side([nn.MaxPool2d(2, ceil_mode=True) for _ in range(5)]) == 1


@st.composite
def layers(draw: st.DrawFn) -> list[nn.Module]:
    made: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        if draw(st.booleans()):
            padding, dilation = draw(st.integers(0, 3)), draw(st.integers(1, 2))
            made.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        else:
            padding, rounds_up = draw(st.integers(0, kernel // 2)), draw(st.booleans())
            made.append(nn.MaxPool2d(kernel, stride, padding, ceil_mode=rounds_up))
    return made


def leaves_a_map(row: list[nn.Module], side: int) -> bool:
    try:
        nn.Sequential(*row)(torch.zeros(1, 1, side, side))
    except RuntimeError:
        return False
    return True


@given(layers())
def test_one_pixel_less_than_the_smallest_side_leaves_no_map(row: list[nn.Module]) -> None:
    side = smallest_side(row)
    assert leaves_a_map(row, side)
    assert side == 1 or not leaves_a_map(row, side - 1)
