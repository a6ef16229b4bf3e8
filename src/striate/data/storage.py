"""Pictures that already lie in memory, as a dataset's storage."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError
from striate.structures import Image

__all__ = ["ArrayStorage", "JoinedStorage", "index_of"]


def index_of(key: str, prefix: str, count: int) -> int:
    """The 17 of `prefix[17]`. Raises DataError where `key` is not one of `prefix[0]`..`prefix[count-1]`."""
    digits = key[len(prefix) + 1 : -1]
    index = int(digits) if digits.isascii() and digits.isdigit() else -1
    if key != f"{prefix}[{index}]" or not 0 <= index < count:
        raise DataError(
            key, "there is no such picture", f"keys run from {prefix}[0] to {prefix}[{count - 1}]"
        )
    return index


@dataclass(frozen=True, slots=True)
class ArrayStorage:
    """Pictures of one size: `images` (N, H, W, C) uint8, C = 1 or 3; the keys are `prefix[0]`..."""

    images: NDArray[np.uint8]
    prefix: str

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(
                self.prefix,
                f"pictures are uint8 (N, H, W, 1 or 3), got {images.dtype} {images.shape}",
                "reshape gray pictures to (N, H, W, 1) and scale the values to 0..255",
            )

    def __len__(self) -> int:
        return len(self.images)

    def keys(self) -> tuple[str, ...]:
        """The key of each picture, in order."""
        return tuple(f"{self.prefix}[{index}]" for index in range(len(self.images)))

    def content(self, key: str) -> Image:
        """The picture `key` (H, W, C), a view of `images`. Raises DataError for a key that is not here."""
        image: Image = self.images[index_of(key, self.prefix, len(self.images))]
        return image


@dataclass(frozen=True, slots=True)
class JoinedStorage:
    """Several arrays as one storage, such as a train and a test file; their prefixes differ."""

    parts: tuple[ArrayStorage, ...]

    def __post_init__(self) -> None:
        prefixes = [part.prefix for part in self.parts]
        if len(set(prefixes)) != len(prefixes):
            raise DataError(", ".join(prefixes), "two arrays share a prefix", "give each its own")

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def keys(self) -> tuple[str, ...]:
        """The key of each picture, the parts one after the other."""
        return tuple(chain.from_iterable(map(ArrayStorage.keys, self.parts)))

    def content(self, key: str) -> Image:
        """The picture `key` (H, W, C), a view. Raises DataError for a key that is in no part."""
        for part in self.parts:
            if key.startswith(f"{part.prefix}["):
                return part.content(key)
        raise DataError(
            key,
            "there is no such picture",
            f"keys begin with {', '.join(part.prefix for part in self.parts)}",
        )
