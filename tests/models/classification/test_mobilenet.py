"""What holds for the MobileNets of all three generations."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models
from striate.errors import UsageError
from striate.layers.inverted_residual import InvertedResidual
from striate.models.classification import mobilenet_v1, mobilenet_v2, mobilenet_v3
from striate.structures import ClassTargets

FAMILIES = (mobilenet_v1, mobilenet_v2, mobilenet_v3)

# Parameters, and multiply-adds of convolutions and linear layers on one picture of 224x224.
COUNTS = {
    "mobilenet_v1": (4_231_976, 568_740_352),
    "mobilenet_v1_0.75": (2_585_560, 325_400_448),
    "mobilenet_v1_0.5": (1_331_592, 149_497_088),
    "mobilenet_v1_0.25": (470_072, 41_030_272),
    "mobilenet_v2": (3_504_872, 300_774_272),
    "mobilenet_v2_1.4": (6_108_776, 582_195_824),
    "mobilenet_v2_0.75": (2_636_424, 209_069_792),
    "mobilenet_v2_0.5": (1_968_680, 97_131_840),
    "mobilenet_v2_0.35": (1_677_128, 59_285_808),
    "mobilenet_v3_large": (5_483_032, 216_589_760),
    "mobilenet_v3_large_0.75": (3_377_576, 140_033_816),
    "mobilenet_v3_small": (2_542_856, 56_510_400),
    "mobilenet_v3_small_0.75": (1_653_920, 39_115_576),
}


class Pair(NamedTuple):
    """A network here and the same one elsewhere."""

    ours: nn.Module
    theirs: nn.Module


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config).eval()


def multiply_adds(network: nn.Module, side: int = 224) -> int:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side, device="meta"))
    return counter.get_total_flops() // 2


def randomised(network: nn.Module) -> nn.Module:
    """`network` with weights that keep the size of the maps, and statistics away from their start."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)
            nn.init.normal_(module.running_mean, 0.0, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def without_squeezes(network: nn.Module) -> nn.Module:
    """`network` without the squeezes of v3, whose means are over other values in a denser map."""
    for block in network.modules():
        if isinstance(block, InvertedResidual):
            block.squeeze = None
    return network


def pictures(side: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


THEIRS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1": lambda: timm.create_model("mobilenetv1_100", num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "mobilenet_v2_0.5": lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5),
    "mobilenet_v3_large": lambda: torchvision.models.mobilenet_v3_large(num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
}


@pytest.fixture(scope="module", params=THEIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    theirs = randomised(THEIRS[request.param]())
    ours = models.create(request.param, classes=10, dropout=0.0)
    family = models.family_of(request.param)
    rename = family.from_timm if family is mobilenet_v1 else family.from_torchvision
    ours.load_state_dict(rename(theirs.state_dict()), strict=True)
    return Pair(ours, theirs)


def output_difference(pair: Pair) -> float:
    """The largest difference of the outputs, relative to the largest output."""
    images = pictures(97)
    with torch.inference_mode():
        expected = pair.theirs.eval()(pair.ours.normalize(images))
        found = pair.ours.eval().dense(images)["logits"]
    return float((found - expected).abs().max() / expected.abs().max())


def test_every_variant_has_its_counts_here() -> None:
    assert set(COUNTS) == {name for family in FAMILIES for name in family.VARIANTS}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiply_adds_are_the_published_ones(name: str) -> None:
    network = on_meta(name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (parameters, multiply_adds(network)) == COUNTS[name]


@pytest.mark.parametrize(("side", "expected"), [(192, 418.1), (160, 290.7), (128, 186.4)])
def test_smaller_pictures_cost_what_the_resolution_multiplier_says(side: int, expected: float) -> None:
    assert round(multiply_adds(on_meta("mobilenet_v1"), side) / 1e6, 1) == expected


def test_outputs_equal_the_published_networks(pair: Pair) -> None:
    assert output_difference(pair) < 1e-5


def test_a_slightly_changed_layer_is_seen_in_the_outputs(pair: Pair) -> None:
    layer = next(m for m in pair.theirs.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(1.001)
    changed = output_difference(pair)
    with torch.no_grad():
        layer.weight.copy_(kept)
    assert changed > 1e-5


def test_gradients_in_training_equal_the_published_networks(pair: Pair) -> None:
    ours, theirs = (network.train() for network in pair)
    images, labels = pictures(64, batch=4), torch.tensor([0, 3, 9, 1])
    truths = ClassTargets(nn.functional.one_hot(labels, 10).float(), torch.ones(4))
    ours.zero_grad()
    theirs.zero_grad()
    ours.loss(ours(images), truths)["cross_entropy"].backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), labels).backward()
    # Parameters stand in the same order in both.
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert found.shape == expected.shape
        difference = (found.grad - expected.grad).abs().max()
        assert difference <= 1e-4 * expected.grad.abs().max() + 1e-7, name


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_fills_the_gaps_between_the_strided_values(name: str, output_stride: int) -> None:
    """Every n-th value of the dense maps is the strided network's, to the border and with its weights."""
    strided = randomised(models.create(name, classes=3)).eval()
    dense = models.create(name, classes=3, output_stride=output_stride).eval()
    dense.load_state_dict(strided.state_dict(), strict=True)
    # In double precision: in single the numbers of so deep a network grow apart on some processors.
    strided, dense, images = strided.double(), dense.double(), pictures(64, batch=1).double()
    without_squeezes(strided), without_squeezes(dense)
    with torch.inference_mode():
        expected, found = strided.features(images), dense.features(images)
    assert list(expected) == list(found)
    assert dense.feature_info[-1].stride == output_stride
    for before, after in zip(strided.feature_info, dense.feature_info, strict=True):
        step = before.stride // after.stride
        assert found[after.name].shape[-1] == 64 // after.stride
        torch.testing.assert_close(
            found[after.name][..., ::step, ::step], expected[before.name], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_features_agree(family: object) -> None:
    network = randomised(family.build(family.TINY)).eval()
    images = pictures(64)
    last = list(network.features(images).values())[-1]
    torch.testing.assert_close(network(images).logits, network.classifier(last.mean((2, 3))))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_not_overwritten_by_the_layers_behind_them(family: object) -> None:
    network = randomised(family.build(family.TINY)).eval()
    features = network.features(pictures(64))
    torch.testing.assert_close(network.trunk.stage2(features["stage1"]), features["stage2"])
    torch.testing.assert_close(network.trunk.stage1(features["stem"].clone()), features["stage1"])


def test_deepest_maps_at_each_stride_are_offered_to_decoders() -> None:
    found = {name: on_meta(name).at_strides(4, 8, 16, 32) for name in ("mobilenet_v1", "mobilenet_v2")}
    assert [tuple(feature) for feature in found["mobilenet_v1"]] == [
        ("stage2", 128, 4),
        ("stage3", 256, 8),
        ("stage4", 512, 16),
        ("stage5", 1024, 32),
    ]
    assert [tuple(feature) for feature in found["mobilenet_v2"]] == [
        ("stage2", 24, 4),
        ("stage3", 32, 8),
        ("stage5", 96, 16),
        ("head", 1280, 32),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_keep_their_size_from_layer_to_layer_at_the_start(family: object) -> None:
    """He's weights by the inputs of a filter; by the outputs of all maps, depthwise ones would start tiny."""
    torch.manual_seed(0)
    network = family.build(next(iter(family.VARIANTS.values())))
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            expected = (2 / module.weight[0].numel()) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.1), name
    assert float(network.classifier.linear.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not network.classifier.linear.bias.any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v1", {"width": 0}),
        ("mobilenet_v1", {"activation": "swish"}),
        ("mobilenet_v2", {"output_stride": 4}),
        ("mobilenet_v2", {"stages": [[6, 24, 2, 3]]}),
        ("mobilenet_v2", {"dropout": 1.0}),
        ("mobilenet_v3_large", {"blocks": [[4, 16, 16, False, "RE", 1]]}),
        ("mobilenet_v3_small", {"norm_momentum": 0}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        models.create(name, **settings)
