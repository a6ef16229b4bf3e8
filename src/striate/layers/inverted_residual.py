"""The block of MobileNet v2 and v3: few maps between blocks, many inside, one filter a map."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise import Depthwise
from striate.layers.squeeze_excitation import SqueezeExcitation

__all__ = ["InvertedResidual", "InvertedResidualShape"]


@dataclass(frozen=True, slots=True)
class InvertedResidualShape:
    """What a block is made of."""

    channels: int  # maps that come in
    expanded: int  # maps inside; as many as come in: no expansion
    channels_out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    adds_input: bool = False  # the maps that come in are added to those that go out
    squeezed: int | None = None  # maps in the middle of the squeeze-and-excitation; None: there is none


class InvertedResidual(nn.Module):
    """1x1 to many maps -> depthwise -> 1x1 to few, without an activation after it (linear bottleneck).

    Sandler et al. 2018, arXiv:1801.04381, section
    3.3; squeeze and excitation inside as in Howard et al. 2019, arXiv:1905.02244, Figure 4.
    """

    def __init__(self, shape: InvertedResidualShape, activation: Callable[[], nn.Module], norm: Norm) -> None:
        super().__init__()
        inside = shape.expanded
        self.expand = (
            ConvolutionNorm(nn.Conv2d(shape.channels, inside, 1, bias=False), activation(), norm)
            if inside != shape.channels
            else None
        )
        depthwise = Depthwise(inside, shape.kernel, shape.stride, shape.dilation)
        self.depthwise = ConvolutionNorm(depthwise, activation(), norm)
        self.squeeze = None if shape.squeezed is None else SqueezeExcitation(inside, shape.squeezed)
        self.project = ConvolutionNorm(nn.Conv2d(inside, shape.channels_out, 1, bias=False), None, norm)
        self.adds_input = shape.adds_input

    def forward(self, maps: Tensor) -> Tensor:
        projected = self.narrowed(self.widened(maps))
        if self.adds_input:
            projected += maps
        return projected

    def widened(self, maps: Tensor) -> Tensor:
        """The many maps (B, expanded, H, W) inside, before the depthwise convolution."""
        return maps if self.expand is None else self.expand(maps)

    def narrowed(self, inside: Tensor) -> Tensor:
        """What the block makes of `widened` before it adds its input: (B, channels_out, H / stride, ...)."""
        inside = self.depthwise(inside)  # (B, expanded, H / stride, W / stride)
        if self.squeeze is not None:
            inside = self.squeeze(inside)
        projected: Tensor = self.project(inside)
        return projected
