"""Upsampling as a layer that can learn: a transposed convolution that starts as bilinear interpolation."""

import torch
from torch import Tensor, nn

__all__ = ["BilinearUpsampling"]


class BilinearUpsampling(nn.ConvTranspose2d):
    """`channels` maps (h, w) -> as many of (h + 1) * factor a side, which overhang by factor / 2.

    The kernel has 2 * factor pixels a side and no bias. Each map starts with a bilinear filter of its own and
    does not see the others; what is learned may mix them. Value j of the input lies in the middle of its
    kernel, at pixel `j * factor + factor - 0.5` of the output. Source: Long et al. 2015 (arXiv:1411.4038),
    section 3.3.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 2 * factor, factor, bias=False)

    def reset_parameters(self) -> None:
        if self.weight.is_meta:  # nothing to fill
            return
        with torch.no_grad():
            self.weight.zero_()
            self.weight.diagonal().copy_(_filter(self.stride[0])[:, :, None])


def _filter(factor: int) -> Tensor:
    """The bilinear kernel (2 * factor, 2 * factor): 1 in its middle, 0 one factor away."""
    distances = torch.arange(2 * factor) - (factor - 0.5)
    tent = 1 - distances.abs() / factor
    return tent[:, None] * tent
