"""What the tests of the segmentation families share: pictures, masks for them, symmetric weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from striate.models.network import Network
from striate.structures import MaskTargets


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
