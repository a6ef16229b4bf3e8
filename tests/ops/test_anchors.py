"""Anchors: the published table, torchvision's, and their places on a map."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator

from striate.ops.anchors import centred_anchors, published_anchors, spread

# Pixels counted from 1, the last ones included; ratios 0.5, 1, 2 of areas 128, 256, 512 squared.
TABLE = (
    (-83, -39, 100, 56),
    (-175, -87, 192, 104),
    (-359, -183, 376, 200),
    (-55, -55, 72, 72),
    (-119, -119, 136, 136),
    (-247, -247, 264, 264),
    (-35, -79, 52, 96),
    (-79, -167, 96, 184),
    (-167, -343, 184, 360),
)


def test_anchors_are_those_of_the_published_table() -> None:
    found = published_anchors((128, 256, 512))
    assert torch.equal(found + torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor(TABLE, dtype=torch.float32))


def test_another_stride_moves_the_centre_and_rounds_its_own_cell() -> None:
    # 8 x 8 pixels at a ratio of 2 are 6 x 12: 5.66 rounded, and twice that; 32 / 8 = 4 times as large.
    assert published_anchors((32,), (2.0,), stride=8).tolist() == [[4 - 12, 4 - 24, 4 + 12, 4 + 24]]


@pytest.mark.parametrize("sizes", [(32.0,), (24.0, 48.0), (512.0, 100.0, 7.0)])
def test_centred_anchors_are_torchvision_s(sizes: tuple[float, ...]) -> None:
    theirs = AnchorGenerator((sizes,), ((0.5, 1.0, 2.0),)).cell_anchors[0]
    assert torch.equal(centred_anchors(sizes), theirs)


def test_anchors_are_at_every_cell_row_by_row() -> None:
    two = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [0.0, 0.0, 4.0, 4.0]])
    found = spread(two, (2, 3), (10, 100))
    assert found.shape == (12, 4)
    assert torch.equal(found[:2], two)
    assert found[2].tolist() == [99, -2, 101, 2]  # the next column
    assert found[6].tolist() == [-1, 8, 1, 12]  # the first of the next row
    assert found[-1].tolist() == [200, 10, 204, 14]
