"""What the tests of several families share: counting without weights, and weights worth comparing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models
from striate.models.network import Network
from striate.structures import MaskTargets


class Counts(NamedTuple):
    parameters: int
    multiply_adds: int  # of convolutions and linear layers, one picture


@pytest.fixture(scope="session")
def counts() -> Callable[..., Counts]:
    """Parameters and multiply-adds of a network by name, at `size` (height, width), on the meta device."""

    def count(name: str, size: tuple[int, int], **config: Any) -> Counts:
        with torch.device("meta"):
            network = models.create(name, **config).eval()
            images = torch.zeros(1, network.preprocess.channels, *size)
            with FlopCounterMode(display=False) as counter:
                network(images)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return Counts(parameters, counter.get_total_flops() // 2)

    return count


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """A network with weights, running statistics and scales away from their starting values."""

    def randomise(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
                nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
                nn.init.normal_(module.running_mean, 0.0, 0.1, generator=generator)
                nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
        return network

    return randomise


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Random colour pictures (batch, 3, height, width) uint8, always the same."""

    def draw(height: int, width: int, batch: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)

    return draw


@pytest.fixture(scope="session")
def targets() -> Callable[[Network, Tensor], MaskTargets[Tensor]]:
    """Random labels for pictures, the first column void and the others of weight 1."""

    def label(network: Network, images: Tensor) -> MaskTargets[Tensor]:
        generator = torch.Generator().manual_seed(3)
        shape = (len(images), *images.shape[-2:])
        labels = torch.randint(0, len(network.classes), shape, dtype=torch.uint8, generator=generator)
        labels[..., 0] = 255
        return MaskTargets(labels, (labels != 255).float())

    return label


@pytest.fixture(scope="session")
def mirrored() -> Callable[[nn.Module], nn.Module]:
    """A network in double precision whose kernels look the same from the left and from the right.

    It gives the mirror image of its result for a mirrored picture, where its maps lie evenly on it.
    """

    def mirror(network: nn.Module) -> nn.Module:
        network.double().eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
        return network

    return mirror
