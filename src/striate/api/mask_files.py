"""The masks of many pictures as files: one for programs, one for eyes."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image as PillowImage

from striate.api.inputs import Pictures
from striate.api.result_files import names_below, refuse_filled
from striate.data.decode import decode_image
from striate.files import atomic_write
from striate.structures import Segmentation
from striate.tasks.segmentation import draw, index_image

__all__ = ["MaskFolder"]

MASKS, OVERLAYS = "masks", "overlays"


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """A folder that gets `masks/NAME.png` and `overlays/NAME.jpg` for each of `pictures`.

    A mask has the size of its picture and holds class ids, 255 where there is none, with a palette so that
    viewers show colours. Names are those of the pictures below the folder that all of them share. Raises
    UsageError where the folder is there already with anything in it, unless it `is_begun`.
    """

    folder: Path
    pictures: Pictures
    is_begun: bool = False
    names: dict[str, str] = field(init=False)  # of each picture's key, without a suffix
    numbers: dict[str, int] = field(init=False)  # of each picture's key, its place among them

    def __post_init__(self) -> None:
        if not self.is_begun:
            refuse_filled(self.folder)
        object.__setattr__(self, "names", names_below(self.pictures.keys))
        numbers = {key: number for number, (key, _, _) in enumerate(self.pictures.places)}
        object.__setattr__(self, "numbers", numbers)

    def write(self, result: Segmentation) -> None:
        """Write the two files of one result. Raises DiskFull, EnvironmentProblem."""
        name = self.names[result.key]
        with atomic_write(self.folder / MASKS / f"{name}.png") as file:
            index_image(result).save(file, "PNG")
        image = decode_image(self.pictures.content(self.numbers[result.key]), name=result.key)
        with atomic_write(self.folder / OVERLAYS / f"{name}.jpg") as file:
            PillowImage.fromarray(draw(image, result)).save(file, "JPEG", quality=90)
