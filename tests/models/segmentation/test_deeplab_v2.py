from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.segmentation import deeplab_v2

FORMS = {"tiny": deeplab_v2.TINY, **deeplab_v2.TINIES}


def form(name: str, **changes: Any) -> deeplab_v2.DeepLabV2:
    torch.manual_seed(0)
    return deeplab_v2.build(msgspec.structs.replace(FORMS[name], **changes)).eval()


@pytest.mark.parametrize(
    ("name", "side", "parameters", "billions"),
    [
        ("deeplab_v2_vgg16", 41, 37_877_652, None),
        ("deeplab_v2_resnet101", 321, 44_048_532, 75.1),
        ("deeplab_v2_resnet101", 513, 44_048_532, 188.9),
    ],
)
def test_counts_are_those_of_aspp_l(
    name: str, side: int, parameters: int, billions: float | None, counts: Callable[..., Any]
) -> None:
    found = counts(name, (side, side))
    assert found.parameters == parameters
    if billions is not None:
        assert found.multiply_adds == pytest.approx(billions * 1e9, rel=2e-3)


@pytest.mark.parametrize("name", deeplab_v2.VARIANTS)
@pytest.mark.parametrize(("output_stride", "rates"), [(8, [6, 12, 18, 24]), (16, [3, 6, 9, 12])])
def test_branches_have_the_papers_rates(name: str, output_stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        network = models.create(name, output_stride=output_stride)
    spread = [module for module in network.aspp.modules() if getattr(module, "kernel_size", None) == (3, 3)]
    assert [conv.dilation for conv in spread] == [conv.padding for conv in spread]
    assert [conv.dilation[0] for conv in spread] == rates


def test_the_resnet_is_the_papers_with_dilated_last_stages() -> None:
    with torch.device("meta"):
        backbone = models.create("deeplab_v2_resnet101").backbone
    assert [backbone.get_submodule(f"layer{stage}")[0].conv1.stride for stage in (2, 3, 4)] == [
        (2, 2),
        (1, 1),
        (1, 1),
    ]
    assert [backbone.get_submodule(f"layer{stage}")[1].conv2.dilation for stage in (2, 3, 4)] == [
        (1, 1),
        (2, 2),
        (4, 4),
    ]


@pytest.mark.parametrize("name", FORMS)
def test_scores_of_the_branches_are_summed(name: str, pictures: Callable[..., Tensor]) -> None:
    network, images = form(name), pictures(41, 57)
    stride = network.config.output_stride
    size = (40 // stride * stride + 1, 56 // stride * stride + 1)
    with torch.no_grad():
        maps = list(network.backbone.features(network.normalize(images)).values())[-1]
        expected = network.aspp.c0(maps) + network.aspp.c1(maps)
        found = network(images).logits[..., : size[0], : size[1]]
    torch.testing.assert_close(
        found, F.interpolate(expected, size, mode="bilinear", align_corners=True), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("name", FORMS)
def test_a_mirrored_picture_gives_the_mirrored_scores(
    name: str,
    pictures: Callable[..., Tensor],
    randomised: Callable[[nn.Module], nn.Module],
    mirrored: Callable[[nn.Module], deeplab_v2.DeepLabV2],
) -> None:
    network, images = mirrored(randomised(form(name))), pictures(49, 65, 1)
    with torch.no_grad():
        expected = network(images).logits
        torch.testing.assert_close(network(images.flip(-1)).logits.flip(-1), expected)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (33, 58)])
def test_every_size_comes_back(name: str, size: tuple[int, int], pictures: Callable[..., Tensor]) -> None:
    assert form(name)(pictures(*size)).logits.shape == (2, 5, *size)


@pytest.mark.parametrize(
    ("name", "backbone", "scoring"),
    [("deeplab_v2_vgg16", "vgg16", "fc8"), ("deeplab_v2_resnet101", "resnet101_v1", "aspp")],
)
def test_the_backbones_weights_fit_all_but_what_scores(name: str, backbone: str, scoring: str) -> None:
    with torch.device("meta"):
        classifier = models.create(backbone).state_dict()
        network = models.create(name)
    needed = {name: tensor.shape for name, tensor in network.state_dict().items() if scoring not in name}
    found = deeplab_v2.from_backbone(classifier, network.config)
    assert {name: tensor.shape for name, tensor in found.items()} == needed
    assert deeplab_v2.backbone_of(network.config) == backbone


def test_dropout_without_the_layers_it_stands_behind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.dropout.*no meaning where the branches"):
        deeplab_v2.Config(dropout=0.5)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet101_v1"])
def test_depths_of_another_backbone_are_refused(backbone: str) -> None:
    depths = (1, 1, 1, 1, 1, 1, 1)
    with pytest.raises(UsageError, match="depths"):
        models.create("deeplab_v2_vgg16", backbone=backbone, depths=depths)


@pytest.mark.parametrize("name", FORMS)
def test_training_in_bfloat16_gives_finite_gradients(
    name: str, pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    network, images = form(name).train(), pictures(41, 56)
    with torch.autocast("cpu", torch.bfloat16):
        sum(network.loss(network(images), targets(network, images)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
