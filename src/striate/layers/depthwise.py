"""A convolution with one filter for each map."""

import torch
from torch import Tensor, nn

__all__ = ["Depthwise"]


class Depthwise(nn.Conv2d):
    """Each map with a kernel of its own: (B, C, H, W) to (B, C, H / stride, W / stride), no bias.

    Padded so that stride 1 keeps the size. Under autocast on a CPU all but the plain 3x3 compute in
    float32: in bf16, oneDNN's gradient of the input takes 15 times as long with a stride, and that of the
    weights 4 times with a larger kernel or dilation, more than the rest of a step.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels,
            channels,
            kernel,
            stride,
            padding=kernel // 2 * dilation,
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.suits_bf16 = (kernel, stride, dilation) == (3, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        if not self.suits_bf16 and maps.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(maps.float())
        return super().forward(maps)
