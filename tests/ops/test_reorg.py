"""Darknet's reorg: the values it moves where, told by its own loop over flat buffers."""

import pytest
import torch

from striate.ops.reorg import reorg


def by_loops(values: list[float], channels: int, height: int, width: int, stride: int) -> list[float]:
    """The flat buffer of a picture behind darknet's layer: for each place of the input's shape, one read."""
    fewer = channels // stride**2
    found = []
    for channel in range(channels):
        offset, group = channel // fewer, channel % fewer
        for row in range(height):
            for column in range(width):
                x = column * stride + offset % stride
                y = row * stride + offset // stride
                found.append(values[x + width * stride * (y + height * stride * group)])
    return found


def test_four_maps_of_two_by_two_become_sixteen_of_one() -> None:
    # Read as one map of 4x4, 0 1 2 3 / 4 5 6 7 / ...: first the top left of each 2x2, then the top right, ...
    maps = torch.arange(16.0).view(1, 4, 2, 2)
    expected = [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    assert reorg(maps).shape == (1, 16, 1, 1)
    assert reorg(maps).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("channels", "height", "width", "stride"), [(8, 4, 6, 2), (18, 3, 9, 3), (64, 2, 2, 2)]
)
def test_every_value_goes_where_darknet_puts_it(channels: int, height: int, width: int, stride: int) -> None:
    maps = torch.arange(2.0 * channels * height * width).view(2, channels, height, width)
    found = reorg(maps, stride)
    assert found.shape == (2, channels * stride**2, height // stride, width // stride)
    for picture, expected in zip(found, maps, strict=True):
        assert picture.flatten().tolist() == by_loops(
            expected.flatten().tolist(), channels, height, width, stride
        )


def test_it_is_not_pixel_unshuffle() -> None:
    maps = torch.arange(64.0).view(1, 4, 4, 4)
    assert not torch.equal(reorg(maps), torch.nn.functional.pixel_unshuffle(maps, 2))
