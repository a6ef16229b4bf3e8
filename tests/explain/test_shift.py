"""Answers to a moved picture."""

from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.explain.shift import Shift, Subject, moved, shift
from striate.models.network import (
    Classifier,
    Detector,
    DetectorConfig,
    Logits,
    NetworkConfig,
    PixelLogits,
    Segmenter,
    SegmenterConfig,
)
from striate.structures import Preprocess

GRAY = Preprocess(size=(12, 12), color="gray", scale=1.0, mean=(0.0,), std=(1.0,))


class Summing(Classifier):
    """Says "bright" by the sum of the pixels, or by that of the left half alone."""

    def __init__(self, only_left: bool) -> None:
        super().__init__(NetworkConfig(classes=("dark", "bright"), preprocess=GRAY))
        self.only_left = only_left
        self.scale = nn.Parameter(torch.ones(1))

    def features(self, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        values = self.normalize(images)[..., :6] if self.only_left else self.normalize(images)
        return Logits(self.scale * (values.sum((1, 2, 3))[:, None] / 255 - 2.0))


class Brightest(Detector):
    """A box of 4x4 around the brightest pixel."""

    def __init__(self, stays: bool) -> None:
        super().__init__(DetectorConfig(classes=("spot",), preprocess=GRAY, per_class=1))
        self.stays = stays
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, **extras: Tensor) -> Any:  # noqa: ARG002
        values = self.normalize(images)[0, 0]
        row, column = divmod(int(values.argmax()), values.shape[1])
        if self.stays:
            row, column = 6, 6
        box = [column - 2.0, row - 2.0, column + 2.0, row + 2.0]
        return torch.tensor([[box]]), torch.full((1, 1, 1), 0.9) * self.scale

    def loss(self, raw: Any, targets: Any) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def predictions(self, raw: Any) -> tuple[Tensor, Tensor]:
        boxes, scores = raw
        return boxes, scores


class PixelByPixel(Segmenter):
    """Each pixel's class by its own value; or by where it lies."""

    def __init__(self, by_place: bool) -> None:
        super().__init__(SegmenterConfig(classes=("dark", "bright"), preprocess=GRAY))
        self.by_place = by_place
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, **extras: Tensor) -> PixelLogits:  # noqa: ARG002
        values = self.normalize(images) - 127
        if self.by_place:
            values = torch.arange(12.0).view(1, 1, 1, 12).expand_as(values) - 5.5
        return PixelLogits(torch.cat((-values, values), 1) * self.scale)


def spot() -> Tensor:
    images = torch.zeros(1, 1, 12, 12, dtype=torch.uint8)
    images[0, 0, 5:7, 5:7] = 255
    images[0, 0, 6, 6] = 254
    return images


def measured(network: Any, shifts: Any = range(-4, 5), axis: Any = "x") -> Shift:
    return shift({"it": Subject(network.eval(), spot())}, shifts, axis)


def test_the_border_is_repeated_where_the_picture_moves_in() -> None:
    row = torch.tensor([[[[1, 2, 3, 4]]]])
    assert moved(row, 2, "x").flatten().tolist() == [1, 1, 1, 2]
    assert moved(row, -1, "x").flatten().tolist() == [2, 3, 4, 4]
    assert moved(row.transpose(2, 3), 1, "y").flatten().tolist() == [1, 1, 2, 3]


def test_what_adds_all_pixels_up_gives_a_flat_line() -> None:
    (curve,) = measured(Summing(only_left=False)).curves
    assert curve.measure == "probability of bright"
    assert max(curve.values) - min(curve.values) < 1e-6
    assert curve.kept == (True,) * 9


def test_what_looks_at_one_half_changes_its_mind() -> None:
    (curve,) = measured(Summing(only_left=True)).curves
    # In place a column of two bright pixels is in the left half: 2 - 2 = 0, bright is not above dark.
    assert curve.measure == "probability of dark"
    assert curve.values[4] == pytest.approx(0.5, abs=2e-3)
    assert curve.values[0] < 0.2
    assert curve.kept is not None
    assert not curve.kept[0]
    assert curve.kept[8]


def test_a_box_that_goes_along_is_found_and_one_that_stays_is_not() -> None:
    (follows,) = measured(Brightest(stays=False)).curves
    (stays,) = measured(Brightest(stays=True)).curves
    assert follows.values == (1.0,) * 9
    # Moved by 2 of 4 pixels a third of the union is shared.
    assert stays.values[4 + 2] == pytest.approx(1 / 3)
    assert stays.values[4 - 4] == 0.0
    assert stays.kept is not None
    assert [*stays.kept] == [abs(step) <= 1 for step in range(-4, 5)]
    assert follows.measure == "best IoU with the box of spot (0.90)"


def test_a_mask_is_compared_where_both_see_it() -> None:
    (own,) = measured(PixelByPixel(by_place=False), axis="y").curves
    (place,) = measured(PixelByPixel(by_place=True)).curves
    assert own.values == (1.0,) * 9
    assert own.kept is None
    # Of the 10 columns that both have after a move by 2, the two at the middle change sides.
    assert place.values[4 + 2] == pytest.approx(8 / 10)


def test_a_shift_out_of_the_picture_and_nothing_found_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"the input of it has 12 pixels that way. fix: shift by less than 12"
    ):
        measured(Summing(only_left=False), [12])
    blind = Brightest(stays=True)
    with torch.no_grad():
        blind.scale.fill_(0.0)
    with pytest.raises(UsageError, match="it finds nothing in the picture"):
        measured(blind)
    with pytest.raises(UsageError, match="1 networks, 0 shifts"):
        measured(Summing(only_left=False), [])


def test_several_networks_share_a_chart_and_a_table() -> None:
    subjects = {
        name: Subject(network.eval(), spot())
        for name, network in (("all <b>", Summing(False)), ("left", Summing(True)))
    }
    found = shift(subjects)
    assert found.shifts == tuple(range(-8, 9))
    svg = found.svg()
    assert svg.count('<path d="M') >= 4
    assert "all &lt;b&gt;: probability of bright" in svg
    assert "<b>" not in svg
    assert "<script" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    lines = list(found.lines())
    assert lines[0].endswith("its outermost pixels are repeated")
    assert lines[2].startswith("   -8")
    assert msgspec.json.decode(msgspec.json.encode(found.to_dict()))["shifts"] == list(range(-8, 9))


def test_proposals_move_along() -> None:
    family = models.families()["fast_rcnn"]
    torch.manual_seed(0)
    network = family.build(family.TINY).eval()
    height, width = network.preprocess.size
    images = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(0))
    extras = network.blank_extras(images.float())
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, __, given: seen.append(given["proposals"]), with_kwargs=True)
    shift({"it": Subject(network, images.to(torch.uint8), extras)}, [3])
    assert seen[-1][0, 0].tolist() == [3.0, 0.0, float(width), float(height)]
