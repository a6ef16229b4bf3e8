"""What the tests of all families share: counting without weights, and weights worth comparing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models


class Counts(NamedTuple):
    parameters: int
    multiply_adds: int  # of convolutions and linear layers, one picture


@pytest.fixture(scope="session")
def counts() -> Callable[..., Counts]:
    """Parameters and multiply-adds of a network by name, at its own size or `size`, on the meta device."""

    def count(name: str, size: tuple[int, int] | None = None, **config: Any) -> Counts:
        with torch.device("meta"):
            network = models.create(name, **config).eval()
            images = torch.zeros(1, network.preprocess.channels, *(size or network.preprocess.size))
            with FlopCounterMode(display=False) as counter:
                network.dense(images)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return Counts(parameters, counter.get_total_flops() // 2)

    return count


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """A network with weights, running statistics and scales away from their starting values."""

    def randomise(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
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
def relative_difference() -> Callable[[Tensor, Tensor], float]:
    """The largest difference between two tensors, as a share of the second's largest value."""

    def measure(found: Tensor, expected: Tensor) -> float:
        return float((found - expected).abs().max() / expected.abs().max())

    return measure
