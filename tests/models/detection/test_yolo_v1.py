"""YOLO against the paper's figure and equation 3, worked by hand on its own 7x7 grid."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.detection import yolo_v1
from striate.models.detection.yolo_v1 import Raw, YoloV1
from striate.structures import BoxTargets, Preprocess

CELLS, BOXES, CLASSES = 49, 2, 3
SIDE = 448  # 7 cells of 64 pixels


@pytest.fixture(scope="module")
def paper() -> YoloV1:
    """The paper's grid behind hardly a convolution: outputs are given by hand."""
    blocks: tuple[yolo_v1.Block, ...] = (((2, 1, 1),),) * 7
    spec = Preprocess(size=(SIDE, SIDE), fit="stretch")
    config = yolo_v1.Config(classes=CLASSES, preprocess=spec, blocks=blocks, hidden=0)
    return yolo_v1.build(config)


def outputs() -> Raw:
    """Nothing anywhere: no class, no confidence, boxes of no size at the cells' corners."""
    return Raw(torch.zeros(1, CELLS, CLASSES), torch.zeros(1, CELLS, BOXES), torch.zeros(1, CELLS, BOXES, 4))


def objects(*boxes: list[float], labels: tuple[int, ...], crowd: bool = False) -> BoxTargets[Tensor]:
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    return BoxTargets(torch.tensor([boxes]), torch.tensor([labels]), valid, valid & crowd, torch.ones(1))


# Centre (240, 272): column 3, row 4, a quarter from the top of the cell, three quarters from its left.
OBJECT = [240.0 - 56, 272 - 28, 240 + 56, 272 + 28]  # 112 x 56: a quarter and an eighth of the picture
CELL = 4 * 7 + 3
AIM = (0.75, 0.25, math.sqrt(1 / 4), math.sqrt(1 / 8))


@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    [
        ("yolo_v1", 60_155_968 + 211_547_582, 20.285),
        ("yolo_v1_bn", 271_703_550 + 13_184, 20.285),
        ("fast_yolo", 45_093_454, 2.419),
        ("tiny_yolo_v1", 27_095_374, 1.608),
    ],
)
def test_counts(counts: Callable[..., Any], name: str, parameters: int, giga: float) -> None:
    found = counts(name)
    assert found.parameters == parameters
    assert round(found.multiply_adds / 1e9, 3) == giga


@pytest.mark.parametrize(("name", "convolutions"), [("yolo_v1", 24), ("fast_yolo", 9)])
def test_convolutions_are_as_many_as_the_paper_says(name: str, convolutions: int) -> None:
    with torch.device("meta"):
        network = models.create(name)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions
    assert network.dense(torch.zeros(1, 3, 448, 448, device="meta"))["boxes"].shape == (1, 20 * 98, 4)


def test_a_perfect_answer_costs_nothing(paper: YoloV1) -> None:
    raw = outputs()
    raw.boxes[0, CELL, 1] = torch.tensor(AIM)
    raw.confidence[0, CELL, 1] = 1.0
    raw.classes[0, CELL, 2] = 1.0
    terms = paper.loss(raw, objects(OBJECT, labels=(2,)))
    assert all(float(term) == pytest.approx(0.0, abs=1e-9) for term in terms.values()), terms


def test_each_line_of_equation_3_by_hand(paper: YoloV1) -> None:
    raw = outputs()
    # Box 0 lies where the object is, twice as high; box 1 is as far as can be.
    raw.boxes[0, CELL, 0] = torch.tensor([0.75, 0.25, math.sqrt(1 / 4), math.sqrt(1 / 4)])
    raw.boxes[0, CELL, 1] = torch.tensor([0.0, 0.0, 0.1, 0.1])
    raw.boxes[0, CELL, 0, 0] += 0.25  # 16 pixels to the right
    raw.confidence[0, CELL] = torch.tensor([0.3, 0.2])
    raw.confidence[0, 0, 0] = 0.4
    raw.classes[0, CELL] = torch.tensor([0.1, 0.5, 0.7])
    raw.classes[0, 5] = 9.0  # a cell without an object says of classes what it likes
    terms = paper.loss(raw, objects(OBJECT, labels=(2,)))
    shared = (112 - 16) * 56
    iou = shared / (112 * 112 + 112 * 56 - shared)
    expected = {
        "place": 5 * 0.25**2,
        "size": 5 * (math.sqrt(1 / 4) - math.sqrt(1 / 8)) ** 2,
        "object": (0.3 - iou) ** 2,
        "no_object": 0.5 * (0.2**2 + 0.4**2),
        "class": 0.1**2 + 0.5**2 + 0.3**2,
    }
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)


def test_the_box_that_overlaps_more_is_responsible_and_learns_alone(paper: YoloV1) -> None:
    raw = outputs()
    raw.boxes[0, CELL, 0] = torch.tensor([0.75, 0.25, 0.3, 0.3])
    raw.boxes[0, CELL, 1] = torch.tensor([0.7, 0.3, 0.48, 0.36])
    raw.boxes.requires_grad_()
    sum(paper.loss(raw, objects(OBJECT, labels=(0,))).values()).backward()  # type: ignore[union-attr]
    assert raw.boxes.grad is not None
    assert raw.boxes.grad[0, CELL, 1].all()
    assert int(raw.boxes.grad.count_nonzero()) == 4


def test_without_any_overlap_the_nearest_box_is_responsible(paper: YoloV1) -> None:
    raw = outputs()
    raw.boxes[0, CELL, 1, :2] = torch.tensor([0.75, 0.25])  # in the middle of the object, without a size
    terms = paper.loss(raw, objects(OBJECT, labels=(0,)))
    assert float(terms["place"]) == 0.0
    assert float(terms["size"]) == pytest.approx(5 * (1 / 4 + 1 / 8))
    assert float(terms["object"]) == 0.0


def test_of_two_objects_in_a_cell_the_first_one_counts(paper: YoloV1) -> None:
    raw = outputs()
    raw.boxes[0, CELL, 1] = torch.tensor(AIM)
    raw.confidence[0, CELL, 1] = raw.classes[0, CELL, 2] = 1.0
    near = [OBJECT[0] + 2, OBJECT[1] + 2, OBJECT[2] + 2, OBJECT[3] + 2]
    assert float(sum(paper.loss(raw, objects(OBJECT, near, labels=(2, 1))).values())) < 1e-9
    assert float(sum(paper.loss(raw, objects(near, OBJECT, labels=(1, 2))).values())) > 1


def test_cells_in_a_crowd_need_not_be_silent_and_others_must(paper: YoloV1) -> None:
    raw = outputs()
    raw.confidence[0, CELL] = 1.0
    crowd = [3 * 64.0, 4 * 64.0, 4 * 64.0, 5 * 64.0]
    terms = paper.loss(raw, objects(crowd, labels=(0,), crowd=True))
    assert {name: float(term) for name, term in terms.items()} == dict.fromkeys(terms, 0.0)
    beside = paper.loss(raw, objects([64.0, 64, 128, 128], labels=(0,), crowd=True))
    assert float(beside["no_object"]) == pytest.approx(0.5 * 2)


def test_the_loss_is_a_mean_over_pictures_by_weight(paper: YoloV1) -> None:
    silent, loud = outputs(), outputs()
    loud.confidence[0, 7, 0] = 1.0
    raw = Raw(*(torch.cat(pair) for pair in zip(silent, loud, strict=True)))
    nothing = BoxTargets(
        torch.zeros(2, 1, 4),
        torch.zeros(2, 1, dtype=torch.int64),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.tensor([1.0, 3.0]),
    )
    assert float(paper.loss(raw, nothing)["no_object"]) == pytest.approx(0.5 * 3 / 4)
    equal = replace(nothing, weight=torch.ones(2))
    assert float(paper.loss(raw, equal)["no_object"]) == pytest.approx(0.5 / 2)


def test_a_score_is_the_probability_of_the_class_times_the_confidence(paper: YoloV1) -> None:
    raw = outputs()
    raw.boxes[0, CELL, 1] = torch.tensor(AIM)
    raw.confidence[0, CELL] = torch.tensor([0.5, 0.9])
    raw.classes[0, CELL] = torch.tensor([0.2, 0.5, 1.7])  # nothing keeps an output below 1 but the loss
    boxes, scores = paper.predictions(raw)
    assert boxes.shape == (1, 98, 4)
    assert scores.shape == (1, 98, 3)
    torch.testing.assert_close(boxes[0, 2 * CELL + 1], torch.tensor(OBJECT))
    torch.testing.assert_close(scores[0, 2 * CELL], torch.tensor([0.1, 0.25, 0.5]))
    torch.testing.assert_close(scores[0, 2 * CELL + 1], torch.tensor([0.18, 0.45, 0.9]))


def test_rows_and_columns_are_told_apart_where_pictures_are_not_square() -> None:
    network = yolo_v1.build(yolo_v1.TINY).eval()  # 64 x 96 pixels, cells of 16
    assert network.config.grid == (4, 6)
    raw = Raw(torch.zeros(1, 24, 3), torch.zeros(1, 24, 2), torch.full((1, 24, 2, 4), 0.5))
    boxes, _ = network.predictions(raw)
    middle, half = torch.tensor([88.0, 24.0]), torch.tensor([12.0, 8.0])
    torch.testing.assert_close(boxes[0, 2 * 11], torch.cat((middle - half, middle + half)))


def test_outputs_are_in_darknets_order_classes_then_confidences_then_boxes() -> None:
    network = yolo_v1.build(yolo_v1.TINY).eval()
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(torch.arange(len(network.output.bias), dtype=torch.float32))
    raw = network(torch.zeros(1, 3, 64, 96))
    assert raw.classes[0, 1].tolist() == [3, 4, 5]
    assert raw.confidence[0, 0].tolist() == [72, 73]
    assert raw.boxes[0, 0].tolist() == [[120, 121, 122, 123], [124, 125, 126, 127]]


def test_boxes_start_in_the_middle_of_their_cells_a_quarter_of_the_picture_wide() -> None:
    network = yolo_v1.build(yolo_v1.TINY).eval()
    with torch.no_grad():
        raw = network(torch.zeros(1, 3, 64, 96))
    assert float((raw.boxes - 0.5).abs().max()) < 0.1
    assert float(raw.confidence.abs().max()) < 0.1


@pytest.mark.parametrize(("size", "words"), [((64, 100), "multiples of 16, got 64x100"), ((8, 8), "got 8x8")])
def test_a_size_without_whole_cells_is_refused(size: tuple[int, int], words: str) -> None:
    config = msgspec.structs.replace(yolo_v1.TINY, preprocess=replace(yolo_v1.TINY.preprocess, size=size))
    with pytest.raises(UsageError, match=words):
        yolo_v1.build(config)


def test_fully_connected_layers_take_one_size_alone() -> None:
    with pytest.raises(UsageError, match="takes pictures of 64x96, got 128x96"):
        yolo_v1.build(yolo_v1.TINY)(torch.zeros(1, 3, 128, 96))
