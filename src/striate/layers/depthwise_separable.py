"""A convolution in two steps: one filter for each map, then 1x1 filters that mix the maps."""

from collections.abc import Callable

from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise import Depthwise

__all__ = ["DepthwiseSeparable"]

TORCH_NORM = Norm()  # torch's own constants


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3 -> 1x1, each with batch norm and activation.

    Howard et al. 2017, arXiv:1704.04861, Figure 3, right; with a dilation the atrous separable convolution
    of Chen et al. 2018, arXiv:1802.02611, section 3.1.
    """

    def __init__(
        self,
        channels: int,
        channels_out: int,
        activation: Callable[[], nn.Module],
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = TORCH_NORM,
    ) -> None:
        super().__init__()
        self.depthwise = ConvolutionNorm(Depthwise(channels, 3, stride, dilation), activation(), norm)
        mix = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.pointwise = ConvolutionNorm(mix, activation(), norm)

    def forward(self, maps: Tensor) -> Tensor:
        mixed: Tensor = self.pointwise(self.depthwise(maps))  # (B, channels_out, H / stride, W / stride)
        return mixed
