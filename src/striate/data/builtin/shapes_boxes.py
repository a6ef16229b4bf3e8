"""`shapes_boxes`: the pictures of `shapes` with a box around each shape."""

from striate.data.builtin.shapes import CLASSES, ShapesStorage, arrange
from striate.data.dataset import Dataset, Item

__all__ = ["DESCRIPTION", "read"]

DESCRIPTION = "600 pictures drawn on the spot, 64x64 colour, boxes around 1 to 4 shapes of 6 classes"

COUNT, SIZE, SEED = 600, 64, 0


def read() -> Dataset:
    """The pictures and their boxes."""
    scenes = [arrange(index, SIZE, SEED) for index in range(COUNT)]
    return Dataset(
        name="shapes_boxes",
        format="built in",
        task="detection",
        classes=CLASSES,
        items=tuple(Item(f"shapes[{index}]", objects=scene.objects) for index, scene in enumerate(scenes)),
        storage=ShapesStorage(COUNT, SIZE, SEED),
    )
