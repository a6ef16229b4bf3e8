"""The masks of many pictures as files: one for programs, one for eyes."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from PIL import Image as PillowImage

from striate.api.inputs import Pictures
from striate.data.decode import decode_image
from striate.errors import UsageError
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
    UsageError where the folder is there already with anything in it.
    """

    folder: Path
    pictures: Pictures
    names: dict[str, str] = field(init=False)  # of each picture's key, without a suffix
    numbers: dict[str, int] = field(init=False)  # of each picture's key, its place among them

    def __post_init__(self) -> None:
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(
                f"--out {self.folder}", "there is something there already", "choose a new folder"
            )
        keys = [key for key, _, _ in self.pictures.places]
        object.__setattr__(self, "names", _names(keys))
        object.__setattr__(self, "numbers", {key: number for number, key in enumerate(keys)})

    def write(self, result: Segmentation) -> None:
        """Write the two files of one result. Raises DiskFull, EnvironmentProblem."""
        name = self.names[result.key]
        with atomic_write(self.folder / MASKS / f"{name}.png") as file:
            index_image(result).save(file, "PNG")
        image = decode_image(self.pictures.content(self.numbers[result.key]), name=result.key)
        with atomic_write(self.folder / OVERLAYS / f"{name}.jpg") as file:
            PillowImage.fromarray(draw(image, result)).save(file, "JPEG", quality=90)


def _names(keys: list[str]) -> dict[str, str]:
    """A name for each key: its path below what all share; with the suffix where two would be the same."""
    paths = [PurePath(os.path.abspath(key)) for key in keys]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    names = [path.relative_to(shared).with_suffix("").as_posix() for path in paths]
    often = Counter(names)
    return {
        key: name if often[name] == 1 else path.relative_to(shared).as_posix()
        for key, name, path in zip(keys, names, paths, strict=True)
    }
