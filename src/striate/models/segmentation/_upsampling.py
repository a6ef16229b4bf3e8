"""Scores of a coarse grid at the size of the picture, where DeepLab's maps put their values."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["upsampled"]


def upsampled(maps: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """`maps` (B, C, h, w), whose value j lies on pixel `stride * j`, at `size`, bilinear.

    Pixels behind the last value have that value. For sides of `stride * n + 1` pixels it is torch's
    align_corners=True: 41 values fit 321 pixels.
    """
    height, width = size
    edged = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    # stride * count + 1 pixels, said so that an exporter can see that it is more than `size`.
    whole = [side + stride - (side - 1) % stride for side in size]
    return F.interpolate(edged, whole, mode="bilinear", align_corners=True)[..., :height, :width]
