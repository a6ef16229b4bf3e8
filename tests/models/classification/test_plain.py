"""The residual networks without their shortcuts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import resnet

# Parameters and millions of multiply-adds of one picture: those of shortcuts without parameters.
COUNTS = {
    "plain20_cifar": (269_722, 40.551),
    "plain32_cifar": (464_154, 68.863),
    "plain44_cifar": (658_586, 97.174),
    "plain56_cifar": (853_018, 125.486),
    "plain18": (11_515_688, 1794.806),
    "plain34": (21_623_848, 3644.494),
}


def test_every_plain_variant_has_its_counts_here() -> None:
    assert set(COUNTS) == {name for name in resnet.VARIANTS if name.startswith("plain")}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_shortcuts_without_parameters(
    name: str, counts: Callable[..., tuple[int, int]]
) -> None:
    residual = counts(name.replace("plain", "resnet"), shortcut="A", zero_init=False)
    assert counts(name) == residual
    assert (residual[0], round(residual[1] / 1e6, 3)) == COUNTS[name]


@pytest.mark.parametrize("settings", [{}, {"block": "bottleneck"}])
def test_a_plain_network_is_a_chain_of_convolutions(
    settings: dict[str, str], randomised: Callable[[nn.Module], nn.Module], pictures: Callable[..., Tensor]
) -> None:
    network = randomised(models.create("plain20_cifar", **settings)).double().eval()
    children = dict(network.named_modules())
    chain: list[nn.Module] = []
    for name, module in children.items():
        if isinstance(module, nn.Conv2d):
            chain += [module, children[name.replace("conv", "bn")], nn.ReLU()]
    images = pictures(32)
    with torch.inference_mode():
        maps = nn.Sequential(*chain)(network.normalize(images).double())
        torch.testing.assert_close(network.dense(images)["logits"], network.fc(maps.mean((2, 3))))


def test_tensors_have_the_names_of_the_residual_networks() -> None:
    with torch.device("meta"):
        plain, residual = (models.create(name).state_dict() for name in ("plain20_cifar", "resnet20_cifar"))
    assert list(plain) == list(residual)


def test_blocks_that_start_at_zero_are_refused_without_shortcuts() -> None:
    with pytest.raises(UsageError, match=r"network\.zero_init: a block without a shortcut"):
        models.create("plain18", zero_init=True)
    with pytest.raises(UsageError, match=r"network\.zero_init"):
        models.create("resnet18", shortcut="none")


@pytest.mark.parametrize("name", ["plain20_cifar", "plain32_cifar"])
def test_starting_weights_keep_the_signal_alive(name: str, pictures: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    features = models.create(name).train().features(pictures(32, batch=4))
    assert all(0.1 < maps.detach().std() < 10 for maps in features.values())


def test_plain_networks_train_as_the_residual_ones_of_their_size() -> None:
    for plain, residual in (("plain20_cifar", "resnet20_cifar"), ("plain18", "resnet18")):
        assert resnet.recipe(resnet.VARIANTS[plain]) == resnet.recipe(resnet.VARIANTS[residual])
