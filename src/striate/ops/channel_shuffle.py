"""Mixing the maps of grouped convolutions without arithmetic."""

from torch import Tensor

__all__ = ["channel_shuffle"]


def channel_shuffle(maps: Tensor, groups: int) -> Tensor:
    """`maps` (B, C, H, W) dealt out by turns: the first map of each group, then the second of each, ...

    `groups` divides C. Without it a stack of grouped convolutions never mixes its groups. Source: Zhang
    et al. 2018, arXiv:1707.01083, section 3.1.
    """
    batch, channels, height, width = maps.shape
    grouped = maps.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)
