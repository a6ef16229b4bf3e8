from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate import models
from striate.models.segmentation import deeplab_v1
from striate.models.vgg_backbone import subsampled


def narrow(**config: Any) -> deeplab_v1.DeepLabV1:
    """With 2 to 16 maps, 6 in fc6 and fc7, and three classes."""
    torch.manual_seed(0)
    return models.create("deeplab_v1", 3, width=2, hidden=6, **config).eval()


def test_it_has_the_counts_of_large_fov(counts: Callable[..., Any]) -> None:
    found = counts("deeplab_v1", (321, 321))
    assert found.parameters == 20_505_429
    assert found.multiply_adds == pytest.approx(50.9e9, rel=2e-3)


@pytest.mark.parametrize(
    ("output_stride", "sides"), [(8, (161, 81, 41, 41, 41)), (16, (161, 81, 41, 21, 21))]
)
def test_pools_of_a_picture_of_321_have_the_papers_sides(output_stride: int, sides: tuple[int, ...]) -> None:
    network, maps = narrow(output_stride=output_stride), torch.zeros(1, 3, 321, 321)
    names = [f"pool{number}" for number in range(1, 6)]
    with torch.no_grad():
        found = network.backbone.trunk.maps(maps, dict(zip(names, names, strict=True)))
    assert tuple(found[name].shape[-1] for name in names) == sides


@pytest.mark.parametrize("width", range(41, 50))
def test_the_last_value_lies_on_the_last_pixel_or_beyond(width: int) -> None:
    with torch.no_grad():
        pool5 = narrow().backbone.trunk(torch.zeros(1, 3, 33, width))
    assert 8 * (pool5.shape[-1] - 1) >= width - 1


@pytest.mark.parametrize(("output_stride", "conv5", "fc6"), [(8, 2, 12), (16, 1, 6)])
def test_kernels_are_spread_by_what_the_pools_do_not_shrink(output_stride: int, conv5: int, fc6: int) -> None:
    network = narrow(output_stride=output_stride)
    trunk = network.backbone.trunk
    assert (trunk.conv4_3.dilation, trunk.conv5_1.dilation) == ((1, 1), (conv5, conv5))
    assert network.head.fc6.dilation == network.head.fc6.padding == (fc6, fc6)


def test_scores_come_from_the_mean_of_3x3_behind_pool5(pictures: Callable[..., Tensor]) -> None:
    network, images = narrow(), pictures(41, 49)
    with torch.no_grad():
        pool5 = network.backbone.trunk(network.normalize(images))
        padded = F.pad(pool5, (1, 1, 1, 1))
        mean = sum(padded[..., y : y + 6, x : x + 7] for y in range(3) for x in range(3)) / 9
        expected = F.interpolate(network.head(mean), (41, 49), mode="bilinear", align_corners=True)
        torch.testing.assert_close(network(images).logits, expected)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_mirrored_picture_gives_the_mirrored_scores(
    output_stride: int,
    pictures: Callable[..., Tensor],
    randomised: Callable[[nn.Module], nn.Module],
    mirrored: Callable[[nn.Module], deeplab_v1.DeepLabV1],
) -> None:
    network = mirrored(randomised(narrow(output_stride=output_stride)))
    images = pictures(49, 65, 1)
    with torch.no_grad():
        expected = network(images).logits
        torch.testing.assert_close(network(images.flip(-1)).logits.flip(-1), expected)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("form", ["tiny", "stride16"])
@pytest.mark.parametrize("size", [(1, 1), (33, 58)])
def test_every_size_comes_back(form: str, size: tuple[int, int], pictures: Callable[..., Tensor]) -> None:
    network = deeplab_v1.build({"tiny": deeplab_v1.TINY, **deeplab_v1.TINIES}[form])
    assert network(pictures(*size)).logits.shape == (2, 5, *size)


def test_fc6_thinned_out_sees_every_third_pixel_of_vggs() -> None:
    generator = torch.Generator().manual_seed(0)
    fc6 = torch.randn(8, 3, 7, 7, generator=generator)
    layers = {"fc6.weight": fc6, "fc6.bias": torch.arange(8.0)}
    layers |= {"fc7.weight": torch.arange(64.0).view(8, 8, 1, 1), "fc7.bias": torch.arange(8.0)}
    thin = subsampled(layers, 2)
    assert thin["fc6.bias"].tolist() == thin["fc7.bias"].tolist() == [0, 4]
    assert thin["fc7.weight"].flatten().tolist() == [0, 4, 32, 36]
    kept = torch.zeros(8, 3, 7, 7)
    kept[..., ::3, ::3] = fc6[..., ::3, ::3]
    # A map at a stride of 8 instead of 32 has four pixels for each that VGG's fc6 sees.
    maps = torch.randn(1, 3, 30, 30, generator=generator)
    expected = F.conv2d(maps, kept, padding=12, dilation=4)[:, ::4]
    torch.testing.assert_close(F.conv2d(maps, thin["fc6.weight"], padding=12, dilation=12), expected)


def test_vggs_weights_fit_all_but_the_last_layer() -> None:
    with torch.device("meta"):
        classifier = models.create("vgg16").state_dict()
        network = models.create("deeplab_v1")
    needed = {name: tensor.shape for name, tensor in network.state_dict().items() if "fc8" not in name}
    found = deeplab_v1.from_backbone(classifier, network.config)
    assert {name: tensor.shape for name, tensor in found.items()} == needed
    assert deeplab_v1.backbone_of(network.config) == "vgg16"


def test_a_rate_that_a_stride_of_16_cannot_halve_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="multiple of 2"):
        msgspec.convert({"rate": 5}, deeplab_v1.Config)


def test_dropout_stands_behind_both_relus() -> None:
    assert [name for name, _ in narrow().head.named_children()] == [
        "fc6", "relu6", "dropout6", "fc7", "relu7", "dropout7", "fc8",
    ]  # fmt: skip


def test_training_in_bfloat16_gives_finite_gradients(
    pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    network, images = deeplab_v1.build(deeplab_v1.TINY).train(), pictures(41, 56)
    with torch.autocast("cpu", torch.bfloat16):
        sum(network.loss(network(images), targets(network, images)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_it_exports_with_a_dynamic_height_and_width(pictures: Callable[..., Tensor]) -> None:
    network, dynamic = narrow(), torch.export.Dim.DYNAMIC
    shapes = {"images": {0: dynamic, 2: dynamic, 3: dynamic}}
    exported = torch.export.export(network, (pictures(41, 56),), dynamic_shapes=shapes)
    images = pictures(77, 91, 3)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images).logits, network(images).logits)
