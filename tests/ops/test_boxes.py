import math
from typing import get_args

import pytest
import torch
import torchvision.ops as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from striate.ops.boxes import (
    BoxCoder,
    Overlap,
    areas,
    centred,
    clipped,
    cornered,
    overlap,
    pairwise_iou,
    pairwise_share,
)

KINDS: tuple[Overlap, ...] = get_args(Overlap)
ORACLES = {
    "iou": oracle.box_iou,
    "giou": oracle.generalized_box_iou,
    "diou": oracle.distance_box_iou,
    "ciou": oracle.complete_box_iou,
}

LOSSES = {
    "giou": oracle.generalized_box_iou_loss,
    "diou": oracle.distance_box_iou_loss,
    "ciou": oracle.complete_box_iou_loss,
}


def boxes_of(seed: int, count: int) -> Tensor:
    """Boxes (count, 4) of sides 1..60 with corners on whole pixels of 0..100."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 100, (count, 2), generator=generator)
    sides = torch.randint(1, 60, (count, 2), generator=generator)
    return torch.cat((corner, corner + sides), 1).float()


def test_a_box_inside_out_has_no_area() -> None:
    boxes = torch.tensor([[1.0, 2, 4, 6], [4, 2, 1, 6], [4, 6, 1, 2], [3, 3, 3, 9]])
    assert areas(boxes).tolist() == [12, 0, 0, 0]


def test_centre_and_sides_of_a_box() -> None:
    assert centred(torch.tensor([2.0, 10, 6, 11])).tolist() == [4, 10.5, 4, 1]
    assert cornered(torch.tensor([4, 10.5, 4, 1])).tolist() == [2, 10, 6, 11]


def test_clipped_cuts_at_height_and_width() -> None:
    boxes = torch.tensor([[[-3.0, -1, 5, 9], [2, 3, 99, 99], [40, 50, 60, 70]]])
    assert clipped(boxes, (8, 20)).tolist() == [[[0, 0, 5, 8], [2, 3, 20, 8], [20, 8, 20, 8]]]


def test_overlap_of_two_boxes_by_hand() -> None:
    # 4x4 and 4x4 with a 2x2 corner in common: 4 of 16 + 16 - 4; the hull is 6x6, the diagonal 6 sqrt 2.
    one, other = torch.tensor([0.0, 0, 4, 4]), torch.tensor([2.0, 2, 6, 6])
    iou = 4 / 28
    expected = {"iou": iou, "giou": iou - 8 / 36, "diou": iou - 8 / 72, "ciou": iou - 8 / 72}
    for kind in KINDS:
        assert math.isclose(overlap(one, other, kind).item(), expected[kind], rel_tol=1e-6), kind


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_equal_torchvisions(kind: Overlap) -> None:
    boxes, others = boxes_of(1, 200), boxes_of(2, 200)
    expected = ORACLES[kind](boxes, others).diagonal()
    torch.testing.assert_close(overlap(boxes, others, kind), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_of_an_overlap_equals_torchvisions_loss(kind: Overlap) -> None:
    boxes, others = boxes_of(3, 100), boxes_of(4, 100)
    # Equal corners have two gradients: which one a minimum takes is nobody's business.
    boxes += 0.25
    ours, theirs = boxes.clone().requires_grad_(), boxes.clone().requires_grad_()
    (1 - overlap(ours, others, kind)).sum().backward()  # type: ignore[no-untyped-call]
    LOSSES[kind](theirs, others, reduction="sum").backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_of_a_box_with_itself_is_one(kind: Overlap) -> None:
    boxes = boxes_of(5, 20)
    assert torch.equal(overlap(boxes, boxes, kind), torch.ones(20))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_have_a_finite_overlap_and_gradient(kind: Overlap) -> None:
    point = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 9], [9, 9, 2, 2]], requires_grad=True)
    others = torch.tensor([[3.0, 3, 3, 3], [0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]])
    found = overlap(point, others, kind)
    assert found.isfinite().all()
    assert (found <= 0).all()
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert point.grad is not None
    assert point.grad.isfinite().all()


def test_pairwise_overlaps_equal_torchvisions_for_every_picture() -> None:
    boxes, others = boxes_of(6, 24).view(2, 12, 4), boxes_of(7, 30).view(2, 15, 4)
    found = pairwise_iou(boxes, others)
    expected = torch.stack([oracle.box_iou(*pair) for pair in zip(boxes, others, strict=True)])
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    # The same anchors for every picture need not be repeated.
    assert torch.equal(pairwise_iou(boxes, others[0])[0], found[0])


@pytest.mark.parametrize(("count", "others"), [(0, 3), (3, 0), (0, 0)])
def test_pairwise_overlaps_of_no_box_are_none(count: int, others: int) -> None:
    assert pairwise_iou(torch.zeros(2, count, 4), torch.zeros(others, 4)).shape == (2, count, others)
    assert pairwise_share(torch.zeros(2, count, 4), torch.zeros(others, 4)).shape == (2, count, others)


def test_boxes_without_area_overlap_nothing() -> None:
    points = torch.tensor([[3.0, 3, 3, 3], [0, 0, 0, 0]])
    others = torch.tensor([[3.0, 3, 3, 3], [0, 0, 9, 9]])
    assert pairwise_iou(points, others).tolist() == [[0, 0], [0, 0]]
    assert pairwise_share(points, others).tolist() == [[0, 0], [0, 0]]


def test_share_is_that_of_the_first_boxes_area() -> None:
    small, large = torch.tensor([[2.0, 2, 4, 4]]), torch.tensor([[3.0, 0, 9, 9], [0, 0, 9, 9]])
    assert pairwise_share(small, large).tolist() == [[0.5, 1]]
    torch.testing.assert_close(pairwise_share(large, small), torch.tensor([[2 / 54], [4 / 81]]))


def test_coder_writes_what_the_paper_says() -> None:
    # Appendix C: centre (3, 5) -> (5, 4) of an anchor 4 wide and 2 high, which grows to 8 x 1.
    anchor, box = cornered(torch.tensor([3.0, 5, 4, 2])), cornered(torch.tensor([5.0, 4, 8, 1]))
    expected = torch.tensor([2 / 4, -1 / 2, math.log(2), math.log(1 / 2)])
    torch.testing.assert_close(BoxCoder().encode(box, anchor), expected)
    weighted = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode(box, anchor)
    torch.testing.assert_close(weighted, expected * torch.tensor([10.0, 10, 5, 5]))


coordinate = st.floats(0, 600, width=32)
side = st.floats(1, 500, width=32)


@given(st.tuples(coordinate, coordinate, side, side), st.tuples(coordinate, coordinate, side, side))
@settings(max_examples=100, deadline=None)
def test_what_is_encoded_is_decoded(
    box: tuple[float, float, float, float], anchor: tuple[float, float, float, float]
) -> None:
    boxes, anchors = cornered(torch.tensor([box])), cornered(torch.tensor([anchor]))
    # A side grows to 62.5 times the anchor's at most: of a 1 pixel anchor, no further.
    boxes = torch.minimum(boxes, boxes[:, [0, 1, 0, 1]] + 60 * (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2))
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(
        coder.decode(coder.encode(boxes, anchors), anchors), boxes, atol=0.01, rtol=1e-4
    )


def test_what_is_decoded_stays_finite() -> None:
    wild = torch.tensor([[1e4, -1e4, 1e4, -1e4]])
    decoded = BoxCoder().decode(wild, torch.tensor([[0.0, 0, 10, 10]]))
    assert decoded.isfinite().all()
    assert math.isclose(float(decoded[0, 2] - decoded[0, 0]), 625, rel_tol=1e-3)


def test_a_box_of_no_size_has_finite_numbers() -> None:
    numbers = BoxCoder().encode(torch.tensor([[4.0, 4, 4, 4]]), torch.tensor([[0.0, 0, 10, 10]]))
    assert numbers.isfinite().all()
