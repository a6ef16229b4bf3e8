"""Maps of a layer in numbers and as a sheet."""

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate.errors import UnknownName, UsageError
from striate.explain._sheet import Tile, enlarged, sheet, shrunk
from striate.explain.colours import NOT_FINITE, Scale
from striate.explain.feature_maps import FeatureMaps, feature_maps
from striate.explain.recording import record


class Three(nn.Module):
    """Maps that are the picture, its negative cut off at 0, and half of it below a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 3, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        made: Tensor = self.fc(self.relu(self.maps(pixels)).mean((2, 3)))
        return made


PIXELS = torch.tensor([[[[0.0, 0.0, 1.0], [2.0, 3.0, 0.0]]]])


def maps_of(call: str, **asked: object) -> FeatureMaps:
    return feature_maps(record(Three(), PIXELS, wanted=lambda _: True), call, **asked)  # type: ignore[arg-type]


def test_each_channel_has_its_numbers() -> None:
    found = maps_of("relu")
    first, second, third = found.channels
    assert (first.least, first.mean, first.largest) == (0.0, 1.0, 3.0)
    assert first.energy == pytest.approx((14 / 6) ** 0.5)
    assert first.zeros == pytest.approx(0.5)
    assert second.is_dead
    assert not third.is_dead
    assert found.dead == (1,)
    assert "0 everywhere in this picture: 1 (1)" in list(found.lines())
    assert found.shape == (3, 2, 3)


def test_channels_stand_in_the_order_asked_for() -> None:
    orders = {
        sort: [own.index for own in maps_of("maps", sort=sort).channels] for sort in ("index", "energy")
    }
    assert orders == {"index": [0, 1, 2], "energy": [0, 1, 2]}
    assert [own.index for own in maps_of("relu", sort="energy").channels] == [0, 2, 1]
    assert [own.index for own in maps_of("relu", sort="sparsity").channels] == [1, 0, 2]


def test_a_dead_map_is_marked_and_one_scale_or_many_are_told() -> None:
    own, shared = maps_of("relu"), maps_of("relu", scale="layer")
    assert own.sheet.shape[2] == 3
    assert own.sheet.dtype == np.uint8
    # On the layer's scale the third map is half as bright as the first; on its own it is as bright.
    yellow = np.array([253, 231, 37])
    count = [int((found.sheet == yellow).all(2).sum()) for found in (own, shared)]
    assert count[0] > count[1] > 0
    orange = np.array([240, 170, 70])
    assert (own.sheet == orange).all(2).any()


def test_a_linear_layer_has_maps_of_one_place() -> None:
    assert maps_of("fc").shape == (2, 1, 1)


def test_what_was_not_kept_or_is_no_map_is_refused() -> None:
    recording = record(Three(), PIXELS, wanted=lambda name: name == "maps")
    with pytest.raises(UsageError, match="its values were not kept"):
        feature_maps(recording, "fc")
    with pytest.raises(UnknownName, match="did you mean"):
        feature_maps(recording, "map")
    with pytest.raises(UsageError, match="sort by index, energy or sparsity"):
        feature_maps(recording, "maps", "size")  # type: ignore[arg-type]
    two = record(Three(), PIXELS.repeat(2, 1, 1, 1), wanted=lambda _: True)
    with pytest.raises(UsageError, match="no maps of one picture"):
        feature_maps(two, "maps")


def test_values_that_are_no_numbers_are_counted_and_seen() -> None:
    broken = PIXELS.clone()
    broken[0, 0, 0, 0] = float("nan")
    found = feature_maps(record(Three(), broken, wanted=lambda _: True), "maps")
    assert found.not_finite == 3
    assert (found.sheet == np.array(NOT_FINITE)).all(2).any()
    assert b"NaN" not in msgspec.json.encode(found.to_dict())


def test_only_so_many_maps_are_drawn_and_the_rest_is_told() -> None:
    found = maps_of("maps", most=2)
    assert found.shown == 2
    assert len(found.channels) == 3


def test_a_scale_has_its_ends_and_its_middle() -> None:
    signed = Scale.of(np.array([-1.0, 4.0]))
    assert (signed.low, signed.high) == (-4.0, 4.0)
    assert signed(np.array([0.0])).tolist() == [[247, 247, 247]]
    plain = Scale.of(np.array([1.0, 4.0]))
    assert (plain.low, plain.high) == (0.0, 4.0)
    assert plain(np.array([0.0, 4.0, 9.0])).tolist() == [[68, 1, 84], [253, 231, 37], [253, 231, 37]]


def test_a_peak_survives_shrinking() -> None:
    values = np.zeros((5, 4))
    values[4, 3], values[0, 0] = -7.0, 3.0
    small, block = shrunk(values, 3)
    assert block == 2
    assert small.tolist() == [[3.0, 0.0], [0.0, 0.0], [0.0, -7.0]]


def test_small_pictures_grow_by_whole_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarged(pixels, 9)
    assert large.shape == (8, 8, 3)
    assert (large[:4, :4] == pixels[0, 0]).all()
    assert (large[4:, 4:] == pixels[1, 1]).all()


def test_a_name_in_any_script_is_written_without_an_error() -> None:
    tile = Tile(np.zeros((8, 8, 3), np.uint8), "ключ \u202e <b>")
    drawn = sheet([tile], ["título 題"], [("мера", Scale(-1.0, 1.0))])
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
