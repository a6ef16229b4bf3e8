import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models
from striate.errors import UsageError
from striate.layers.local_response_norm import LocalResponseNorm
from striate.models.classification import alexnet
from striate.structures import Preprocess

PARAMETERS = {"alexnet": 61_100_840, "alexnet_2012": 60_965_224}
MULTIPLY_ADDS = {"alexnet": 714_188_480, "alexnet_2012": 724_406_816}

NARROW = (8, 12, 16, 16, 12)


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config).eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *network.preprocess.size, device="meta"))
    return counter.get_total_flops() // 2


def pictures(side: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


def narrow(**config: object) -> alexnet.AlexNet:
    torch.manual_seed(0)
    return models.create("alexnet", classes=5, widths=NARROW, hidden=20, **config).eval()


def test_every_variant_has_its_counts_here() -> None:
    assert set(PARAMETERS) == set(MULTIPLY_ADDS) == set(alexnet.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_multiply_adds_are_the_published_ones(name: str) -> None:
    network = on_meta(name)
    assert parameters(network) == PARAMETERS[name]
    assert multiply_adds(network) == MULTIPLY_ADDS[name]


def test_without_the_split_there_are_more_of_both() -> None:
    whole = on_meta("alexnet_2012", groups=1)
    assert (parameters(whole), multiply_adds(whole)) == (62_378_344, 1_135_256_096)


def test_maps_of_2012_are_55_27_13_and_6_pixels_a_side() -> None:
    features = on_meta("alexnet_2012").features(torch.zeros(1, 3, 227, 227, device="meta"))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
    }


def test_padding_by_2_makes_224_pixels_give_the_same_maps() -> None:
    network = on_meta("alexnet_2012", first_padding=2, preprocess={"size": (224, 224)})
    assert network.features(torch.zeros(1, 3, 224, 224, device="meta"))["conv1"].shape[2:] == (55, 55)


def torchvisions(classes: int = 5) -> nn.Module:
    """torchvision's AlexNet with NARROW maps and 20 hidden units, its layers otherwise untouched."""
    with torch.device("meta"):
        theirs = torchvision.models.alexnet(num_classes=classes)
    channels = 3
    for index, width in zip((0, 3, 6, 8, 10), NARROW, strict=True):
        old = theirs.features[index]
        theirs.features[index] = nn.Conv2d(channels, width, old.kernel_size, old.stride, old.padding)
        channels = width
    for index, (inputs, units) in {1: (channels * 36, 20), 4: (20, 20), 6: (20, classes)}.items():
        theirs.classifier[index] = nn.Linear(inputs, units)
    return theirs.eval()


@pytest.fixture
def pair() -> tuple[alexnet.AlexNet, nn.Module]:
    """Ours and torchvision's, narrow, with the same random weights, in double precision."""
    torch.manual_seed(1)
    theirs, ours = torchvisions().double(), narrow().double()
    ours.load_state_dict(alexnet.from_torchvision(theirs.state_dict()), strict=True)
    return ours, theirs


@pytest.mark.parametrize("side", [63, 97, 224])
def test_outputs_equal_torchvisions(pair: tuple[alexnet.AlexNet, nn.Module], side: int) -> None:
    ours, theirs = pair
    images = pictures(side)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        torch.testing.assert_close(ours.dense(images)["logits"], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", ["features.0", "features.10", "classifier.4"])
def test_one_perturbed_layer_shows(pair: tuple[alexnet.AlexNet, nn.Module], layer: str) -> None:
    ours, theirs = pair
    images = pictures(97)
    with torch.inference_mode():
        theirs.get_submodule(layer).weight.mul_(1.01)
        expected = theirs(ours.normalize(images))
        difference = (ours.dense(images)["logits"] - expected).abs().max()
    assert difference > 1e-5 * expected.abs().max()


def test_gradients_equal_torchvisions(pair: tuple[alexnet.AlexNet, nn.Module]) -> None:
    ours, theirs = pair
    images, labels = pictures(97, batch=4), torch.tensor([0, 3, 4, 1])
    nn.functional.cross_entropy(ours(images).logits, labels).backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), labels).backward()
    grads = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    expected = alexnet.from_torchvision(grads)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-8, atol=1e-12)


def test_at_its_true_size_it_equals_torchvisions_in_single_precision() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet().eval()
    ours = on_meta("alexnet")
    ours.load_state_dict(alexnet.from_torchvision(theirs.state_dict()), strict=True, assign=True)
    ours.normalize = type(ours.normalize)(ours.preprocess)
    images = pictures(224, batch=1)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        difference = (ours.dense(images)["logits"] - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max()


def test_state_dict_of_torchvision_is_renamed_and_nothing_else() -> None:
    weights = {"features.3.weight": torch.ones(1), "classifier.6.bias": torch.ones(2), "other": torch.ones(3)}
    renamed = alexnet.from_torchvision(weights)
    assert list(renamed) == ["trunk.conv2.weight", "fc8.bias", "other"]
    assert all(renamed[new] is old for new, old in zip(renamed, weights.values(), strict=True))


def test_response_normalisation_of_2012_lies_between_relu_and_pool() -> None:
    names = list(dict(on_meta("alexnet_2012").trunk.named_children()))
    assert names[:8] == ["conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"]
    norm = on_meta("alexnet_2012").trunk.norm1
    assert (norm.k, norm.n, norm.alpha, norm.beta) == (2.0, 5, 1e-4, 0.75)
    assert not any(isinstance(module, LocalResponseNorm) for module in on_meta("alexnet").modules())


def test_pools_overlap() -> None:
    trunk = on_meta("alexnet_2012").trunk
    pools = [trunk.get_submodule(f"pool{number}") for number in (1, 2, 5)]
    assert {(pool.kernel_size, pool.stride) for pool in pools} == {(3, 2)}


def test_the_split_halves_what_conv2_conv4_and_conv5_see() -> None:
    trunk = on_meta("alexnet_2012").trunk
    seen = {n: trunk.get_submodule(f"conv{n}").weight.shape[1] for n in range(1, 6)}
    assert seen == {1: 3, 2: 48, 3: 256, 4: 192, 5: 192}


def test_weights_of_2012_start_as_published() -> None:
    torch.manual_seed(0)
    network = models.create("alexnet_2012")
    layers = {f"conv{n}": network.trunk.get_submodule(f"conv{n}") for n in range(1, 6)}
    layers |= {f"fc{n}": network.get_submodule(f"fc{n}") for n in (6, 7, 8)}
    for layer in layers.values():
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert layer.weight.mean().abs() < 2e-4
    biases = {name: layer.bias.unique().tolist() for name, layer in layers.items()}
    zero, one = [0.0], [1.0]
    assert biases == {
        "conv1": zero,
        "conv2": one,
        "conv3": zero,
        "conv4": one,
        "conv5": one,
        "fc6": one,
        "fc7": one,
        "fc8": zero,
    }


def test_narrow_layers_start_with_larger_weights_so_that_sums_spread_as_much() -> None:
    torch.manual_seed(0)
    network = models.create("alexnet_2012", classes=5, widths=(24, 64, 96, 96, 64), hidden=1024)
    # A quarter of the published fan-in is twice the spread; conv1 has its published one.
    assert network.trunk.conv2.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.fc7.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.trunk.conv1.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_conv1_of_2012_sees_centred_pixels_in_their_own_units() -> None:
    # Divided by 255 and a deviation of 0.25 they would be 63.75 times smaller.
    spec = Preprocess(size=(67, 67), mean=(0.5,) * 3, std=(0.25,) * 3)
    network = models.create("alexnet_2012", widths=NARROW, hidden=4, preprocess={"size": (67, 67)})
    small = alexnet.AlexNet(alexnet.Config(form="2012", widths=NARROW, hidden=4, preprocess=spec))
    images = torch.full((1, 3, 67, 67), 255, dtype=torch.uint8)
    centred = small.raw_values(small.normalize(images))
    torch.testing.assert_close(centred, torch.full_like(centred, 127.5))
    assert network.raw_values.factor == 1.0
    torch.testing.assert_close(
        network.normalize(images)[0, :, 0, 0], 255 - torch.tensor([123.675, 116.28, 103.53])
    )


def test_features_are_not_overwritten_by_the_layers_behind_them() -> None:
    network = alexnet.build(alexnet.TINY).eval()
    with torch.no_grad():
        features = network.features(pictures(63))
        maps = network.trunk.pool1(network.trunk.norm1(features["conv1"]))
    torch.testing.assert_close(maps, features["pool1"])
    assert all((maps >= 0).all() for maps in features.values())


def test_forward_and_features_agree() -> None:
    network = narrow()
    images = pictures(97)
    with torch.no_grad():
        pool5 = network.average(network.features(images)["pool5"]).flatten(1)
        logits = network.fc8(torch.relu(network.fc7(torch.relu(network.fc6(pool5)))))
        torch.testing.assert_close(network(images).logits, logits)


def test_dropout_comes_before_fc6_and_fc7() -> None:
    network = narrow(dropout=0.5).train()
    dropped: list[int] = []
    network.dropout.register_forward_hook(lambda *args: dropped.append(args[2].shape[1]))
    network(pictures(63))
    assert dropped == [12 * 36, 20]


@pytest.mark.parametrize(("name", "side"), [("alexnet", 63), ("alexnet_2012", 67)])
def test_the_smallest_picture_leaves_one_pixel(name: str, side: int) -> None:
    network = models.create(
        name, classes=2, widths=NARROW, hidden=4, preprocess={"size": (side, side), "resize_to": side}
    )
    assert network.features(pictures(side))["pool5"].shape[2:] == (1, 1)
    with pytest.raises(UsageError, match=f"at least {side} pixels a side, got {side - 1}x{side - 1}"):
        network(pictures(side - 1))
    with pytest.raises(UsageError, match=f"at least {side} pixels a side"):
        on_meta(name, preprocess={"size": (side - 1, side), "resize_to": side})


def test_maps_that_do_not_split_are_refused() -> None:
    with pytest.raises(UsageError, match="do not split evenly into 2 groups"):
        models.create("alexnet_2012", widths=(96, 255, 384, 384, 256))


@pytest.mark.parametrize("settings", [{"form": "2013"}, {"widths": (1, 2)}, {"dropout": 1.0}, {"groups": 3}])
def test_unknown_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        models.create("alexnet", **settings)
