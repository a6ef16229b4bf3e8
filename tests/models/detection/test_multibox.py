import dataclasses
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import ssd as theirs
from torchvision.models.detection._utils import BoxCoder as TheirCoder
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from striate.errors import UsageError
from striate.models.detection import _multibox, ssd, ssdlite
from striate.models.detection._multibox import MultiBox, MultiBoxConfig, MultiBoxDetector, default_boxes
from striate.ops.matching import BACKGROUND, IGNORED
from striate.structures import BoxTargets, Preprocess

FORMS: dict[str, Callable[[], MultiBoxDetector]] = {
    "ssd": lambda: ssd.build(ssd.TINY),
    "ssdlite": lambda: ssdlite.build(ssdlite.TINY),
    "ssdlite-v3": lambda: ssdlite.build(ssdlite.TINIES["v3"]),
}
CPU = torch.device("cpu")


@pytest.fixture(params=FORMS)
def network(request: pytest.FixtureRequest) -> MultiBoxDetector:
    torch.manual_seed(0)
    return FORMS[request.param]()


def images(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8, generator=generator)


def truths(*pictures: list[list[float]], crowd: bool = False) -> BoxTargets[Tensor]:
    """Objects of classes 0, 1, 2, 0, ... with these boxes, a list a picture."""
    rows = max(1, *(len(boxes) for boxes in pictures))
    valid = torch.tensor([[row < len(boxes) for row in range(rows)] for boxes in pictures])
    padded = [[*boxes, *[[0.0] * 4] * (rows - len(boxes))] for boxes in pictures]
    labels = torch.where(valid, torch.arange(rows) % 3, 0)
    return BoxTargets(torch.tensor(padded), labels, valid, valid & crowd, torch.ones(len(pictures)))


# default boxes


def test_the_papers_300_pixels_have_its_8732_boxes() -> None:
    sides, per_cell = (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)
    boxes = default_boxes(ssd.VARIANTS["ssd300"], [(side, side) for side in sides], CPU)
    assert len(boxes) == 8732 == sum(side**2 * count for side, count in zip(sides, per_cell, strict=True))
    starts = [
        sum(side**2 * count for side, count in zip(sides[:m], per_cell, strict=False)) for m in range(6)
    ]
    # The published code's table: least and largest size, and pixels from cell to cell.
    least, largest = (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315)
    steps = (8, 16, 32, 64, 100, 300)
    for number, start in enumerate(starts):
        assert sizes_of(boxes[start]) == pytest.approx((least[number],) * 2, rel=1e-4)
        between = math.sqrt(least[number] * largest[number])
        assert sizes_of(boxes[start + 1]) == pytest.approx((between, between), rel=1e-4)
        root = math.sqrt(2)
        assert sizes_of(boxes[start + 2]) == pytest.approx(
            (least[number] * root, least[number] / root), rel=1e-4
        )
        assert sizes_of(boxes[start + 3]) == pytest.approx(
            (least[number] / root, least[number] * root), rel=1e-4
        )
        centre = (boxes[start, :2] + boxes[start, 2:]) / 2
        assert centre.tolist() == pytest.approx([steps[number] / 2] * 2, rel=1e-5)
        if number < 5:
            # The cell to the right comes next.
            step = boxes[start + per_cell[number]] - boxes[start]
            assert step.tolist() == pytest.approx([steps[number], 0, steps[number], 0], abs=1e-3)
    # Nothing is cut: the widest reach out of the picture.
    assert boxes.min() < 0
    assert boxes.max() > 300


def sizes_of(box: Tensor) -> list[float]:
    return (box[2:] - box[:2]).tolist()


def test_512_pixels_have_24564_boxes() -> None:
    sides = (64, 32, 16, 8, 4, 2, 1)
    boxes = default_boxes(ssd.VARIANTS["ssd512"], [(side, side) for side in sides], CPU)
    assert len(boxes) == 24564
    assert sizes_of(boxes[0]) == pytest.approx([35.84] * 2, rel=1e-4)
    assert sizes_of(boxes[-4]) == pytest.approx([460.8] * 2, rel=1e-4)
    assert sizes_of(boxes[-3]) == pytest.approx([512 * math.sqrt(0.9 * 1.05)] * 2, rel=1e-4)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [(8, 16, 24), (0, 0, 0)])
def test_default_boxes_equal_torchvisions_on_a_picture_of_unlike_sides(
    steps: tuple[int, ...], clip: bool
) -> None:
    config = msgspec.structs.replace(
        ssd.TINY,
        preprocess=Preprocess(size=(48, 80), fit="stretch"),
        extras=ssd.TINY.extras[:1],
        scales=(0.2, 0.5, 0.9, 1.1),
        ratios=((2,), (2, 3), (5,)),
        steps=steps,
        clip_sides=clip,
    )
    generator = theirs.DefaultBoxGenerator(
        [[2], [2, 3], [5]], scales=list(config.scales), steps=list(steps) if any(steps) else None, clip=clip
    )
    maps = [(6, 10), (3, 5), (2, 3)]
    pictures = ImageList(torch.zeros(1, 3, 48, 80), [(48, 80)])
    expected = generator(pictures, [torch.zeros(1, 1, *side) for side in maps])[0]
    torch.testing.assert_close(default_boxes(config, maps, CPU), expected, atol=1e-4, rtol=0)


def test_a_step_of_zero_spreads_the_cells_over_the_picture() -> None:
    boxes = default_boxes(ssd.TINY, [(8, 8), (4, 4), (2, 2), (3, 3)], CPU)[-36:]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[::4, 0].tolist() == pytest.approx([64 / 6, 32, 320 / 6] * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"scales": (0.1, 0.2)},
        {"steps": (8, 16)},
        {"ratios": ((2,),) * 5},
        {"extras": ()},
    ],
)
def test_settings_for_another_number_of_maps_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"they are for \d maps, and with the extras there are"):
        msgspec.structs.replace(ssd.TINY, **changes)


# matching


def test_every_object_has_a_default_box_however_small(network: MultiBoxDetector) -> None:
    raw = network.eval()(images(1))
    for box in ([31.0, 31, 32, 32], [0.0, 0, 64, 64], [62.0, 0, 64, 3]):
        assert (network.matched(raw.default_boxes, truths([box])) == 0).any(), box


def test_anchors_mostly_in_a_crowd_are_no_background_and_find_nothing(network: MultiBoxDetector) -> None:
    raw = network.eval()(images(1))
    matched = network.matched(raw.default_boxes, truths([[0.0, 0, 40, 64]], crowd=True))
    assert not (matched >= 0).any()
    boxes = raw.default_boxes
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    inside = (boxes[:, 2].clamp(max=40) - boxes[:, 0].clamp(min=0)).clamp(min=0)
    inside = inside * (boxes[:, 3].clamp(max=64) - boxes[:, 1].clamp(min=0)).clamp(min=0) / (width * height)
    assert torch.equal(matched[0] == IGNORED, inside > 0.5)
    assert (matched == BACKGROUND).any()


# loss


def random_raw(batch: int, seed: int = 3) -> tuple[ssd.SSD, MultiBox]:
    """A network, and outputs drawn at random for its default boxes."""
    torch.manual_seed(seed)
    network = ssd.build(ssd.TINY).eval()
    raw = network(images(1))
    shape = (batch, len(raw.default_boxes))
    return network, MultiBox(
        torch.randn(*shape, 4).requires_grad_(), torch.randn(*shape, 4).requires_grad_(), raw.default_boxes
    )


def test_loss_equals_torchvisions_where_every_picture_has_an_object() -> None:
    network, raw = random_raw(2)
    targets = truths([[3.0, 4, 30, 40], [20, 20, 50, 30], [1, 1, 6, 6]], [[10.0, 12, 60, 63]])
    reference = theirs.SSD.__new__(theirs.SSD)
    torch.nn.Module.__init__(reference)
    reference.box_coder, reference.neg_to_pos_ratio = TheirCoder((10.0, 10.0, 5.0, 5.0)), 3.0
    lists = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(targets.boxes, targets.labels, targets.valid, strict=True)
    ]
    matched = [SSDMatcher(0.5)(box_iou(each["boxes"], raw.default_boxes)) for each in lists]
    expected = reference.compute_loss(
        lists, {"bbox_regression": raw.offsets, "cls_logits": raw.logits}, [raw.default_boxes] * 2, matched
    )
    found = network.loss(raw, targets)
    torch.testing.assert_close(found["localisation"], expected["bbox_regression"])
    torch.testing.assert_close(found["confidence"], expected["classification"])


def test_loss_of_perfect_outputs_is_nearly_nothing() -> None:
    network, raw = random_raw(1)
    targets = truths([[3.0, 4, 30, 40], [20, 20, 50, 30]])
    matched = network.matched(raw.default_boxes, targets)[0]
    own = matched.clamp(min=0)
    offsets = _multibox._CODER.encode(targets.boxes[0, own], raw.default_boxes)
    labels = torch.where(matched >= 0, targets.labels[0, own] + 1, 0)
    logits = 50 * torch.nn.functional.one_hot(labels, 4).float()
    found = network.loss(MultiBox(offsets[None], logits[None], raw.default_boxes), targets)
    assert all(term < 1e-6 for term in found.values())
    boxes, scores = network.predictions(MultiBox(offsets[None], logits[None], raw.default_boxes))
    best = scores[0].amax(1) > 0.5
    assert torch.equal(best, matched >= 0)
    torch.testing.assert_close(boxes[0, best], targets.boxes[0, own[best]], atol=1e-3, rtol=0)


def test_what_anchors_mostly_in_a_crowd_say_does_not_count() -> None:
    network, raw = random_raw(1)
    targets = truths([[3.0, 4, 30, 40]], crowd=True)
    spared = network.matched(raw.default_boxes, targets)[0] == IGNORED
    assert spared.any()
    # The surest mistakes of all.
    loud = raw.logits.detach() + 50 * spared[:, None] * torch.tensor([0.0, 1, 0, 0])
    found = network.loss(MultiBox(raw.offsets, loud, raw.default_boxes), targets)["confidence"]
    each = -raw.logits.log_softmax(2)[0, ~spared, 0]
    torch.testing.assert_close(found, each.topk(3).values.sum())


def test_a_picture_without_objects_gives_three_boxes_of_background() -> None:
    network, raw = random_raw(1)
    found = network.loss(raw, truths([]))
    each = -raw.logits.log_softmax(2)[0, :, 0]
    torch.testing.assert_close(found["confidence"], each.topk(3).values.sum())
    assert found["localisation"] == 0


def part(raw: MultiBox, number: int) -> MultiBox:
    return MultiBox(raw.offsets[[number]], raw.logits[[number]], raw.default_boxes)


def rows(targets: BoxTargets[Tensor], number: int) -> BoxTargets[Tensor]:
    return targets.map(lambda tensor: tensor[[number]])


def test_pictures_count_by_their_weight() -> None:
    network, raw = random_raw(2)
    both = truths([[3.0, 4, 30, 40]], [[20.0, 20, 50, 30], [1, 1, 20, 20]])
    counts = (network.matched(raw.default_boxes, both) >= 0).sum(1)
    alone = [network.loss(part(raw, number), rows(both, number)) for number in range(2)]
    weighted = dataclasses.replace(both, weight=torch.tensor([1.0, 3.0]))
    for name, found in network.loss(raw, weighted).items():
        shares = torch.tensor([1.0, 3.0]) * counts
        expected = (alone[0][name] * shares[0] + alone[1][name] * shares[1]) / shares.sum()
        torch.testing.assert_close(found, expected)
    nothing = dataclasses.replace(both, weight=torch.zeros(2))
    assert all(term == 0 for term in network.loss(raw, nothing).values())


def test_classes_and_boxes_in_padded_rows_change_nothing() -> None:
    network, raw = random_raw(1)
    targets = truths([[3.0, 4, 30, 40]])
    padded = BoxTargets(
        torch.cat((targets.boxes, torch.tensor([[[0.0, 0, 64, 64]]])), 1),
        torch.tensor([[0, 2]]),
        torch.tensor([[True, False]]),
        torch.tensor([[False, False]]),
        targets.weight,
    )
    for name, term in network.loss(raw, targets).items():
        assert torch.equal(term, network.loss(raw, padded)[name])


MANY = [[float(x), float(y), x + 2.0, y + 1.5] for x in range(0, 60, 3) for y in range(0, 50, 2)]

HARD: dict[str, BoxTargets[Tensor]] = {
    "no boxes in one": truths([[3.0, 4, 30, 40]], []),
    "no boxes at all": truths([], []),
    "as large as the picture": truths([[0.0, 0, 64, 64]], []),
    "one pixel": truths([[63.0, 63, 64, 64]], [[0.0, 0, 1, 1]]),
    "five hundred": truths(MANY, MANY[:7]),
    "crowds alone": truths([[0.0, 0, 64, 64]], [[5.0, 5, 9, 9]], crowd=True),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_finite(network: MultiBoxDetector, case: str, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        terms = network.train().loss(network(images(2)), HARD[case])
    assert {name: term.dtype for name, term in terms.items()} == dict.fromkeys(terms, torch.float32)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(term.isfinite() for term in terms.values())
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_five_hundred_boxes_are_five_hundred() -> None:
    assert len(MANY) == 500


# decoding


def test_outputs_come_row_by_row_cell_by_cell_box_by_box() -> None:
    # Channel c of pixel (y, x) is 100 y + 10 x + c: of 2 boxes a cell with 3 values each.
    y, x, channel = torch.arange(2)[:, None], torch.arange(4), torch.arange(6)[:, None, None]
    outputs = (100 * y + 10 * x + channel).float()[None]
    found = _multibox._listed(outputs, 3)
    assert found[0, :4].tolist() == [[0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]]
    assert found[0, 8].tolist() == [100, 101, 102]


def test_decoded_boxes_lie_in_the_picture_and_scores_in_0_to_1(network: MultiBoxDetector) -> None:
    dense = network.eval().dense(images(2))
    assert dense["boxes"].min() >= 0
    assert dense["boxes"].max() <= 64
    assert ((dense["scores"] > 0) & (dense["scores"] < 1)).all()


def test_the_background_has_no_score(network: MultiBoxDetector) -> None:
    raw = network.eval()(images(1))
    _, scores = network.predictions(raw)
    assert scores.shape == (*raw.logits.shape[:2], 3)
    torch.testing.assert_close(1 - scores.sum(2), raw.logits.softmax(2)[..., 0])


class Dense(torch.nn.Module):
    def __init__(self, network: MultiBoxDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return self.network.dense(pictures)


@pytest.mark.parametrize("form", ["ssd", "ssdlite"])
def test_an_exported_network_takes_any_batch(form: str) -> None:
    torch.manual_seed(0)
    module = Dense(FORMS[form]().eval())
    program = torch.export.export(
        module, (images(3),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    ).module()
    for batch in (1, 2, 5):
        found, expected = program(images(batch)), module(images(batch))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)


def test_settings_are_those_of_the_published_code() -> None:
    config: MultiBoxConfig = ssd.VARIANTS["ssd300"]
    found = (
        config.per_class,
        config.score_threshold,
        config.nms_threshold,
        config.detections,
        config.negatives,
    )
    assert found == (400, 0.01, 0.45, 200, 3)
