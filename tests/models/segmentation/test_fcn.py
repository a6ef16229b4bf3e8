import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import vgg
from striate.models.segmentation import fcn
from striate.models.unweighted import unweighted
from striate.training.freezing import freeze

NAMES = ("fcn32s", "fcn16s", "fcn8s")


def narrow(name: str, **config: Any) -> fcn.FCN:
    """With 2 to 16 maps, 6 in fc6 and fc7, three classes, and weights that are all drawn."""
    torch.manual_seed(0)
    network = models.create(name, 3, width=2, hidden=6, **config).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def sides(network: nn.Module, images: Tensor) -> dict[str, int]:
    """The side of what each module that is asked for gives."""
    found = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
    with torch.no_grad():
        network(images)
    return {name: maps.shape[-1] for name, maps in found.items() if isinstance(maps, Tensor)}


@pytest.mark.parametrize(
    ("name", "expected"), [("fcn32s", 136_152_917), ("fcn16s", 134_815_994), ("fcn8s", 134_489_759)]
)
def test_parameters_are_those_of_the_released_networks(name: str, expected: int) -> None:
    with unweighted():
        network = models.create(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_eleven_classes_have_134_348_929_parameters() -> None:
    with unweighted():
        network = models.create("fcn8s", 11)
    assert sum(parameter.numel() for parameter in network.parameters()) == 134_348_929


def test_a_picture_of_500_takes_181_billion_multiply_adds(counts: Callable[..., Any]) -> None:
    assert counts("fcn8s", (500, 500)).multiply_adds == pytest.approx(181.4e9, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fcn32s", {"images": 19}),
        ("fcn16s", {"pool4": 5, "images": 27}),
        ("fcn8s", {"pool4": 5, "pool3": 9, "images": 31}),
    ],
)
def test_crops_are_the_released_networks(name: str, expected: dict[str, int]) -> None:
    assert fcn.crops(fcn.VARIANTS[name]) == expected


def test_maps_of_a_picture_of_500_have_the_released_networks_sides() -> None:
    with torch.device("meta"):
        network = models.create("fcn8s").eval()
        found = sides(network, torch.zeros(1, 3, 500, 500))
    assert [found[f"backbone.trunk.pool{number}"] for number in (1, 2, 3, 4, 5)] == [349, 175, 88, 44, 22]
    assert (found["fc6"], found["score_fr"]) == (16, 16)
    assert (found["skips.pool4"], found["skips.pool3"], found["upscore"]) == (34, 70, 568)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (33, 58), (97, 64)])
def test_every_size_comes_back(name: str, size: tuple[int, int], pictures: Callable[..., Tensor]) -> None:
    network = narrow(name)
    with torch.no_grad():
        assert network.dense(pictures(*size))["logits"].shape == (2, 3, *size)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirrored_picture_gives_the_mirrored_scores(
    name: str, pictures: Callable[..., Tensor], mirrored: Callable[[nn.Module], fcn.FCN]
) -> None:
    # With the padding 256 pixels: every pool divides, so every map lies evenly on the picture.
    images = pictures(58, 58, 1)
    network = mirrored(narrow(name))
    with torch.no_grad():
        found = network(images.flip(-1)).logits.flip(-1)
        expected = network(images).logits
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("name", "finest"), [("fcn16s", "pool4"), ("fcn8s", "pool3")])
def test_the_bias_of_the_finest_score_reaches_every_pixel_whole(
    name: str, finest: str, pictures: Callable[..., Tensor]
) -> None:
    network = fcn.build(msgspec.structs.replace(fcn.VARIANTS[name], classes=3, width=2, hidden=6)).eval()
    with torch.no_grad():
        network.get_parameter(f"skips.{finest}.score.bias").copy_(torch.tensor([1.0, 2.0, 3.0]))
        logits = network(pictures(40, 33, 1)).logits
    expected = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 40, 33)
    torch.testing.assert_close(logits, expected)


def test_every_class_starts_as_likely_as_the_others(
    pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    network = fcn.build(fcn.TINY).eval()
    images = pictures(60, 64)
    loss = network.loss(network(images), targets(network, images))["cross_entropy"]
    assert loss.item() == pytest.approx(math.log(5))


def test_scales_multiply_what_is_scored(pictures: Callable[..., Tensor]) -> None:
    scaled, plain = narrow("fcn8s", scales=(0.5, 0.25)), narrow("fcn8s")
    plain.load_state_dict(scaled.state_dict())
    images = pictures(40, 33)
    with torch.no_grad():
        plain.get_parameter("skips.pool4.score.weight").mul_(0.5)
        plain.get_parameter("skips.pool3.score.weight").mul_(0.25)
        torch.testing.assert_close(scaled(images).logits, plain(images).logits)


@pytest.mark.parametrize(("stride", "scales"), [(32, (0.01, 1.0)), (16, (0.01, 0.0001))])
def test_a_scale_of_a_pool_that_is_not_scored_is_refused(stride: int, scales: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"network\.scales.*no meaning with a stride"):
        msgspec.structs.replace(fcn.TINY, stride=stride, scales=scales)


def test_padding_that_leaves_pixels_without_a_score_is_refused() -> None:
    with pytest.raises(UsageError, match=r"outermost 2 pixels\. fix: give at least 69 for a kernel of 7"):
        fcn.Config(first_padding=67)
    assert fcn.crops(fcn.Config(first_padding=69))["images"] == 0


@pytest.mark.parametrize("kernel", [4, 5, 7, 8])
@pytest.mark.parametrize("name", NAMES)
def test_scores_cover_the_picture_at_every_padding(
    name: str, kernel: int, pictures: Callable[..., Tensor]
) -> None:
    for first_padding in (16 * kernel - 27, 16 * kernel - 14):
        network = narrow(name, kernel=kernel, first_padding=first_padding, depths=(1, 1, 1, 1, 1))
        with torch.no_grad():
            for side in (64, 71, 79, 95):
                assert network(pictures(side, 64, 1)).logits.shape == (1, 3, side, 64)


def test_a_picture_in_which_fc6_sees_nothing_is_refused(pictures: Callable[..., Tensor]) -> None:
    network = fcn.build(fcn.TINY).eval()
    # 27 + 2 x 36 - 2 are 97 pixels: four of pool5, which round up.
    assert network(pictures(27, 27)).logits.shape == (2, 5, 27, 27)
    with pytest.raises(UsageError, match="at least 27 pixels a side, got 26x40"):
        network(pictures(26, 40))


def test_vggs_fully_connected_layers_become_convolutions() -> None:
    torch.manual_seed(1)
    classifier = models.create("vgg16", 5, width=4, hidden=20).eval()
    config = fcn.Config(classes=3, width=4, hidden=20)
    network = fcn.build(config).eval()
    assert fcn.backbone_of(config) == "vgg16"
    found = network.load_state_dict(fcn.from_backbone(classifier.state_dict(), config), strict=False)
    assert found.unexpected_keys == []
    assert all("score" in name for name in found.missing_keys)
    maps = torch.rand(2, 32, 7, 7)
    with torch.no_grad():
        expected = classifier.fc7(classifier.fc6(maps.flatten(1)).relu())
        torch.testing.assert_close(network.fc7(network.fc6(maps).relu())[..., 0, 0], expected)
        values = torch.rand(1, 3, 16, 16)
        torch.testing.assert_close(
            network.backbone.trunk.conv1_2(network.backbone.trunk.conv1_1(values))[..., 101:-101, 101:-101],
            classifier.trunk.conv1_2(classifier.trunk.conv1_1(values))[..., 2:-2, 2:-2],
        )


def test_a_trunk_that_is_no_vgg_has_no_published_weights() -> None:
    assert fcn.backbone_of(fcn.Config(depths=vgg.A)) == "vgg11"
    assert fcn.backbone_of(fcn.TINY) is None


def test_only_the_last_upsampling_stays_bilinear_by_the_recipe() -> None:
    network = fcn.build(fcn.TINY)
    freeze(network, fcn.recipe(fcn.TINY)["training"]["freeze"])
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["upscore.weight"]


@pytest.mark.parametrize("form", ["tiny", "16s", "32s"])
def test_training_in_bfloat16_gives_finite_gradients(
    form: str, pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    network = fcn.build({"tiny": fcn.TINY, **fcn.TINIES}[form]).train()
    images = pictures(60, 64)
    with torch.autocast("cpu", torch.bfloat16):
        sum(network.loss(network(images), targets(network, images)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_it_exports_with_a_dynamic_height_and_width(pictures: Callable[..., Tensor]) -> None:
    network = narrow("fcn8s")
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {"images": {0: dynamic, 2: dynamic, 3: dynamic}}
    exported = torch.export.export(network, (pictures(60, 64),), dynamic_shapes=shapes)
    images = pictures(77, 91, 3)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images).logits, network(images).logits)


def test_stages_end_with_every_parameter_moving() -> None:
    network = fcn.build(msgspec.structs.replace(fcn.TINY, in_stages=True))
    assert [stage.name for stage in network.training_stages] == ["fcn32s", "fcn16s", "fcn8s"]
    moving = [
        {
            name
            for name, _ in network.named_parameters()
            if any(fnmatchcase(name, pattern) for pattern in stage.trainable)
        }
        for stage in network.training_stages
    ]
    assert moving[0] < moving[1] < moving[2] == {name for name, _ in network.named_parameters()}
    assert {name.split(".")[1] for name in moving[1] - moving[0]} == {"pool4"}
    assert [stage.name for stage in fcn.build(fcn.TINY).training_stages] == ["all"]
