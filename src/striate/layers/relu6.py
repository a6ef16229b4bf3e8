"""min(max(x, 0), 6), for training without a copy of its input."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ReLU6"]

_LOW, _HIGH = 0.0, 6.0


class ReLU6(nn.ReLU6):
    """`torch.nn.ReLU6(inplace=True)` that keeps no second map for the gradient.

    torch's reads the input there, so that it has to copy it before it overwrites it. The output tells as
    well where the gradient passes. Maps that are not float32 are left as they came on a CPU, where to
    overwrite bf16 takes more than twice as long as to write it elsewhere.
    """

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        overwrites = maps.device.type != "cpu" or maps.dtype == torch.float32
        if torch.is_grad_enabled() and maps.requires_grad:
            clipped: Tensor = _Clip.apply(maps, overwrites)
            return clipped
        return F.relu6(maps, inplace=overwrites)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, overwrites: bool) -> Tensor:
        clipped = maps.clamp_(_LOW, _HIGH) if overwrites else maps.clamp(_LOW, _HIGH)
        if overwrites:
            ctx.mark_dirty(clipped)
        ctx.save_for_backward(clipped)
        return clipped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (clipped,) = ctx.saved_tensors
        # 0 < output < 6 where 0 < input < 6, and nowhere else.
        return torch.ops.aten.hardtanh_backward(gradient, clipped, _LOW, _HIGH), None
