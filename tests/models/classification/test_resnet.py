from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import resnet
from striate.structures import ClassTargets

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_v1": 25_557_032,
    "resnet101_v1": 44_549_160,
    "resnet152_v1": 60_192_808,
    "resnet20_cifar": 269_722,
    "resnet32_cifar": 464_154,
    "resnet44_cifar": 658_586,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
}

# Millions of multiply-adds of convolutions and the linear layer, one picture.
MULTIPLY_ADDS = {
    "resnet18": 1_814,
    "resnet34": 3_664,
    "resnet50": 4_089,
    "resnet101": 7_801,
    "resnet152": 11_514,
    "resnet50_v1": 3_858,
    "resnet101_v1": 7_570,
    "resnet152_v1": 11_282,
    "resnet20_cifar": 41,
    "resnet32_cifar": 69,
    "resnet44_cifar": 97,
    "resnet56_cifar": 125,
    "resnet110_cifar": 253,
}


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config)


def test_every_variant_has_its_counts_here() -> None:
    plain = {name for name in resnet.VARIANTS if name.startswith("plain")}  # they are in test_plain.py
    assert set(PARAMETERS) == set(MULTIPLY_ADDS) == set(resnet.VARIANTS) - plain


@pytest.mark.parametrize("name", PARAMETERS)
def test_counts_are_the_published_ones(name: str, counts: Callable[..., tuple[int, int]]) -> None:
    parameters, multiply_adds = counts(name)
    assert (parameters, round(multiply_adds / 1e6)) == (PARAMETERS[name], MULTIPLY_ADDS[name])


@pytest.mark.parametrize(("name", "expected"), [("resnet20_cifar", 272_474), ("resnet56_cifar", 855_770)])
def test_option_b_adds_the_shortcuts_convolutions(
    name: str, expected: int, counts: Callable[..., tuple[int, int]]
) -> None:
    assert counts(name, shortcut="B")[0] == expected


def test_resnet18_on_small_pictures_has_the_known_counts(counts: Callable[..., tuple[int, int]]) -> None:
    small = {"size": [32, 32], "fit": "stretch", "resize_to": None}
    parameters, multiply_adds = counts("resnet18", stem="cifar", classes=10, preprocess=small)
    assert (parameters, round(multiply_adds / 1e6, 1)) == (11_173_962, 555.4)


Pair = tuple[resnet.ResNet, nn.Module]


def twins(name: str, dilated_stages: int, randomised: Callable[[nn.Module], nn.Module]) -> Pair:
    """Ours and torchvision's with the same weights, the last stages dilated instead of strided."""
    dilate = [dilated_stages > 2, dilated_stages > 1, dilated_stages > 0]
    theirs = getattr(torchvision.models, name)(
        weights=None, num_classes=10, replace_stride_with_dilation=dilate
    )
    output_stride = {0: None, 1: 16, 2: 8}[dilated_stages]
    ours = models.create(name, classes=10, output_stride=output_stride)
    ours.load_state_dict(resnet.from_torchvision(randomised(theirs).state_dict()), strict=True)
    return ours, theirs


@pytest.fixture(params=[("resnet18", 0), ("resnet50", 0), ("resnet50", 1), ("resnet50", 2)])
def pair(request: pytest.FixtureRequest, randomised: Callable[[nn.Module], nn.Module]) -> Pair:
    """One of our networks and torchvision's with the same weights."""
    return twins(*request.param, randomised)


def test_outputs_equal_torchvisions(
    pair: Pair,
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.eval() for network in pair)
    images = pictures(97)
    with torch.inference_mode():
        found, expected = ours.dense(images)["logits"], theirs(ours.normalize(images))
    assert relative_difference(found, expected) < 1e-5


@pytest.mark.parametrize(("name", "dilated_stages"), [("resnet18", 0), ("resnet50", 2)])
def test_gradients_in_training_equal_torchvisions(
    name: str,
    dilated_stages: int,
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    targets: Callable[..., ClassTargets[Tensor]],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.double().train() for network in twins(name, dilated_stages, randomised))
    images = pictures(33, batch=4)
    ours.loss(ours(images), targets(ours, 4))["cross_entropy"].backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), torch.arange(4)).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert relative_difference(parameter.grad, expected[name]) < 1e-4, name


def test_a_change_of_any_layer_is_seen(
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.eval() for network in twins("resnet18", 0, randomised))
    images = pictures(32, batch=1)
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        for name, parameter in ours.named_parameters():
            before = parameter.clone()
            parameter.mul_(1.1)
            assert relative_difference(ours.dense(images)["logits"], expected) > 1e-5, name
            parameter.copy_(before)


def layers(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: maps for name, maps in features.items() if name.startswith("layer")}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v1"])
@pytest.mark.parametrize(("output_stride", "sides"), [(None, 2), (32, 2), (16, 4), (8, 8)])
def test_output_stride_keeps_the_last_maps_large(name: str, output_stride: int | None, sides: int) -> None:
    network = on_meta(name, output_stride=output_stride)
    features = layers(network.features(torch.zeros(1, 3, 64, 64, device="meta")))
    strides = {info.name: info.stride for info in network.feature_info}
    assert features["layer4"].shape[2:] == (sides, sides)
    assert {name: 64 // maps.shape[2] for name, maps in features.items()} == {n: strides[n] for n in features}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v1"])
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("side", [64, 75])
def test_pixels_of_dilated_maps_hold_those_of_the_undilated(
    name: str,
    output_stride: int,
    side: int,
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
) -> None:
    whole = randomised(models.create(name, depths=(1, 2, 2, 2), width=8)).double().eval()
    dilated = models.create(name, depths=(1, 2, 2, 2), width=8, output_stride=output_stride).double().eval()
    dilated.load_state_dict(whole.state_dict(), strict=True)
    images = pictures(side)
    with torch.inference_mode():
        expected, found = whole.features(images), dilated.features(images)
    for ours, own in zip(dilated.feature_info, whole.feature_info, strict=True):
        step = own.stride // ours.stride
        torch.testing.assert_close(found[ours.name][:, :, ::step, ::step], expected[ours.name])


@pytest.mark.parametrize(
    ("name", "dilations"),
    [
        # The two 3x3 convolutions of a block, or its one.
        ("resnet18", {"layer3": [(1, 2), (2, 2)], "layer4": [(2, 4), (4, 4)]}),
        ("resnet50", {"layer3": [1, 2, 2, 2, 2, 2], "layer4": [2, 4, 4]}),
        ("resnet50_v1", {"layer3": [2] * 6, "layer4": [4] * 3}),
    ],
)
def test_kernels_spread_behind_the_lost_stride(name: str, dilations: dict[str, list[object]]) -> None:
    network = on_meta(name, output_stride=8)
    for layer, expected in dilations.items():
        blocks = network.get_submodule(layer)
        if name == "resnet18":
            found: list[object] = [(block.conv1.dilation[0], block.conv2.dilation[0]) for block in blocks]
        else:
            found = [block.conv2.dilation[0] for block in blocks]
        assert found == expected
    assert {block.conv2.dilation[0] for block in (*network.layer1, *network.layer2)} == {1}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v1"])
@pytest.mark.parametrize(("output_stride", "unit"), [(None, 1), (16, 2), (8, 4)])
def test_multi_grid_spreads_each_block_of_the_last_stage_by_its_number(
    name: str, output_stride: int | None, unit: int
) -> None:
    grid = (1, 2, 4)
    network = on_meta(name, depths=(1, 1, 2, 3), output_stride=output_stride, multi_grid=grid)
    plain = on_meta(name, depths=(1, 1, 2, 3), output_stride=output_stride)
    assert [block.conv2.dilation[0] for block in network.layer4] == [unit * number for number in grid]
    if name == "resnet18":
        assert [block.conv1.dilation[0] for block in network.layer4] == [unit * number for number in grid]
    before = [[block.conv2.dilation for block in made.layer3] for made in (network, plain)]
    assert before[0] == before[1]
    images = torch.zeros(1, 3, 75, 75, device="meta")
    shapes = [[maps.shape for maps in made.features(images).values()] for made in (network, plain)]
    assert shapes[0] == shapes[1]
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_multi_grid_has_a_number_for_each_block() -> None:
    with pytest.raises(UsageError, match=r"network\.multi_grid: 3 numbers for the 2 blocks"):
        models.create("resnet18", multi_grid=(1, 2, 4))
    with pytest.raises(UsageError, match="multi_grid"):
        models.create("resnet50", multi_grid=(1, 0, 4))


def test_an_output_stride_beyond_the_networks_own_is_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.output_stride: 8 is more than the stride 4"):
        models.create("resnet20_cifar", output_stride=8)
    with pytest.raises(UsageError, match="output_stride"):
        models.create("resnet50", output_stride=4)


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_published_cifar_weights_load_strictly(
    shared_data: Callable[[str], Path], pictures: Callable[..., Tensor], name: str
) -> None:
    file = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th"}[name]
    checkpoint = torch.load(shared_data(f"weights/{file}"), map_location="cpu", weights_only=True)
    weights = resnet.from_akamaster(checkpoint["state_dict"])
    network = models.create(f"{name}_cifar")
    counters = {key: tensor for key, tensor in network.state_dict().items() if "num_batches" in key}
    network.load_state_dict(counters | weights, strict=True)
    assert torch.equal(network.fc.weight, checkpoint["state_dict"]["module.linear.weight"])
    assert network.eval().dense(pictures(32))["logits"].isfinite().all()


def test_option_a_takes_every_second_pixel_and_pads_evenly() -> None:
    maps = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    shortcut = resnet.PaddedShortcut(2, 4, stride=2)(maps)
    assert shortcut.shape == (1, 4, 2, 2)
    assert shortcut[0, 1].tolist() == [[0, 2], [8, 10]]
    assert shortcut[0, 2].tolist() == [[16, 18], [24, 26]]
    assert not shortcut[0, [0, 3]].any()


def test_option_a_puts_the_odd_map_of_zeros_last() -> None:
    assert resnet.PaddedShortcut(2, 5, stride=1)(torch.ones(1, 2, 1, 1)).flatten().tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(("version", "strides"), [("v1", (2, 1)), ("v1.5", (1, 2))])
def test_version_decides_which_convolution_strides(version: str, strides: tuple[int, int]) -> None:
    block = on_meta("resnet50", version=version).layer2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
    assert block.downsample[0].stride == (2, 2)


def test_zero_init_makes_blocks_start_as_the_identity() -> None:
    maps = torch.rand(2, 64, 5, 5)  # not negative, so the last ReLU changes nothing
    assert torch.equal(models.create("resnet18").layer1[1].eval()(maps), maps)
    started = models.create("resnet18", zero_init=False).layer1[1].eval()
    assert not torch.equal(started(maps), maps)


def test_cifar_form_keeps_the_picture_size_in_its_stem(pictures: Callable[..., Tensor]) -> None:
    features = models.create("resnet20_cifar").eval().features(pictures(32))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (16, 32, 32),
        "layer1": (16, 32, 32),
        "layer2": (32, 16, 16),
        "layer3": (64, 8, 8),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_forward_and_features_agree(
    name: str, randomised: Callable[[nn.Module], nn.Module], pictures: Callable[..., Tensor]
) -> None:
    network = randomised(models.create(name, classes=4)).eval()
    images = pictures(48)
    last = list(network.features(images).values())[-1]
    torch.testing.assert_close(network(images).logits, network.fc(last.mean((2, 3))))


def test_features_are_not_overwritten_by_the_layers_behind_them(
    randomised: Callable[[nn.Module], nn.Module], pictures: Callable[..., Tensor]
) -> None:
    network = randomised(models.create("resnet18")).eval()
    features = network.features(pictures(64))
    torch.testing.assert_close(network.layer2(features["layer1"]), features["layer2"])
    assert all((maps >= 0).all() for maps in features.values())


def test_photos_and_small_pictures_have_their_own_recipe() -> None:
    photos, cifar = (resnet.recipe(resnet.VARIANTS[name]) for name in ("resnet50", "resnet20_cifar"))
    assert "scale" in photos["augment"]
    assert cifar["augment"] == {"flip": 0.5, "pad": 4}


@pytest.mark.parametrize("settings", [{"block": "wide"}, {"depths": ()}, {"width": 0}, {"stem": "photo"}])
def test_unknown_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        models.create("resnet18", **settings)
