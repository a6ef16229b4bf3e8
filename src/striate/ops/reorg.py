"""Darknet's way of folding fine maps into coarse ones with more channels."""

from torch import Tensor

__all__ = ["reorg"]


def reorg(maps: Tensor, stride: int = 2) -> Tensor:
    """Maps (B, C, H, W) as (B, C * stride^2, H / stride, W / stride), in the order of darknet's `reorg`.

    C is a multiple of stride^2, H and W of stride. Not `pixel_unshuffle`: the flat values of a picture are
    read as maps (C / stride^2, H * stride, W * stride), each block of stride x stride of which is spread over
    channels that are C / stride^2 apart, and the result, of shape (C, H, W), is read as the coarse maps. A
    coarse value so stands for another place of the picture; weights made with darknet count on that.
    """
    channels, height, width = maps.shape[-3:]
    blocks = maps.reshape(-1, channels // stride**2, height, stride, width, stride)
    spread = blocks.permute(0, 3, 5, 1, 2, 4)  # (B, stride, stride, C / stride^2, H, W)
    return spread.reshape(-1, channels * stride**2, height // stride, width // stride)
