"""YOLO v3: published sizes, which grid has an object, and the loss by hand."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from striate import models
from striate.errors import UsageError
from striate.models.detection import yolo_v3
from striate.models.detection.yolo_v3 import Raw, YoloV3
from striate.models.unweighted import unweighted
from striate.structures import BoxTargets

# TINY: 3 classes on 64 x 96 pixels; grids of 2 x 3, 4 x 6 and 8 x 12 cells with two anchors each, the
# coarsest first: 40 x 30 and 50 x 60, then 14 x 20 and 24 x 18, then 4 x 6 and 9 x 7.
GRIDS = ((2, 3), (4, 6), (8, 12))
OUTPUTS = 8
SURE, NEVER = 50.0, -50.0


@pytest.fixture(scope="module")
def tiny() -> YoloV3:
    torch.manual_seed(0)
    return yolo_v3.build(yolo_v3.TINY).eval()


def silent() -> list[Tensor]:
    """Outputs (1, anchors, 8, rows, columns) of each grid that find nothing: anchors in the cells' middle."""
    grids = [torch.zeros(1, 2, OUTPUTS, rows, columns) for rows, columns in GRIDS]
    for grid in grids:
        grid[:, :, 4] = NEVER
    return grids


def raw(grids: list[Tensor]) -> Raw:
    return Raw(tuple(grid.flatten(1, 2) for grid in grids))


def objects(*boxes: list[float], labels: tuple[int, ...]) -> BoxTargets[Tensor]:
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    return BoxTargets(torch.tensor([boxes]), torch.tensor([labels]), valid, ~valid, torch.ones(1))


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "giga"),
    [
        ("yolo_v3", 80, 61_949_149, 32.93),
        ("yolo_v3", 20, 61_626_049, 32.71),
        ("tiny_yolo_v3", 80, 8_852_366, 2.78),
    ],
)
def test_counts_at_416(
    counts: Callable[..., Any], name: str, classes: int, parameters: int, giga: float
) -> None:
    found = counts(name, classes=classes)
    assert (found.parameters, round(found.multiply_adds / 1e9, 2)) == (parameters, giga)


def test_multiply_adds_at_608(counts: Callable[..., Any]) -> None:
    assert round(counts("yolo_v3", (608, 608)).multiply_adds / 1e9, 2) == 70.35


def test_three_anchors_at_each_cell_of_three_grids() -> None:
    with unweighted():
        network = models.create("yolo_v3")
    assert isinstance(network, YoloV3)
    assert network.reads == ["stage6", "stage5", "stage4"]
    images = torch.zeros(1, 3, 416, 416, device="meta")
    assert network.predictions(network(images))[0].shape == (1, 3 * (13**2 + 26**2 + 52**2), 4)
    grids = network._grids(Raw((torch.zeros(1, 255, 13, 13), torch.zeros(1, 255, 26, 26))))
    assert [grid.stride for grid in grids] == [32, 16]
    assert grids[0].anchors.tolist() == [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]]
    assert grids[1].anchors.tolist() == [[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]]


def test_maps_of_the_coarser_grid_come_first_twice_as_large() -> None:
    network = yolo_v3.build(yolo_v3.TINY).eval()
    head = network.heads[1]
    seen: list[Tensor] = []
    head.get_submodule("neck").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        head.get_parameter("lateral.norm.weight").zero_()
        head.get_parameter("lateral.norm.bias").copy_(torch.arange(1.0, 17.0))
        network(torch.zeros(1, 3, 64, 96))
    expected = torch.arange(1.0, 17.0).view(1, 16, 1, 1).expand(1, 16, 4, 6)
    assert torch.equal(seen[0][:, :16], expected)
    assert seen[0].shape == (1, 16 + 16, 4, 6)


@pytest.mark.parametrize(
    ("width", "height", "grid", "anchor"),
    [(44, 30, 0, 0), (50, 64, 0, 1), (15, 20, 1, 0), (30, 20, 1, 1), (3, 6, 2, 0), (10, 7, 2, 1)],
)
def test_an_object_belongs_to_the_one_anchor_of_its_shape(
    tiny: YoloV3, width: float, height: float, grid: int, anchor: int
) -> None:
    grids = [outputs.requires_grad_() for outputs in silent()]
    loss = tiny.loss(raw(grids), objects(box(50, 34, width, height), labels=(0,)))
    loss["box"].backward()  # type: ignore[no-untyped-call]
    for number, outputs in enumerate(grids):
        touched = torch.zeros(1) if outputs.grad is None else outputs.grad.abs().sum(2)
        cell = 32 >> number
        expected = [[0, anchor, 34 // cell, 50 // cell]] if number == grid else []
        assert touched.nonzero().tolist() == expected


def test_a_perfect_answer_costs_nothing(tiny: YoloV3) -> None:
    grids = silent()
    grids[1][0, 0, :, 2, 3] = torch.tensor([math.log(3), 0.0, 0.0, 0.0, SURE, NEVER, SURE, NEVER])
    terms = tiny.loss(raw(grids), objects(box(3.75 * 16, 2.5 * 16, 14, 20), labels=(1,)))
    assert terms.keys() == {"box", "object", "no_object", "class"}
    assert all(float(term) == pytest.approx(0.0, abs=1e-6) for term in terms.values()), terms


def test_each_term_by_hand(tiny: YoloV3) -> None:
    grids = silent()
    grids[1][0, 0, :, 2, 3] = torch.tensor([0.0, 0.0, 0.2, 0.0, 0.0, 0.0, math.log(3), 0.0])
    grids[0][0, 1, 4, 0, 0] = math.log(3)
    grids[2][0, 0, 4, 0, 0] = 0.0
    found = tiny.loss(raw(grids), objects(box(3.75 * 16, 2.5 * 16, 14, 20), labels=(1,)))
    # Cross-entropy of 1/2 where 3/4 is right, less that of 3/4 itself.
    place = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    expected = {
        "box": (2 - 14 * 20 / (64 * 96)) * (place + 0.5 * 0.2**2),
        "object": math.log(2),
        "class": 2 * math.log(2) + math.log(4 / 3),
        "no_object": math.log(4) + math.log(2),
    }
    assert {name: float(term) for name, term in found.items()} == pytest.approx(expected, abs=1e-5)


def test_classes_do_not_exclude_each_other(tiny: YoloV3) -> None:
    grids = silent()
    grids[0][0, 1, 4:, 1, 2] = torch.tensor([SURE, SURE, 0.0, NEVER])
    _, scores = tiny.predictions(raw(grids))
    place = 1 * 6 + 1 * 3 + 2
    torch.testing.assert_close(scores[0, place], torch.tensor([1.0, 0.5, 0.0]))
    assert float(scores.sum()) == pytest.approx(1.5)


def test_a_box_near_an_object_that_is_not_its_own_is_left_alone(tiny: YoloV3) -> None:
    grids = silent()
    grids[2][0, 1, :, 4, 6] = 0.0  # 9 x 7 around (52, 36), grown to the object's size
    grids[2][0, 1, 2:4, 4, 6] = torch.tensor([math.log(14 / 9), math.log(20 / 7)])
    near = tiny.loss(raw(grids), objects(box(52, 37, 14, 20), labels=(0,)))
    assert float(near["no_object"]) == pytest.approx(0.0, abs=1e-6)
    far = tiny.loss(raw(grids), objects(box(52, 41, 14, 20), labels=(0,)))  # IoU 0.6
    assert float(far["no_object"]) == pytest.approx(math.log(2), abs=1e-6)


def test_it_starts_sure_of_a_hundredth(tiny: YoloV3) -> None:
    for head in tiny.heads:
        bias = head.get_parameter("output.bias").detach().view(2, OUTPUTS)
        torch.testing.assert_close(bias[:, 4].sigmoid(), torch.full((2,), 0.01))


@pytest.mark.parametrize("changes", [{"depths": (3, 2)}, {"anchors": yolo_v3.TINY.anchors[:5]}])
def test_grids_need_a_depth_and_anchors_each(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give one width and depth a grid"):
        msgspec.structs.replace(yolo_v3.TINY, **changes)
