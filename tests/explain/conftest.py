"""What the tests of several parts share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def see_through() -> Callable[[nn.Module], nn.Module]:
    """A network such that no gradient is lost or cancelled: every weight positive, nothing clipped."""

    def clear(network: nn.Module) -> nn.Module:
        network = network.double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                fan_in = max(1, parameter[0].numel())
                parameter.uniform_(0.5, 1.5, generator=generator).div_(fan_in if parameter.ndim > 1 else 1)
        for module in [*network.modules()]:
            for name, child in [*module.named_children()]:
                if (made := _replacement(child)) is not None:
                    setattr(module, name, made)
        return network

    return clear


def _replacement(module: nn.Module) -> nn.Module | None:
    """What sees the same pixels: of a maximum only one pixel has a gradient, of a norm's mean all cancel."""
    if isinstance(module, nn.MaxPool2d):
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    activations = (
        nn.ReLU,
        nn.ReLU6,
        nn.Hardswish,
        nn.SiLU,
        nn.GELU,
        nn.Tanh,
        nn.LayerNorm,
        nn.LocalResponseNorm,
    )
    return nn.Identity() if isinstance(module, activations) else None
