"""What the tests of the classification families share: pictures, and labels for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from striate.models.network import Network
from striate.structures import ClassTargets


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Random colour pictures (batch, 3, side, side) uint8, always the same."""

    def draw(side: int, batch: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)

    return draw


@pytest.fixture(scope="session")
def targets() -> Callable[[Network, int], ClassTargets[Tensor]]:
    """Labels 0, 1, 2, ... for a batch, one-hot in the network's precision, all of weight 1."""

    def label(network: Network, batch: int) -> ClassTargets[Tensor]:
        dtype = next(network.parameters()).dtype
        labels = torch.arange(batch) % len(network.classes)
        one_hot = nn.functional.one_hot(labels, len(network.classes)).to(dtype)
        return ClassTargets(one_hot, torch.ones(batch, dtype=dtype))

    return label
