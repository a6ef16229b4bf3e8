"""U-Net over classification networks: the same weights, the right maps at each step, any size."""

from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.network import Classifier, Feature
from striate.models.segmentation import unet_backbone
from striate.models.segmentation.unet_backbone import UNetBackbone
from striate.models.unweighted import unweighted

# Of the expansive path over ResNet-18 and -34, convolutions and norms, deepest first.
STEPS = (
    ((512 + 256) * 256 + 256 * 256) * 9 + 4 * 256,
    ((256 + 128) * 128 + 128 * 128) * 9 + 4 * 128,
    ((128 + 64) * 64 + 64 * 64) * 9 + 4 * 64,
    ((64 + 64) * 32 + 32 * 32) * 9 + 4 * 32,
    (32 * 16 + 16 * 16) * 9 + 4 * 16,
)
OVER_VGG = (
    ((512 + 512) * 128 + 128 * 128) * 9 + 4 * 128,
    ((128 + 256) * 64 + 64 * 64) * 9 + 4 * 64,
    ((64 + 128) * 32 + 32 * 32) * 9 + 4 * 32,
    ((32 + 64) * 16 + 16 * 16) * 9 + 4 * 16,
)
HEAD = 16 * 21 + 21
FORMS = {"tiny": unet_backbone.TINY, **unet_backbone.TINIES}


def weightless(name: str, **config: Any) -> UNetBackbone:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, UNetBackbone)
    return network.eval()


def tiny(form: str) -> UNetBackbone:
    torch.manual_seed(0)
    return unet_backbone.build(FORMS[form]).eval()


def pictures(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "encoder", "steps"),
    [
        ("unet_resnet18", 11_689_512 - 513_000, STEPS),
        ("unet_resnet34", 21_797_672 - 513_000, STEPS),
        ("unet_vgg16", 14_714_688, OVER_VGG),
        ("unet_vgg16_bn", 14_714_688 + 2 * 4_224, OVER_VGG),
    ],
)
def test_parameters_are_those_of_the_encoder_and_of_each_step(
    name: str, encoder: int, steps: tuple[int, ...]
) -> None:
    found = sum(parameter.numel() for parameter in weightless(name).parameters())
    assert found == encoder + sum(steps) + HEAD


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("unet_resnet50", ["layer4", "layer3", "layer2", "layer1", "conv1", None]),
        ("unet_mobilenet_v2", ["stage7", "stage5", "stage3", "stage2", "stage1", None]),
        ("unet_vgg16", ["conv5_3", "conv4_3", "conv3_3", "conv2_2", "conv1_2"]),
    ],
)
def test_each_step_sees_the_deepest_map_of_its_stride(name: str, maps: list[str | None]) -> None:
    network = weightless(name)
    assert [network.bottom, *(step.skip for step in network.expansive)] == maps


@pytest.mark.parametrize("name", unet_backbone.VARIANTS)
def test_the_map_has_the_picture_s_size_whatever_it_is(name: str) -> None:
    network = weightless(name)
    for height, width in ((512, 512), (321, 333), (37, 64)):
        images = torch.empty(1, 3, height, width, device="meta")
        assert network.dense(images)["logits"].shape == (1, 21, height, width)


@pytest.mark.parametrize("form", FORMS)
def test_the_smallest_pictures_are_taken(form: str) -> None:
    assert tiny(form).dense(pictures(1, 1))["logits"].shape == (2, 4, 1, 1)
    assert tiny(form).dense(pictures(2, 35))["logits"].shape == (2, 4, 2, 35)


def test_a_picture_in_which_vgg_sees_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 32 pixels a side, got 31x40"):
        weightless("unet_vgg16")(torch.empty(1, 3, 31, 40, device="meta"))


@pytest.mark.parametrize("name", unet_backbone.VARIANTS)
def test_a_classification_network_s_weights_fit_all_of_the_backbone(name: str) -> None:
    network = weightless(name)
    config = unet_backbone.VARIANTS[name]
    with unweighted():
        whole = models.create(unet_backbone.backbone_of(config)).state_dict()
    taken = unet_backbone.from_backbone(whole, config)
    here = {key: tensor.shape for key, tensor in network.state_dict().items() if key.startswith("backbone.")}
    assert {key: tensor.shape for key, tensor in taken.items()} == here


@pytest.mark.parametrize("form", FORMS)
def test_with_its_weights_it_builds_on_the_classification_network_s_features(form: str) -> None:
    network = tiny(form)
    assert isinstance(network.config, unet_backbone.Config)
    spec = msgspec.to_builtins(network.preprocess)
    whole = models.create(unet_backbone.backbone_of(network.config), preprocess=spec).eval()
    assert isinstance(whole, Classifier)
    weights = unet_backbone.from_backbone(whole.state_dict(), network.config)
    assert network.load_state_dict(weights, strict=False).unexpected_keys == []
    images = pictures(*network.preprocess.size)
    features = whole.features(images)
    maps = features[network.bottom]
    for step in network.expansive:
        maps = step(maps, features, images.shape[-2:])
    torch.testing.assert_close(network.dense(images)["logits"], network.last(maps), rtol=1e-5, atol=1e-5)


def test_a_step_resizes_puts_the_skip_first_and_convolves_twice() -> None:
    step = unet_backbone.Expansion(3, Feature("skip", 2, 4), 5).eval()
    convolutions = [module for module in step.modules() if isinstance(module, nn.Conv2d)]
    maps, skip = torch.randn(1, 3, 4, 5), torch.randn(1, 2, 7, 10)
    merged = torch.cat((skip, F.interpolate(maps, (7, 10), mode="bilinear")), 1)
    for convolution in convolutions:
        # Fresh statistics: mean 0, variance 1, and torch's constant that keeps it above 0.
        merged = F.relu(F.conv2d(merged, convolution.weight, padding=1) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(step(maps, {"skip": skip}, (0, 0)), merged)


def test_the_expansive_path_starts_with_he_s_weights_and_the_backbone_with_its_own() -> None:
    torch.manual_seed(0)
    network = unet_backbone.build(unet_backbone.Config(backbone="resnet20_cifar"))
    weights = network.state_dict()
    first, inside = (
        weights["expansive.0.convolutions.conv1.weight"],
        weights["backbone.layer2.0.conv1.weight"],
    )
    assert float(first.std()) == pytest.approx((2 / (9 * (64 + 32))) ** 0.5, rel=0.05)
    # ResNet's are by the 32 maps that it gives, not by the 16 that it reads.
    assert float(inside.std()) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)


def test_a_backbone_that_is_not_listed_is_refused() -> None:
    with pytest.raises(UsageError, match="backbone"):
        models.create("unet_resnet18", backbone="lenet5")


class Dense(nn.Module):
    def __init__(self, network: UNetBackbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.dense(images)["logits"]


def test_it_exports_for_every_size_that_the_last_stride_divides() -> None:
    network = tiny("strided")
    rows, columns = (torch.export.Dim(name, min=2, max=50) for name in ("rows", "columns"))
    exported = torch.export.export(
        Dense(network), (pictures(64, 96),), dynamic_shapes={"images": {2: 32 * rows, 3: 32 * columns}}
    )
    images = pictures(96, 128)
    torch.testing.assert_close(exported.module()(images), network.dense(images)["logits"])
