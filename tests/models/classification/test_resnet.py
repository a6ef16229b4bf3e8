from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

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


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config)


def test_every_variant_has_its_counts_here() -> None:
    assert set(PARAMETERS) == set(MULTIPLY_ADDS) == set(resnet.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    network = on_meta(name).eval()
    images = torch.zeros(1, 3, *network.preprocess.size, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(images)
    assert round(counter.get_total_flops() / 2e6) == MULTIPLY_ADDS[name]


@pytest.mark.parametrize(("name", "expected"), [("resnet20_cifar", 272_474), ("resnet56_cifar", 855_770)])
def test_option_b_adds_the_shortcuts_convolutions(name: str, expected: int) -> None:
    assert parameters(on_meta(name, shortcut="B")) == expected


def randomised(network: nn.Module) -> nn.Module:
    """`network` with running statistics and scales away from their starting values."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
            nn.init.normal_(module.running_mean, 0.0, 0.1, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
    return network


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def pair(request: pytest.FixtureRequest) -> tuple[resnet.ResNet, nn.Module]:
    """One of our networks and torchvision's with the same weights."""
    torch.manual_seed(0)
    theirs = randomised(getattr(torchvision.models, request.param)(weights=None, num_classes=10))
    ours = models.create(request.param, classes=10)
    ours.load_state_dict(resnet.from_torchvision(theirs.state_dict()), strict=True)
    return ours, theirs


def pictures(side: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


def test_outputs_equal_torchvisions(pair: tuple[resnet.ResNet, nn.Module]) -> None:
    ours, theirs = pair[0].eval(), pair[1].eval()
    images = pictures(97)
    with torch.inference_mode():
        difference = ours.dense(images)["logits"] - theirs(ours.normalize(images))
    assert difference.abs().max() < 1e-4


def test_gradients_in_training_equal_torchvisions(pair: tuple[resnet.ResNet, nn.Module]) -> None:
    ours, theirs = (network.train() for network in pair)
    images, labels = pictures(64, batch=4), torch.tensor([0, 3, 9, 1])
    truths = ClassTargets(nn.functional.one_hot(labels, 10).float(), torch.ones(4))
    ours.zero_grad()
    theirs.zero_grad()
    ours.loss(ours(images), truths)["cross_entropy"].backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), labels).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        scale = expected[name].abs().max()
        assert (parameter.grad - expected[name]).abs().max() <= 1e-3 * scale, name


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_published_cifar_weights_load_strictly(shared_data: Callable[[str], Path], name: str) -> None:
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


def test_cifar_form_keeps_the_picture_size_in_its_stem() -> None:
    features = models.create("resnet20_cifar").eval().features(pictures(32))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (16, 32, 32),
        "layer1": (16, 32, 32),
        "layer2": (32, 16, 16),
        "layer3": (64, 8, 8),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_forward_and_features_agree(name: str) -> None:
    network = randomised(models.create(name, classes=4)).eval()
    images = pictures(48)
    last = list(network.features(images).values())[-1]
    torch.testing.assert_close(network(images).logits, network.fc(last.mean((2, 3))))


def test_features_are_not_overwritten_by_the_layers_behind_them() -> None:
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
