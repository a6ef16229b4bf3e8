"""What darknet's networks are made of."""

from collections import OrderedDict

from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm

__all__ = ["SLOPE", "Residual", "convolution", "pool_of_stride_1"]

SLOPE = 0.1
"""Of the leaky ReLU for values below 0 (Redmon et al. 2016, arXiv:1506.02640, eq. 2)."""


def convolution(channels: int, maps: int, kernel: int, stride: int = 1) -> ConvolutionNorm:
    """Convolution, batch norm and leaky ReLU: `channels` maps in, `maps` out, padded by half the kernel."""
    conv = nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2, bias=False)
    return ConvolutionNorm(conv, nn.LeakyReLU(SLOPE, inplace=True), Norm())


class Residual(nn.Module):
    """Darknet-53's block: 1x1 to half the maps, 3x3 back to all, and what came in added.

    Redmon and Farhadi 2018, arXiv:1804.02767, Table 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = convolution(channels, max(1, channels // 2), 1)
        self.expand = convolution(max(1, channels // 2), channels, 3)

    def forward(self, maps: Tensor) -> Tensor:
        expanded: Tensor = self.expand(self.reduce(maps))
        return maps + expanded


def pool_of_stride_1() -> nn.Sequential:
    """The maximum of each 2x2 window, one a pixel: maps keep their size.

    Windows at the right and lower edge see only what is there: their last pixels are there twice.
    """
    layers = OrderedDict(edge=nn.ReplicationPad2d((0, 1, 0, 1)), pool=nn.MaxPool2d(2, stride=1))
    return nn.Sequential(layers)
