"""The gate in front of a network whose maps must halve evenly: only multiples of its stride pass."""

from torch import Tensor, nn

from striate.errors import UsageError
from striate.structures import Preprocess

__all__ = ["SizeMultiple"]


class SizeMultiple(nn.Module):
    """The pictures as they came, refused where their height or width is no multiple of `multiple` pixels.

    Raises UsageError on creation where the spec's size is none.
    """

    def __init__(self, preprocess: Preprocess, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self._check("preprocess.size", *preprocess.size)

    def forward(self, images: Tensor) -> Tensor:
        self._check("images", images.shape[-2], images.shape[-1])
        return images

    def extra_repr(self) -> str:
        return f"{self.multiple}"

    def _check(self, where: str, height: int, width: int) -> None:
        if height % self.multiple or width % self.multiple:
            nearest = (max(1, round(side / self.multiple)) * self.multiple for side in (height, width))
            raise UsageError(
                where,
                f"this network needs sides that are multiples of {self.multiple}, got {height}x{width}",
                "use {}x{}".format(*nearest),
            )
