"""`shapes_masks`: the pictures of `shapes` with the class of each pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.builtin.shapes import MASK_CLASSES, ShapesStorage, arrange
from striate.data.dataset import Dataset, Item
from striate.data.storage import index_of

__all__ = ["DESCRIPTION", "ShapesMasks", "read"]

DESCRIPTION = "600 pictures drawn on the spot, 64x64 colour, masks of 6 shapes and the background"

COUNT, SIZE, SEED = 600, 64, 0


@dataclass(frozen=True, slots=True)
class ShapesMasks:
    """Draws the mask of `shapes[index]` whenever it is asked for; keeps none."""

    count: int
    size: int
    seed: int

    def mask(self, key: str) -> NDArray[np.uint8]:
        """The mask (size, size). Raises DataError for a key that is not one of `count`."""
        return arrange(index_of(key, "shapes", self.count), self.size, self.seed).mask


def read() -> Dataset:
    """The pictures and their masks."""
    keys = [f"shapes[{index}]" for index in range(COUNT)]
    return Dataset(
        name="shapes_masks",
        format="built in",
        task="segmentation",
        classes=MASK_CLASSES,
        items=tuple(Item(key, mask=key) for key in keys),
        storage=ShapesStorage(COUNT, SIZE, SEED),
        masks=ShapesMasks(COUNT, SIZE, SEED),
    )
