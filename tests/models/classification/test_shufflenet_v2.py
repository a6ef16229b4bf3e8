from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import shufflenet_v2
from striate.structures import ClassTargets

# Parameters, and millions of multiply-adds of one picture.
COUNTS = {
    "shufflenet_v2_0.5": (1_366_792, 40.5),
    "shufflenet_v2": (2_278_604, 144.9),
    "shufflenet_v2_1.5": (3_503_624, 295.8),
    "shufflenet_v2_2": (7_393_996, 583.3),
}
THEIR_NAMES = {
    "shufflenet_v2_0.5": "shufflenet_v2_x0_5",
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_1.5": "shufflenet_v2_x1_5",
    "shufflenet_v2_2": "shufflenet_v2_x2_0",
}


def test_every_variant_has_its_counts_here() -> None:
    assert set(COUNTS) == set(shufflenet_v2.VARIANTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name: str, counts: Callable[..., tuple[int, int]]) -> None:
    parameters, multiply_adds = counts(name)
    assert (parameters, round(multiply_adds / 1e6, 1)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_tensors_have_torchvisions_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        ours = models.create(name).state_dict()
        theirs = getattr(torchvision.models, THEIR_NAMES[name])(weights=None).state_dict()
    assert [(key, tensor.shape) for key, tensor in ours.items()] == [
        (key, tensor.shape) for key, tensor in theirs.items()
    ]


Pair = tuple[shufflenet_v2.ShuffleNetV2, nn.Module]


@pytest.fixture
def pair(randomised: Callable[[nn.Module], nn.Module]) -> Pair:
    """Our network and torchvision's with the same weights, in double precision."""
    theirs = randomised(torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=10))
    ours = models.create("shufflenet_v2_0.5", classes=10)
    ours.load_state_dict(shufflenet_v2.from_torchvision(theirs.state_dict()), strict=True)
    return ours.double(), theirs.double()


def test_outputs_equal_torchvisions(
    pair: Pair,
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.float().eval() for network in pair)
    images = pictures(97)
    with torch.inference_mode():
        found, expected = ours.dense(images)["logits"], theirs(ours.normalize(images))
    assert relative_difference(found, expected) < 1e-5


def test_gradients_in_training_equal_torchvisions(
    pair: Pair,
    pictures: Callable[..., Tensor],
    targets: Callable[..., ClassTargets[Tensor]],
) -> None:
    ours, theirs = (network.train() for network in pair)
    images = pictures(64, batch=4)
    ours.loss(ours(images), targets(ours, 4))["cross_entropy"].backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), torch.arange(4)).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        # Depthwise maps reach the next batch norm linearly, which takes out their bias: its gradient is
        # rounding alone.
        scale = expected[name].abs().max().clamp(min=1e-6)
        assert (parameter.grad - expected[name]).abs().max() < 1e-4 * scale, name


def test_a_change_of_any_layer_is_seen(
    pair: Pair,
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.float().eval() for network in pair)
    images = pictures(64)
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        for name, parameter in ours.named_parameters():
            before = parameter.clone()
            parameter.mul_(1.1)
            assert relative_difference(ours.dense(images)["logits"], expected) > 1e-5, name
            parameter.copy_(before)


def test_half_of_the_maps_passes_a_unit_untouched() -> None:
    maps = torch.rand(2, 8, 5, 5)
    shuffled = shufflenet_v2.Unit(8).eval()(maps)
    assert torch.equal(shuffled[:, ::2], maps[:, :4])
    assert not torch.equal(shuffled[:, 1::2], maps[:, 4:])


def test_depthwise_convolutions_have_no_relu_behind_them() -> None:
    with torch.device("meta"):
        unit = models.create("shufflenet_v2").stage3[1]
    assert [type(module).__name__ for module in unit.branch2] == [
        *("Conv2d", "BatchNorm2d", "ReLU"),
        *("Conv2d", "BatchNorm2d"),
        *("Conv2d", "BatchNorm2d", "ReLU"),
    ]


def test_maps_halve_as_in_table_5() -> None:
    with torch.device("meta"):
        features = models.create("shufflenet_v2").features(torch.zeros(1, 3, 224, 224))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (24, 112, 112),
        "maxpool": (24, 56, 56),
        "stage2": (116, 28, 28),
        "stage3": (232, 14, 14),
        "stage4": (464, 7, 7),
        "conv5": (1024, 7, 7),
    }


def test_an_odd_number_of_maps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.channels: 117 maps do not split into two halves"):
        models.create("shufflenet_v2", channels=(116, 117, 464))
