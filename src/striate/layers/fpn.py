"""The feature pyramid network: maps of a backbone, each enriched with the coarser ones."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FPN"]


class FPN(nn.Module):
    """A 1x1 for each map, the coarser one added from above, a 3x3: maps of `channels` each.

    Lin et al. 2017 (arXiv:1612.03144), section 3. The weights begin as torchvision's do.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in inputs)
        self.layer = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        for convolution in (*self.inner, *self.layer):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            nn.init.zeros_(convolution.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`maps`, finest first, (B, C_i, H_i, W_i); the results have the same sizes."""
        merged = self.inner[-1](maps[-1])
        found = [self.layer[-1](merged)]
        for level in range(len(maps) - 2, -1, -1):
            finer = self.inner[level](maps[level])
            merged = finer + F.interpolate(merged, finer.shape[-2:], mode="nearest")
            found.append(self.layer[level](merged))
        return tuple(reversed(found))
