"""The box that a place may see and the pixels that it does see."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UnknownName, UsageError
from striate.explain._live import live_pass
from striate.explain.field_on_picture import FieldOnPicture, field_on_picture
from striate.explain.receptive_field import Status
from striate.models.network import Network


def tiny(family: str, form: str) -> Network:
    module = models.families()[family]
    torch.manual_seed(0)
    network: Network = module.build(module.TINY if form == "tiny" else module.TINIES[form])
    return network.eval()


FORMS = [
    (name, form)
    for name, family in models.families().items()
    for form in ("tiny", *getattr(family, "TINIES", {}))
]


def pixels_of(network: Network) -> Tensor:
    shape = (1, network.preprocess.channels, *network.preprocess.size)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def mask_is_inside(found: FieldOnPicture) -> bool:
    y0, x0, y1, x1 = found.box
    outside = found.mask.copy()
    outside[y0:y1, x0:x1] = False
    return not outside.any()


@pytest.mark.parametrize(("family", "form"), FORMS, ids=["-".join(form) for form in FORMS])
def test_what_is_seen_lies_in_the_box_on_every_family(family: str, form: str) -> None:
    network = tiny(family, form)
    images = pixels_of(network)
    extras: dict[str, Any] = network.blank_extras(images.float())
    calls = [
        call
        for call in live_pass(network, images, extras).calls
        if call.output.ndim == 4
        and call.output.shape[0] == 1
        and call.output.shape[2:].numel() > 1
        and "Sweep" not in call.kind  # (1, rows, columns, channels)
    ]
    chance = np.random.default_rng(0)
    call = calls[int(chance.integers(len(calls)))]
    height, width = call.output.shape[2:]
    for y, x in ((0, 0), (int(chance.integers(height)), int(chance.integers(width)))):
        found = field_on_picture(network, images, call.name, y, x, **extras)
        assert mask_is_inside(found), f"{call.name} {y} {x}: {found.box}"


def stack(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers)


EXACT: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int, int], str, tuple[int, int]]] = {
    # network, its box by hand, the call, the place
    "3x3 at stride 2 twice": (
        lambda: stack(nn.Conv2d(1, 2, 3, 2), nn.Conv2d(2, 2, 3, 2)),
        (4, 8, 11, 15),  # 2 (2 y) = 4, and 3 + 2 (3 - 1) = 7 pixels
        "1",
        (1, 2),
    ),
    "cut off by the border": (
        lambda: stack(nn.Conv2d(1, 2, 5, padding=2)),
        (0, 0, 3, 4),
        "0",
        (0, 1),
    ),
    "dilated": (
        lambda: stack(nn.Conv2d(1, 2, (3, 1), dilation=(2, 1)), nn.Conv2d(2, 2, (3, 1))),
        (3, 4, 10, 5),
        "1",
        (3, 4),
    ),
    "mean pooled": (
        lambda: stack(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)),
        (2, 4, 6, 8),
        "1",
        (1, 2),
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_where_it_is_exact_all_of_the_box_is_seen(
    name: str, see_through: Callable[[nn.Module], nn.Module]
) -> None:
    build, box, call, (y, x) = EXACT[name]
    found = field_on_picture(see_through(build()), torch.ones(1, 1, 19, 23), call, y, x)
    assert (found.box, found.status) == (box, Status.EXACT)
    y0, x0, y1, x1 = box
    expected = np.zeros((19, 23), np.bool_)
    expected[y0:y1, x0:x1] = True
    if name == "dilated":  # rows that the first kernel leaves out are met by the second
        assert found.mask[y0:y1].all(axis=0)[4]
    np.testing.assert_array_equal(found.mask, expected)
    assert found.share == 1.0


CLEAR = (
    "resnet-basic",
    "vgg-tiny",
    "mobilenet_v1-tiny",
    "simple_cnn-tiny",
    "darknet-tiny",
    "shufflenet_v2-tiny",
)


@pytest.mark.parametrize("name", CLEAR)
def test_all_of_an_exact_box_is_seen_with_weights_that_cancel_nothing(
    name: str, see_through: Callable[[nn.Module], nn.Module]
) -> None:
    family, _, form = name.partition("-")
    network = see_through(tiny(family, form))
    images = pixels_of(network)  # type: ignore[arg-type]
    maps = [
        call
        for call in live_pass(network, images).calls
        if call.output.ndim == 4 and call.output.shape[2:].numel() > 1
    ]
    checked = 0
    for call in maps[:: max(1, len(maps) // 4)]:
        height, width = call.output.shape[2:]
        found = field_on_picture(network, images, call.name, height // 2, width // 2)
        if found.status is Status.EXACT:
            y0, x0, y1, x1 = found.box
            assert found.mask[y0:y1, x0:x1].all(), call.name
            assert int(found.mask.sum()) == (y1 - y0) * (x1 - x0), call.name
            checked += 1
    assert checked >= 2


def test_a_rectifier_that_gives_nothing_sees_nothing() -> None:
    module = stack(nn.Conv2d(1, 1, 3), nn.ReLU())
    with torch.no_grad():
        module[0].weight.fill_(-1.0)
        module[0].bias.fill_(0.0)
    found = field_on_picture(module, torch.ones(1, 1, 8, 8), "1", 2, 2)
    assert not found.mask.any()
    assert found.box == (2, 2, 5, 5)
    assert "sees 0 pixels" in list(found.lines())[2]


def test_padding_that_mirrors_the_picture_shows_what_is_within() -> None:
    module = stack(nn.Conv2d(1, 1, 3, padding=3, padding_mode="reflect"))
    corner = field_on_picture(module, torch.ones(1, 1, 8, 8), "0", 0, 4)
    # Rows -3 to -1 are rows 3 to 1, none of which sizes and strides alone would name.
    assert (corner.box, corner.status) == ((0, 1, 8, 4), Status.UPPER_BOUND)
    assert sorted(set(corner.mask.nonzero()[0].tolist())) == [1, 2, 3]
    assert mask_is_inside(corner)


def test_a_layer_with_its_channels_last_is_refused() -> None:
    network = tiny("reseg", "tiny")
    with pytest.raises(UsageError, match="rows and columns do not lie along the last two axes"):
        field_on_picture(network, pixels_of(network), "renet.0.rows", 0, 0)


def test_a_place_outside_and_what_is_no_map_are_refused() -> None:
    module = stack(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(36, 2))
    pixels = torch.ones(1, 1, 8, 8)
    with pytest.raises(
        UsageError, match=r"row 6, column 0 is outside its map. fix: rows are 0\.\.5, columns 0\.\.5"
    ):
        field_on_picture(module, pixels, "0", 6, 0)
    with pytest.raises(UsageError, match=r"2: its output is \(1, 2\), no map"):
        field_on_picture(module, pixels, "2", 0, 0)
    with pytest.raises(UnknownName):
        field_on_picture(module, pixels, "conv", 0, 0)
    with pytest.raises(UsageError, match="give one picture"):
        field_on_picture(module, torch.ones(2, 1, 8, 8), "0", 0, 0)
