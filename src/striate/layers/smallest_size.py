"""The gate in front of a network that takes any size, down to where its maps would vanish."""

from collections.abc import Iterable

from torch import Tensor, nn

from striate.errors import UsageError
from striate.structures import Preprocess

__all__ = ["SmallestSize", "smallest_side"]


class SmallestSize(nn.Module):
    """The pictures as they came, refused where their height or width is under `side` pixels.

    Raises UsageError on creation where the spec's size is.
    """

    def __init__(self, preprocess: Preprocess, side: int) -> None:
        super().__init__()
        self.side = side
        if min(preprocess.size) < side:
            height, width = preprocess.size
            raise UsageError(
                "preprocess.size",
                f"this network needs at least {side} pixels a side, got {height}x{width}",
                f"set preprocess.size to {side}x{side} or more",
            )

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height < self.side or width < self.side:
            raise UsageError(
                "images",
                f"this network needs at least {self.side} pixels a side, got {height}x{width}",
                "prepare pictures with the network's own preprocessing",
            )
        return images

    def extra_repr(self) -> str:
        return f"{self.side}"


def smallest_side(layers: Iterable[nn.Module]) -> int:
    """The fewest pixels a side for which square convolutions and max pools in a row leave a map.

    Layers of other kinds are taken to keep the size.
    """
    side = 1
    for layer in reversed(list(layers)):
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding, dilation = (
                _first(setting)
                for setting in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            )
            reach = dilation * (kernel - 1) + 1
            needed = (side - 1) * stride + reach - 2 * padding
            if isinstance(layer, nn.MaxPool2d) and layer.ceil_mode:
                # The last window may hang over the end, but has to start before it.
                needed = max(needed - (stride - 1), (side - 1) * stride - padding + 1)
            side = max(1, needed)
    return side


def _first(setting: object) -> int:
    first = setting[0] if isinstance(setting, tuple) else setting
    if not isinstance(first, int):
        raise TypeError(f"{setting!r} is no number of pixels")
    return first
