"""Masks as files: the values that a file stores, and what they mean.

A mask is read as it is stored. Of a palette the indices count and never the colours, gray of 1, 2 or 4 bits
keeps its small numbers, and EXIF turns nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from striate.data.dataset import Storage
from striate.data.decode import decode_with
from striate.errors import DataError, LabelError
from striate.structures import IGNORE

__all__ = [
    "Coding",
    "Color",
    "ColorCoding",
    "IndexCoding",
    "InstanceCoding",
    "MaskFiles",
    "Values",
    "is_colored",
    "stored_values",
]

Values: TypeAlias = NDArray[np.integer]
"""What a file stores: whole numbers (H, W), or uint8 colours (H, W, 3)."""

Color: TypeAlias = tuple[int, int, int]
"""Red, green and blue, each 0..255."""

_RESAVE = "save it as PNG of one channel, the class ids as its values"


class Coding(Protocol):
    """What the values of a mask mean."""

    def class_ids(self, values: Values, key: str) -> NDArray[np.uint8]:
        """The class id of each pixel, (H, W); IGNORE where none is known.

        Raises LabelError naming `key` and the first pixel that is no class.
        """
        ...


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """Masks that are picture files in `storage`, all coded alike."""

    storage: Storage
    coding: Coding

    def mask(self, key: str) -> NDArray[np.uint8]:
        """The class ids of the file `key`, (H, W). Raises DataError naming it."""
        return self.coding.class_ids(stored_values(self.storage.content(key), key), key)


# --- reading ----------------------------------------------------------------------------------------


def stored_values(source: Path | bytes | NDArray[np.uint8], name: str) -> Values:
    """The values in the file of a mask: whole numbers (H, W), or uint8 colours (H, W, 3).

    Transparency is dropped. Raises DataError as `decode_image` does, and for a JPEG, whose compression
    changes labels, for colours of 16 bits, floats and other pixels that are neither numbers nor colours.
    """
    if isinstance(source, np.ndarray):
        return source[:, :, 0] if source.ndim == 3 and source.shape[2] == 1 else source
    return decode_with(source, name, _values)


def _values(image: PIL.Image.Image, content: bytes, name: str) -> Values:
    if image.format == "JPEG":
        raise DataError(name, "it is a JPEG, whose compression changes labels", _RESAVE)
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        values = np.array(image, np.uint8) if image.mode == "1" else np.array(image)
        return values // (255 // _full_scale(image, content))
    if image.mode in ("RGB", "RGBA", "RGBX"):
        if image.format == "PNG" and content[_PNG_BIT_DEPTH] == 16:
            raise DataError(name, "it has colours of 16 bits, of which 8 would be lost", _RESAVE)
        return np.array(image)[:, :, :3]
    raise DataError(name, f"its pixels ({image.mode}) are neither numbers nor colours", _RESAVE)


_PNG_BIT_DEPTH = 24  # where this byte lies in a PNG
_TIFF_BITS = 258


def _full_scale(image: PIL.Image.Image, content: bytes) -> int:
    """The largest stored value of gray that Pillow has stretched to 0..255; 255 where it has not."""
    if image.mode != "L":
        return 255
    depth = 8
    if image.format == "PNG":
        depth = content[_PNG_BIT_DEPTH]
    elif image.format == "TIFF":
        (depth, *_) = getattr(image, "tag_v2", {}).get(_TIFF_BITS, (8,))
    return (1 << depth) - 1 if depth in (2, 4) else 255


def is_colored(values: Values) -> bool:
    """Whether they are colours, and not all gray: then the colours are the labels."""
    return values.ndim == 3 and not bool((values == values[:, :, :1]).all())


# --- what the values mean ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexCoding:
    """Each number has a class: `ids` maps what is stored to a class id or IGNORE."""

    ids: Mapping[int, int]

    def class_ids(self, values: Values, key: str) -> NDArray[np.uint8]:
        indices = _indices(values, key)
        beyond = max(self.ids) + 1  # stands for every number that is no key
        table = np.full(beyond + 1, -1, np.int16)
        for value, class_id in self.ids.items():
            table[value] = class_id
        found = table[np.where((indices < 0) | (indices > beyond), beyond, indices)]
        if (found < 0).any():
            row, column = np.argwhere(found < 0)[0].tolist()
            raise LabelError(
                key,
                f"its pixel at column {column}, row {row} has {indices[row, column]}, which is no class",
                f"the classes are {_listed(self.ids)}: correct the mask or the list of classes",
            )
        class_ids: NDArray[np.uint8] = found.astype(np.uint8)
        return class_ids


@dataclass(frozen=True, slots=True)
class InstanceCoding:
    """0 is the background, class 0; every other number is an object, and all objects are class 1."""

    void: int | None = None  # the number that is IGNORE

    def class_ids(self, values: Values, key: str) -> NDArray[np.uint8]:
        indices = _indices(values, key)
        ids: NDArray[np.uint8] = (indices != 0).astype(np.uint8)
        if self.void is not None:
            ids[indices == self.void] = IGNORE
        return ids


@dataclass(frozen=True, slots=True)
class ColorCoding:
    """Each colour has a class: `ids` maps it to a class id or IGNORE."""

    ids: Mapping[Color, int]

    def class_ids(self, values: Values, key: str) -> NDArray[np.uint8]:
        colors = values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)
        packed = _packed(colors)
        codes = _packed(np.array(sorted(self.ids)))  # sorted as the colours are
        places = np.minimum(np.searchsorted(codes, packed), len(codes) - 1)
        if (wrong := codes[places] != packed).any():
            row, column = np.argwhere(wrong)[0].tolist()
            color = ", ".join(map(str, colors[row, column].tolist()))
            raise LabelError(
                key,
                f"its pixel at column {column}, row {row} has the colour {color}, which is in no table",
                "add that colour to the table of classes, or correct the mask",
            )
        by_place = np.array([self.ids[color] for color in sorted(self.ids)], np.uint8)
        class_ids: NDArray[np.uint8] = by_place[places]
        return class_ids


def _packed(colors: Values) -> NDArray[np.int64]:
    """One number for each colour (..., 3): two are equal only where the colours are."""
    red, green, blue = (colors[..., channel].astype(np.int64) for channel in range(3))
    return red << 16 | green << 8 | blue


def _indices(values: Values, key: str) -> Values:
    """One number a pixel, (H, W). Raises LabelError for colours, unless all of them are gray."""
    if is_colored(values):
        raise LabelError(key, "its labels are colours, and those of others are numbers", _RESAVE)
    return values if values.ndim == 2 else values[:, :, 0]


def _listed(ids: Mapping[int, int]) -> str:
    """The numbers that are classes, as ranges: "0..10, 255"."""
    ranges: list[list[int]] = []
    for value in sorted(ids):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ", ".join(f"{low}..{high}" if low < high else str(low) for low, high in ranges)
