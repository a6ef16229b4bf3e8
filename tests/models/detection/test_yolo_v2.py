"""YOLO v2: published sizes, boxes and the loss by hand on a small grid."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from striate import models
from striate.errors import UsageError
from striate.models.detection import yolo_v2
from striate.models.detection.yolo_v2 import Raw, YoloV2
from striate.models.unweighted import unweighted
from striate.structures import BoxTargets

# TINY: 3 classes on 64 x 96 pixels, 2 x 3 cells, anchors 16 x 16, 32 x 22.4 and 48 x 57.6 pixels.
ROWS, COLUMNS, OUTPUTS = 2, 3, 8
SURE, NEVER = 50.0, -50.0


@pytest.fixture(scope="module")
def tiny() -> YoloV2:
    torch.manual_seed(0)
    return yolo_v2.build(yolo_v2.TINY).eval()


def silent() -> Tensor:
    """Outputs (1, anchors, 8, rows, columns) that find nothing: anchors in the cells' middle."""
    outputs = torch.zeros(1, 3, OUTPUTS, ROWS, COLUMNS)
    outputs[:, :, 4] = NEVER
    return outputs


def raw(outputs: Tensor) -> Raw:
    return Raw(outputs.flatten(1, 2))


def objects(*boxes: list[float], labels: tuple[int, ...], crowd: bool = False) -> BoxTargets[Tensor]:
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    return BoxTargets(torch.tensor([boxes]), torch.tensor([labels]), valid, valid & crowd, torch.ones(1))


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    [
        ("yolo_v2", 50_655_389, 14.680),
        ("yolo_v2_coco", 50_962_889, 14.732),
        ("tiny_yolo_v2", 15_861_773, 3.486),
        ("yolo_v2_mobilenet_v2", 3_470_013, 1.245),
    ],
)
def test_counts_at_416(counts: Callable[..., Any], name: str, parameters: int, giga: float) -> None:
    found = counts(name)
    assert (found.parameters, round(found.multiply_adds / 1e9, 3)) == (parameters, giga)


def test_multiply_adds_at_608(counts: Callable[..., Any]) -> None:
    assert round(counts("yolo_v2_coco", (608, 608)).multiply_adds / 1e9, 2) == 31.47


def test_a_box_is_an_anchor_moved_within_its_cell_and_grown(tiny: YoloV2) -> None:
    outputs = silent()
    # Anchor 1, row 1, column 2; sigmoid(log 3) = 3/4, and a side twice or half as long.
    outputs[0, 1, :, 1, 2] = torch.tensor([math.log(3), 0.0, math.log(2), -math.log(2), 0.0, 1.0, 2.0, 3.0])
    boxes, scores = tiny.predictions(raw(outputs))
    assert boxes.shape == (1, 18, 4)
    place = 1 * 6 + 1 * 3 + 2
    expected = box(2.75 * 32, 1.5 * 32, 64, 11.2)
    torch.testing.assert_close(boxes[0, place], torch.tensor(expected))
    torch.testing.assert_close(scores[0, place], 0.5 * torch.softmax(torch.tensor([1.0, 2.0, 3.0]), 0))
    torch.testing.assert_close(boxes[0, 2 * 6], torch.tensor(box(16, 16, 48, 57.6)))


def test_a_perfect_answer_costs_nothing(tiny: YoloV2) -> None:
    outputs = silent()
    outputs[0, 1, :, 1, 2] = torch.tensor([0.0, 0.0, 0.0, 0.0, SURE, NEVER, SURE, NEVER])
    terms = tiny.loss(raw(outputs), objects(box(80, 48, 32, 22.4), labels=(1,)))
    assert terms.keys() == {"box", "object", "no_object", "class"}
    assert all(float(term) == pytest.approx(0.0, abs=1e-9) for term in terms.values()), terms


def test_each_term_by_hand(tiny: YoloV2) -> None:
    outputs = silent()
    outputs[0, 1, :, 1, 2] = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    outputs[0, 0, 4, 0, 0] = math.log(3)  # the anchor of 16 x 16 in the first cell claims 3/4
    # 8 pixels right of the middle of the cell, a tenth wider than anchor 1.
    found = tiny.loss(raw(outputs), objects(box(88, 48, 32 * 1.1, 22.4), labels=(2,)))
    shared = (80 + 16 - (88 - 17.6)) * 22.4
    iou = shared / (32 * 22.4 + 35.2 * 22.4 - shared)
    expected = {
        "box": 0.5 * (2 - 35.2 * 22.4 / (64 * 96)) * (0.25**2 + math.log(1.1) ** 2),
        "object": 0.5 * 5 * (0.5 - iou) ** 2,
        "no_object": 0.5 * 0.75**2,
        "class": math.log(3),
    }
    assert {name: float(term) for name, term in found.items()} == pytest.approx(expected, abs=1e-6)


def test_an_object_belongs_to_the_anchor_of_its_shape_wherever_boxes_lie(tiny: YoloV2) -> None:
    outputs = silent().requires_grad_()
    loss = tiny.loss(raw(outputs), objects(box(40, 20, 50, 50), labels=(0,)))
    loss["box"].backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    touched = outputs.grad.abs().sum(2).nonzero().tolist()
    assert touched == [[0, 2, 0, 1]]  # the largest anchor, row 0, column 1


def test_a_box_near_an_object_that_is_not_its_own_is_left_alone(tiny: YoloV2) -> None:
    outputs = silent()
    outputs[0, 1, 4, 0, 0] = 0.0  # anchor 1 in the first cell, moved onto the object next to it
    outputs[0, 1, 0, 0, 0] = 9.0
    outputs[0, 1, :2, 0, 1] = 0.0
    truth = objects(box(38, 16, 32, 22.4), labels=(0,))
    assert float(tiny.loss(raw(outputs), truth)["no_object"]) == pytest.approx(0.0, abs=1e-6)
    outputs[0, 1, 0, 0, 0] = -9.0  # and where it overlaps it by less than 0.6
    assert float(tiny.loss(raw(outputs), truth)["no_object"]) == pytest.approx(0.5 * 0.25, abs=1e-4)


def test_boxes_in_a_crowd_are_left_alone(tiny: YoloV2) -> None:
    outputs = silent()
    outputs[0, 0, 4, 0, 0] = 0.0
    inside = tiny.loss(raw(outputs), objects([0.0, 0.0, 30.0, 30.0], labels=(0,), crowd=True))
    assert {name: float(term) for name, term in inside.items()} == pytest.approx(dict.fromkeys(inside, 0.0))
    outside = tiny.loss(raw(outputs), objects([60.0, 30.0, 96.0, 64.0], labels=(0,), crowd=True))
    assert float(outside["no_object"]) == pytest.approx(0.5 * 0.25)


def test_wild_outputs_mean_finite_boxes(tiny: YoloV2) -> None:
    boxes, scores = tiny.predictions(raw(torch.full((1, 3, OUTPUTS, ROWS, COLUMNS), 1e4)))
    assert boxes.isfinite().all()
    assert scores.isfinite().all()


def test_it_starts_sure_of_a_tenth() -> None:
    network = yolo_v2.build(yolo_v2.TINY)
    bias = network.output.get_parameter("bias").detach().view(3, OUTPUTS)
    torch.testing.assert_close(bias[:, 4].sigmoid(), torch.full((3,), 0.1))
    assert not bias[:, [0, 1, 2, 3, 5, 6, 7]].any()


def test_the_passthrough_has_the_papers_sizes() -> None:
    with unweighted():
        network = models.create("yolo_v2")
        assert isinstance(network, YoloV2)
        assert network.merge is not None
        assert network.passthrough is not None
    assert network.merge.get_parameter("conv.weight").shape == (1024, 4 * 64 + 1024, 3, 3)
    assert network.passthrough.get_parameter("conv.weight").shape == (64, 512, 1, 1)
    assert (network.fine, network.coarse) == ("stage5", "stage6")


def test_folded_maps_come_first_as_in_darknets_weights() -> None:
    network = yolo_v2.build(yolo_v2.TINY).eval()
    assert network.passthrough is not None
    assert network.merge is not None
    seen: list[Tensor] = []
    network.merge.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.passthrough.get_parameter("norm.weight").zero_()
        network.passthrough.get_parameter("norm.bias").fill_(7.0)
        network(torch.zeros(1, 3, 64, 96))
    assert seen[0].shape[1] == 4 * 8 + 32
    assert (seen[0][:, : 4 * 8] == 7).all()
    assert not (seen[0][:, 4 * 8 :] == 7).any()


def test_the_tiny_form_has_no_passthrough() -> None:
    network = yolo_v2.build(yolo_v2.TINIES["pooled"])
    assert network.passthrough is None
    assert network.merge is None


@pytest.mark.parametrize("changes", [{"passthrough": 0}, {"merge": 0}])
def test_a_passthrough_and_its_merge_go_together(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="does not go with a passthrough of"):
        msgspec.structs.replace(yolo_v2.TINY, **changes)


def test_a_passthrough_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.passthrough: 6 is no multiple of 4"):
        msgspec.structs.replace(yolo_v2.TINY, passthrough=6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "mlp"}, "'mlp' is no encoder"),
        ({"backbone": "resnet20_cifar"}, "not what resnet20_cifar has maps at"),
        ({"backbone_settings": {"classes": 7}}, r"backbone_settings\.classes"),
        ({"preprocess": {"size": [416, 400]}}, "multiples of 32, got 416x400"),
    ],
)
def test_settings_that_make_no_network_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        models.create("yolo_v2", **changes)
