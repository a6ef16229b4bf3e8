from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList

from striate import models
from striate.errors import UsageError
from striate.models.convert import convert
from striate.models.detection import ssd
from striate.models.detection._multibox import default_boxes
from striate.models.unweighted import unweighted

PARAMETERS = {
    "ssd300": 26_285_486,
    "ssd512": 27_188_676,
    "ssd300_coco": 34_305_206,
    "ssd512_coco": 36_038_196,
    "ssd300_torchvision": 35_641_826,
}

Photos = Callable[[int, int], Tensor]


def on_meta(name: str, **config: Any) -> ssd.SSD:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, ssd.SSD)
    return network


def test_every_variant_has_its_count_here() -> None:
    assert set(PARAMETERS) == set(ssd.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_counted_by_hand(name: str) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == PARAMETERS[name]


def test_multiply_adds_are_torchvisions(counts: Callable[..., tuple[int, int]]) -> None:
    assert round(counts("ssd300_torchvision")[1] / 1e9, 3) == 34.858


@pytest.mark.parametrize(("name", "boxes"), [("ssd300", 8732), ("ssd512", 24564), ("ssd512_coco", 24564)])
def test_each_size_has_the_papers_number_of_boxes(name: str, boxes: int) -> None:
    network = on_meta(name)
    raw = network(torch.zeros(1, 3, *network.preprocess.size, device="meta"))
    classes = len(network.classes)
    assert [tuple(part.shape) for part in raw] == [(1, boxes, 4), (1, boxes, 1 + classes), (boxes, 4)]


def test_maps_of_300_pixels_are_the_papers() -> None:
    network = on_meta("ssd300")
    sides = []
    for layer in network.head.loc:
        layer.register_forward_hook(lambda _, maps, __: sides.append(tuple(maps[0].shape[1:])))
    network(torch.zeros(1, 3, 300, 300, device="meta"))
    channels = (512, 1024, 512, 256, 256, 256)
    assert sides == [(c, n, n) for c, n in zip(channels, (38, 19, 10, 5, 3, 1), strict=True)]


def test_other_sizes_are_refused() -> None:
    network = ssd.build(ssd.TINY)
    with pytest.raises(UsageError, match="this network takes pictures of 64x64, got 48x64"):
        network(torch.zeros(1, 3, 48, 64))
    # conv10 and conv11 have no padding.
    with pytest.raises(UsageError, match=r"preprocess\.size: this network needs"):
        on_meta("ssd300", preprocess={"size": (200, 200)})


def test_conv4_3_gets_the_length_20_at_every_pixel() -> None:
    maps = torch.randn(2, 7, 3, 4)
    maps[0, :, 0, 0] = 0
    lengths = ssd.L2Norm(7)(maps).norm(dim=1)
    assert lengths[0, 0, 0] == 0
    lengths[0, 0, 0] = 20
    torch.testing.assert_close(lengths, torch.full((2, 3, 4), 20.0))


def test_the_length_is_learnt_map_by_map() -> None:
    norm = ssd.L2Norm(2)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([5.0, 10.0]))
    assert norm(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten().tolist() == [3, 8]


# weights of a VGG


def test_a_vggs_weights_begin_the_encoder_and_its_thinned_out_layers() -> None:
    torch.manual_seed(0)
    changes = {"depths": (1, 1, 1, 1, 1), "width": 8, "grid": 7, "hidden": 96}
    vgg = models.create("vgg16", 10, preprocess={"size": (224, 224)}, **changes)
    network = ssd.build(ssd.TINY)
    weights = ssd.from_backbone(vgg.state_dict(), ssd.TINY)
    report = network.load_state_dict(weights, strict=False)
    assert report.unexpected_keys == []
    behind = ("extras.", "head.", "norm.")
    assert all(name.startswith(behind) for name in report.missing_keys)
    # Of 96 units every second is kept, of 7x7 taps the first, the middle and the last.
    own = vgg.state_dict()["fc6.weight"].view(96, 64, 7, 7)
    assert torch.equal(network.state_dict()["fc.conv6.weight"], own[::2, :, ::3, ::3])
    assert conv6(network).dilation == (6, 6)


def conv6(network: ssd.SSD) -> nn.Conv2d:
    found = network.fc.get_submodule("conv6")
    assert isinstance(found, nn.Conv2d)
    return found


def test_thinned_out_layers_see_what_vggs_do() -> None:
    # A tap of fc6 every 3 pixels at stride 32 lies where one every 6 at stride 16 does.
    taps = torch.arange(7)[::3] * 32
    network = ssd.build(ssd.TINY)
    assert (taps - taps[1]).tolist() == [-96, 0, 96]
    impulse = torch.zeros(1, 64, 19, 19)
    impulse[:, :, 9, 9] = 1
    seen = conv2d(impulse, torch.ones_like(conv6(network).weight), padding=6, dilation=6)[0, 0]
    assert sorted(set((seen.nonzero()[:, 0] * 16 - 9 * 16).tolist())) == [-96, 0, 96]


def test_only_a_published_depth_has_a_backbone() -> None:
    assert ssd.backbone_of(ssd.VARIANTS["ssd300"]) == "vgg16"
    assert ssd.backbone_of(ssd.TINY) is None


# torchvision


@pytest.fixture(scope="module")
def pair(randomised: Callable[[nn.Module], nn.Module]) -> tuple[ssd.SSD, nn.Module]:
    """Ours and torchvision's with the same weights and five classes."""
    theirs = randomised(ssd300_vgg16(weights=None, weights_backbone=None, num_classes=6))
    ours = models.create("ssd300_torchvision", 5)
    assert isinstance(ours, ssd.SSD)
    ours.load_state_dict(ssd.from_torchvision(theirs.state_dict()), strict=True)
    return ours.eval(), theirs.eval()


def test_detections_equal_torchvisions_on_photos(
    pair: tuple[ssd.SSD, nn.Module],
    photos: Photos,
    spread: Callable[..., None],
    detected: Callable[..., Any],
    same_detections: Callable[..., bool],
) -> None:
    ours, theirs = pair
    pictures = photos(2, 300)
    spread(ours, theirs, pictures)
    with torch.inference_mode():
        found = detected(ours.dense(pictures), ours.config)
        expected = theirs([picture / 255 for picture in pictures])
    for own, other in zip(found, expected, strict=True):
        assert len(other["scores"]) == 200
        assert other["scores"].max() > 0.9
        assert same_detections(own, {**other, "labels": other["labels"] - 1})


def test_default_boxes_are_torchvisions(pair: tuple[ssd.SSD, nn.Module]) -> None:
    ours, theirs = pair
    maps = [torch.zeros(1, 1, side, side) for side in (38, 19, 10, 5, 3, 1)]
    generator: Any = theirs.get_submodule("anchor_generator")
    expected = generator(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]
    found = default_boxes(ours.config, [(len(each[0, 0]),) * 2 for each in maps], torch.device("cpu"))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_torchvisions_weights_are_recognised_by_their_names() -> None:
    with torch.device("meta"):
        theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    conversion = convert(theirs.state_dict(), "ssd300_torchvision")
    assert (conversion.report.source, conversion.report.fits, conversion.classes) == ("torchvision", True, 20)
