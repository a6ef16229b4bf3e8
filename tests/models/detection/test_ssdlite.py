from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList

from striate import models
from striate.errors import UsageError
from striate.models.convert import convert
from striate.models.detection import ssdlite
from striate.models.detection._multibox import default_boxes
from striate.models.unweighted import unweighted

Photos = Callable[[int, int], Tensor]
V3 = "ssdlite320_mobilenet_v3"


def on_meta(name: str, **config: Any) -> ssdlite.SSDLite:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, ssdlite.SSDLite)
    return network.eval()


@pytest.mark.parametrize(("name", "classes", "parameters", "millions"), [
    (V3, 90, 3_440_060, 583),  # torchvision's, which counts 0.583 billions
    ("ssdlite320_mobilenet_v2", 80, 4_484_148, 848),  # the paper: 4.3 million and 0.8 billion, fewer boxes
])  # fmt: skip
def test_parameters_and_multiply_adds(
    name: str, classes: int, parameters: int, millions: int, counts: Callable[..., tuple[int, int]]
) -> None:
    found = counts(name, classes=classes)
    assert (found[0], round(found[1] / 1e6)) == (parameters, millions)


def test_maps_are_those_of_the_papers() -> None:
    for name, channels in (
        ("ssdlite320_mobilenet_v2", (576, 1280, 512, 256, 256, 128)),
        (V3, (672, 480, 512, 256, 256, 128)),
    ):
        network, shapes = on_meta(name), list[tuple[int, ...]]()
        for layer in network.head.loc:
            layer.register_forward_hook(lambda _, maps, __, to=shapes: to.append(tuple(maps[0].shape[1:])))
        raw = network(torch.zeros(1, 3, 320, 320, device="meta"))
        assert shapes == [(c, n, n) for c, n in zip(channels, (20, 10, 5, 3, 2, 1), strict=True)], name
        assert raw.default_boxes.shape == (3234, 4)


def test_the_first_head_reads_the_maps_inside_the_first_block_of_stride_32() -> None:
    # Sandler et al., section 6.2: the expansion of layer 15, that is of the 14th block.
    network = on_meta("ssdlite320_mobilenet_v2")
    blocks = [
        f"trunk.{stage}.{number}"
        for stage, layer in network.backbone.get_submodule("trunk").named_children()
        if stage.startswith("stage")
        for number in range(len(list(layer.children())))
    ]
    assert blocks.index(f"trunk.{network.split}.0") == 13
    assert network.backbone.get_submodule(f"trunk.{network.split}.0.depthwise.conv").stride == (2, 2)


def test_the_backbone_computes_what_the_classifier_does() -> None:
    torch.manual_seed(0)
    network = ssdlite.build(ssdlite.TINY).eval()
    values = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        *_, last = network._maps(values)
        assert torch.equal(last, network.backbone.features(values)["head"])


def test_a_reduced_tail_is_half_of_a_mobilenet_v3s() -> None:
    network = on_meta(V3)
    blocks: Any = network.backbone.get_submodule("trunk.stage6")
    assert [block.depthwise.conv.in_channels for block in blocks] == [672, 480, 480]
    assert [block.project.conv.out_channels for block in blocks] == [80, 80, 80]
    whole = on_meta(V3, reduced_tail=False)
    assert whole.backbone.get_submodule("trunk.head.conv").out_channels == 960


def test_a_mobilenet_v2_has_no_reduced_tail() -> None:
    with pytest.raises(UsageError, match="reduced_tail: mobilenet_v2 has no such form"):
        on_meta("ssdlite320_mobilenet_v2", reduced_tail=True)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small_0.75"])
def test_a_classifiers_weights_begin_the_whole_backbone(name: str) -> None:
    torch.manual_seed(0)
    config = msgspec.structs.replace(ssdlite.TINY, backbone=name)
    assert ssdlite.backbone_of(config) == name
    classifier = models.create(name, 10)
    network = ssdlite.build(config)
    report = network.load_state_dict(ssdlite.from_backbone(classifier.state_dict(), config), strict=False)
    assert report.unexpected_keys == []
    assert all(key.startswith(("extras.", "head.")) for key in report.missing_keys)
    own, theirs = network.backbone.state_dict(), classifier.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_no_published_weights_fit_a_reduced_tail() -> None:
    assert ssdlite.backbone_of(ssdlite.VARIANTS[V3]) is None


# torchvision


@pytest.fixture(scope="module")
def pair(randomised: Callable[[nn.Module], nn.Module]) -> tuple[ssdlite.SSDLite, nn.Module]:
    """Ours and torchvision's with the same weights and five classes."""
    theirs = randomised(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=6))
    ours = models.create(V3, 5)
    assert isinstance(ours, ssdlite.SSDLite)
    ours.load_state_dict(ssdlite.from_torchvision(theirs.state_dict()), strict=True)
    return ours.eval(), theirs.eval()


def test_detections_equal_torchvisions_on_photos(
    pair: tuple[ssdlite.SSDLite, nn.Module],
    photos: Photos,
    spread: Callable[..., None],
    detected: Callable[..., Any],
    same_detections: Callable[..., bool],
) -> None:
    ours, theirs = pair
    pictures = photos(3, 320)
    spread(ours, theirs, pictures)
    with torch.inference_mode():
        found = detected(ours.dense(pictures), ours.config)
        expected = theirs([picture / 255 for picture in pictures])
    for own, other in zip(found, expected, strict=True):
        assert len(other["scores"]) == 300
        assert other["scores"].max() > 0.9
        assert same_detections(own, {**other, "labels": other["labels"] - 1})


def test_default_boxes_are_torchvisions(pair: tuple[ssdlite.SSDLite, nn.Module]) -> None:
    ours, theirs = pair
    maps = [torch.zeros(1, 1, side, side) for side in (20, 10, 5, 3, 2, 1)]
    generator: Any = theirs.get_submodule("anchor_generator")
    expected = generator(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)[0]
    found = default_boxes(ours.config, [(len(each[0, 0]),) * 2 for each in maps], torch.device("cpu"))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_constants_of_batch_norm_are_torchvisions(pair: tuple[ssdlite.SSDLite, nn.Module]) -> None:
    ours, theirs = (
        [(m.eps, m.momentum, m.num_features) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for network in pair
    )
    assert sorted(ours) == sorted(theirs)


def test_torchvisions_weights_are_recognised_by_their_names() -> None:
    with torch.device("meta"):
        theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    conversion = convert(theirs.state_dict(), V3)
    assert (conversion.report.source, conversion.report.fits, conversion.classes) == ("torchvision", True, 20)
