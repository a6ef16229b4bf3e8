"""Regions cut out of maps: what is rounded, what is interpolated, and from which level they are read."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from striate.ops.roi import aligned, max_pooled, pyramid_aligned, pyramid_levels

GRID = torch.arange(36.0).view(1, 1, 6, 6)  # cell (row, column) holds 6 row + column


def box(*corners: float) -> Tensor:
    return torch.tensor([[corners]], dtype=torch.float32)


def boxes(batch: int, count: int, side: float, seed: int = 0) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    corners = torch.rand(batch, count, 2, generator=chance) * side * 0.6
    extents = 4 + torch.rand(batch, count, 2, generator=chance) * side * 0.39
    return torch.cat((corners, corners + extents), -1)


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        # The last pixel is 55, in cell 3.44, rounded to 3: cells 0..3. Pixel 56 would round to 4.
        ((0, 0, 56, 56), [[7, 9], [19, 21]]),
        # The last pixel is 63, in cell 3.94, rounded to 4: cells 0..4, of which both halves have the middle.
        ((0, 0, 64, 64), [[14, 16], [26, 28]]),
        # The first pixel is 25, in cell 1.56, rounded to 2; the last 41, in 2.56, rounded to 3.
        ((25, 25, 42, 42), [[14, 15], [20, 21]]),
        # A pixel is a cell, which all quarters show.
        ((16, 16, 17, 17), [[7, 7], [7, 7]]),
    ],
)
def test_max_pooling_rounds_as_it_was_published(
    corners: tuple[float, ...], expected: list[list[int]]
) -> None:
    assert max_pooled(GRID, box(*corners), 2, 16)[0, 0].tolist() == expected


def test_cells_beyond_the_map_are_0() -> None:
    assert max_pooled(GRID - 100, box(0, 64, 32, 160), 2, 16)[0, 0].tolist() == [[-69, -68], [0, 0]]


def test_each_box_is_cut_out_of_its_own_picture() -> None:
    maps = torch.cat((GRID, GRID + 100))
    two = torch.cat((box(0, 0, 16, 16), box(16, 0, 32, 16)), 1)
    found = max_pooled(maps, two.expand(2, -1, -1), 1, 16)
    assert found.flatten().tolist() == [7, 8, 107, 108]  # 15 / 16 rounds to 1: two cells a side


def test_alignment_rounds_nothing() -> None:
    # A box from cell 1.25 to 3.25; the centres of its halves are at 1.75 and 2.75.
    found = aligned(GRID, box(20, 20, 52, 52), 2, 16)[0, 0]
    assert found.tolist() == [[7 * 1.75, 6 * 1.75 + 2.75], [6 * 2.75 + 1.75, 7 * 2.75]]


def test_regions_are_cut_out_in_float32_and_come_in_the_maps_precision() -> None:
    maps = torch.rand(1, 2, 6, 6).bfloat16()
    for cut in (max_pooled, aligned):
        found = cut(maps, box(3, 3, 70, 60), 3, 16)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, cut(maps.float(), box(3, 3, 70, 60), 3, 16).bfloat16())


@pytest.mark.parametrize(
    ("side", "level"), [(0, 0), (10, 0), (111.9, 0), (112, 1), (223.9, 1), (224, 2), (448, 3), (5000, 3)]
)
def test_a_region_is_read_on_the_level_of_its_size(side: float, level: int) -> None:
    assert pyramid_levels(box(5, 5, 5 + side, 5 + side), (4, 8, 16, 32)).item() == level
    assert pyramid_levels(box(5, 5, 5 + side, 5 + side), (8, 16, 32)).item() == max(level - 1, 0)


def test_levels_are_torchvision_s() -> None:
    many = boxes(1, 500, 1000)
    assert torch.equal(pyramid_levels(many, (4, 8, 16, 32))[0], LevelMapper(2, 5)([many[0]]))


def test_pyramid_regions_are_torchvision_s() -> None:
    chance = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 3, 1024 // stride, 1024 // stride, generator=chance) for stride in (4, 8, 16, 32)]
    cut = boxes(2, 40, 1024)
    assert set(pyramid_levels(cut, (4, 8, 16, 32)).flatten().tolist()) == {0, 1, 2}
    theirs = MultiScaleRoIAlign([str(level) for level in range(4)], 7, 2)
    expected = theirs({str(level): m for level, m in enumerate(maps)}, list(cut), [(1024, 1024)] * 2)
    torch.testing.assert_close(pyramid_aligned(maps, cut, 7, (4, 8, 16, 32)), expected)
