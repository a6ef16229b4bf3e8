"""What a reader of any format gives: items with their labels, and where the pictures lie."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from striate.data.decode import decode_image
from striate.structures import Image, Objects, Sample, Task

__all__ = ["PARTS", "BlockStorage", "Dataset", "Finding", "Item", "Masks", "Part", "Storage"]

Part = Literal["train", "val", "test", ""]
"""What an item is for; empty where the source does not say."""

PARTS: tuple[Part, ...] = ("train", "val", "test")


class Storage(Protocol):
    """Where the pictures of a dataset lie: a folder, a zip, an array, a function that draws."""

    def content(self, key: str) -> Path | bytes | Image:
        """The picture `key`: a file to decode, its bytes, or the pixels themselves."""
        ...


class Masks(Protocol):
    """Where the masks of a dataset lie: files beside the pictures, or outlines in a list."""

    def mask(self, key: str) -> NDArray[np.uint8]:
        """The class id of each pixel of the mask `key`, (H, W); IGNORE where none is known.

        Raises DataError naming the file, or the annotation in it, that no mask can be made of.
        """
        ...


@runtime_checkable
class BlockStorage(Storage, Protocol):
    """A storage of pictures that are best read together, such as those of one tar."""

    def block_of(self, key: str) -> int:
        """The number of the block that the picture `key` is in."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a dataset, not yet read."""

    key: str  # unique in the dataset: the path below its root, or `train-images-idx3-ubyte[17]`
    part: Part = ""
    label: int | None = None  # class id, for classification
    objects: Objects | None = None  # for detection
    mask: str | None = None  # for segmentation: what `Dataset.masks` calls its mask
    ids: tuple[str, ...] = ()  # what its file calls each of the objects, by row: "object 3", "line 7"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `check` or a reader noticed; `error` findings are left out of training."""

    file: str  # key of the picture, or path of the file
    id: str  # of the annotation in it, empty for the whole file
    level: Literal["error", "warning", "note"]
    code: str  # short and stable: "unreadable", "duplicate", "leak"
    message: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """Plain data for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """Pictures with their labels, in a stable order; nothing is decoded until `sample` is called."""

    name: str  # as the user gave it
    format: str  # "class folders", "csv", "idx", ...
    task: Task
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    storage: Storage
    notes: tuple[str, ...] = ()  # what was decided for the user, to be shown: the split, a skipped folder
    findings: tuple[Finding, ...] = ()  # what the reader had to leave out
    masks: Masks | None = None  # of a segmentation dataset
    stated_sizes: Mapping[str, tuple[int, int]] | None = None  # key -> height, width as the labels state them

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        counts = Counter(item.part for item in self.items)
        parts = ", ".join(f"{part} {counts[part]:,}" for part in PARTS if counts[part])
        split = f" ({parts})" if parts else ""
        pictures = f"{len(self):,} pictures{split}, {len(self.classes)} classes"
        return f"Dataset({self.name}: {self.format}, {pictures})"

    def indices(self, part: Part) -> NDArray[np.int64]:
        """Positions in `items` of the pictures of `part`, ascending."""
        return np.array([i for i, item in enumerate(self.items) if item.part == part], np.int64)

    def labels(self) -> NDArray[np.int64]:
        """Class id of each item, (len(self),); -1 where there is none."""
        return np.array([-1 if item.label is None else item.label for item in self.items], np.int64)

    def blocks(self) -> NDArray[np.int64] | None:
        """Which items are best read together: equal numbers, (len(self),); None where order is no matter."""
        if not isinstance(self.storage, BlockStorage):
            return None
        return np.array([self.storage.block_of(item.key) for item in self.items], np.int64)

    def sample(self, index: int) -> Sample:
        """Item `index` with its picture decoded, and its mask. Raises DataError naming the file."""
        item = self.items[index]
        return Sample(item.key, self.image(index), item.label, item.objects, self.mask(index))

    def image(self, index: int) -> Image:
        """The picture of item `index` decoded. Raises DataError naming the file."""
        key = self.items[index].key
        return decode_image(self.storage.content(key), name=key)

    def mask(self, index: int) -> NDArray[np.uint8] | None:
        """The mask of item `index`, (H, W) uint8; None without one. Raises DataError naming its file."""
        key = self.items[index].mask
        return None if key is None or self.masks is None else self.masks.mask(key)

    def truth(self, index: int) -> int | Objects | NDArray[np.uint8] | None:
        """What is known of item `index`: its class id, its objects or its mask; None where nothing is."""
        item = self.items[index]
        known = {"classification": item.label, "detection": item.objects}
        return known[self.task] if self.task in known else self.mask(index)

    def only(self, indices: Iterable[int]) -> "Dataset":
        """The same dataset with just these items, in this order."""
        return replace(self, items=tuple(self.items[i] for i in indices))
