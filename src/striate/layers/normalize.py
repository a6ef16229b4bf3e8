"""The first layer of every network: pixels in, normalised values out."""

import torch
from torch import Tensor, nn

from striate.errors import UsageError
from striate.structures import Preprocess

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """`(x * scale - mean) / std` of pictures (B, C, H, W), uint8 or float in 0..255, as float.

    Made from the preprocessing spec, so that the exported graph takes pixels too. One multiplication
    and one addition a value: factor = scale / std, shift = -mean / std. The constants are not part
    of the weights; the model file's preprocessing spec holds them.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        # In Python's numbers: on the meta device even this division of tensors would import the compiler.
        factor = [preprocess.scale / std for std in preprocess.std]
        shift = [-mean / std for mean, std in zip(preprocess.mean, preprocess.std, strict=True)]
        self.swap_channels = preprocess.channel_order == "bgr"
        self.channels = preprocess.channels
        for name, values in (("factor", factor), ("shift", shift)):
            constants = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, constants, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise UsageError(
                "images",
                f"this network takes (B, {self.channels}, H, W), got {tuple(images.shape)}",
                "prepare pictures with the network's own preprocessing",
            )
        # mean and std are in the order of the channels as they come; the swap is last.
        values = images.to(self.factor.dtype) * self.factor + self.shift
        return values.flip(1) if self.swap_channels else values

    def extra_repr(self) -> str:
        return f"factor={self.factor.flatten().tolist()}, shift={self.shift.flatten().tolist()}"
