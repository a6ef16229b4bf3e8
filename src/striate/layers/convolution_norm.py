"""Convolution, batch normalisation, activation: the step that most networks repeat."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

__all__ = ["ConvolutionNorm", "Norm"]


@dataclass(frozen=True, slots=True)
class Norm:
    """Constants of a network's batch normalisation."""

    eps: float = 1e-5
    momentum: float = 0.1  # weight of the newest batch in the running statistics

    def __call__(self, channels: int) -> nn.BatchNorm2d:
        """The layer for `channels` maps."""
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


class ConvolutionNorm(nn.Sequential):
    """`conv` -> `norm` -> `activation`; None leaves the maps as the normalisation gives them."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None, norm: Norm) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=norm(conv.out_channels))
        if activation is not None:
            layers["activation"] = activation
        super().__init__(layers)
