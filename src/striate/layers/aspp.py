"""Atrous spatial pyramid pooling: one map seen at several scales side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise_separable import DepthwiseSeparable

__all__ = ["ASPP", "spatial_convolution"]


class ASPP(nn.Module):
    """A 1x1 convolution, a 3x3 one at each rate and the average of all pixels, joined and mixed by a 1x1.

    (B, C, h, w) to (B, channels_out, h, w). Every convolution has batch norm and a ReLU. Chen et al. 2017,
    arXiv:1706.05587, section 3.3 and Figure 5; `separable` as in arXiv:1802.02611, section 3.1. In training
    the average needs two pictures or more: it is one value a channel and picture that is normalised.
    """

    def __init__(
        self, channels: int, channels_out: int, rates: Sequence[int], dropout: float, separable: bool = False
    ) -> None:
        super().__init__()
        self.pointwise = _pointwise(channels, channels_out)
        self.atrous = nn.ModuleList(
            spatial_convolution(channels, channels_out, rate, separable) for rate in rates
        )
        self.image_pooling = _pointwise(channels, channels_out)
        self.project = _pointwise((2 + len(rates)) * channels_out, channels_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = self.image_pooling(maps.mean((2, 3), keepdim=True))  # (B, channels_out, 1, 1)
        branches = [self.pointwise(maps), *(convolution(maps) for convolution in self.atrous)]
        # Bilinear upsampling of one pixel is that pixel everywhere.
        joined = torch.cat([*branches, pooled.expand_as(branches[0])], 1)
        mixed: Tensor = self.dropout(self.project(joined))
        return mixed


def spatial_convolution(
    channels: int, channels_out: int, rate: int = 1, separable: bool = False
) -> nn.Module:
    """A 3x3 convolution whose taps are `rate` pixels apart, with batch norm and ReLU, the size kept.

    `separable`: a 3x3 filter for each map and then a 1x1 that mixes them, about a ninth of the work.
    """
    if separable:
        return DepthwiseSeparable(channels, channels_out, _relu, dilation=rate)
    conv = nn.Conv2d(channels, channels_out, 3, padding=rate, dilation=rate, bias=False)
    return ConvolutionNorm(conv, _relu(), Norm())


def _pointwise(channels: int, channels_out: int) -> ConvolutionNorm:
    return ConvolutionNorm(nn.Conv2d(channels, channels_out, 1, bias=False), _relu(), Norm())


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)
