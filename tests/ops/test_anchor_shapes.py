"""k-means on the sides of boxes, with overlap as the measure."""

import pytest
import torch

from striate.ops.anchor_shapes import anchor_shapes, shape_iou


def test_shapes_overlap_as_boxes_on_one_centre() -> None:
    found = shape_iou(
        torch.tensor([[4.0, 2.0], [1.0, 1.0]]), torch.tensor([[2.0, 4.0], [4.0, 2.0], [8.0, 4.0]])
    )
    torch.testing.assert_close(found, torch.tensor([[4 / 12, 1.0, 8 / 32], [1 / 8, 1 / 8, 1 / 32]]))


def test_a_shape_without_area_overlaps_nothing() -> None:
    assert shape_iou(torch.zeros(1, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])).tolist() == [[0.0, 0.0]]


def test_two_heaps_of_boxes_give_their_means_the_smaller_first() -> None:
    sides = torch.tensor([[100.0, 50.0], [10.0, 20.0], [12.0, 22.0], [104.0, 54.0], [8.0, 18.0]])
    torch.testing.assert_close(anchor_shapes(sides, 2), torch.tensor([[10.0, 20.0], [102.0, 52.0]]))


def test_boxes_are_told_apart_by_overlap_not_by_distance() -> None:
    # 40 is 30 from 10 and 50 from 90, but overlaps 10 by 1/16 and 90 by 16/81.
    sides = torch.tensor([[10.0], [10.0], [40.0], [90.0], [90.0]]).expand(5, 2)
    expected = torch.tensor([[10.0], [220 / 3]]).expand(2, 2)
    torch.testing.assert_close(anchor_shapes(sides, 2), expected)


def test_more_shapes_overlap_the_boxes_better() -> None:
    sides = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 200 + 5
    means = [shape_iou(sides, anchor_shapes(sides, count)).amax(1).mean() for count in (1, 3, 5, 9)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.2


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_boxes_give_as_many_shapes_as_asked_for(count: int) -> None:
    sides = torch.tensor([[10.0, 20.0], [30.0, 30.0]])
    found = anchor_shapes(sides, count)
    assert found.shape == (count, 2)
    assert (found > 0).all()
    assert (found.prod(1).diff() >= 0).all()
