"""The gate in front of a network whose fully connected layers fix the size of its input."""

from torch import Tensor, nn

from striate.errors import UsageError
from striate.structures import Preprocess

__all__ = ["FixedSize"]


class FixedSize(nn.Module):
    """The pictures as they came, refused unless their height and width are those of the spec.

    Raises UsageError on creation where a side is under `at_least` pixels: the valid convolutions and
    pools behind it would leave no map.
    """

    def __init__(self, preprocess: Preprocess, at_least: int = 1) -> None:
        super().__init__()
        if min(preprocess.size) < at_least:
            raise UsageError(
                "preprocess.size",
                f"this network needs {at_least} pixels a side, got {_text(preprocess.size)}",
                f"set preprocess.size to {at_least}x{at_least} or more",
            )
        self.size = preprocess.size

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != self.size:
            raise UsageError(
                "images",
                f"this network takes pictures of {_text(self.size)}, got {_text(images.shape[2:])}",
                "prepare pictures with the network's own preprocessing, at a fixed size",
            )
        return images

    def extra_repr(self) -> str:
        return _text(self.size)


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
