"""Numbers about the pictures of a dataset: what is measured of each one, and what they come to."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.box_findings import BoxTable, contents_of
from striate.data.dataset import PARTS, Dataset, Item, Part
from striate.data.overlaps import areas
from striate.data.similarity import SIDE, thumbnail
from striate.structures import Image

__all__ = ["DataFacts", "Failure", "Ints", "Measured", "facts_of", "is_training"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Numbers about the usable pictures of a dataset."""

    pictures: int
    counts: dict[str, dict[str, int]]  # class -> part -> pictures that show it; part "" where none is stated
    heights: tuple[int, int, int]  # smallest, median, largest, in pixels; zeros if there is no picture
    widths: tuple[int, int, int]
    uniform: bool  # all of one size
    gray: bool  # all of one channel
    # Over all pixels of the training pictures (of all, if none is for training), 0..1, one value per channel
    # (1 if gray, else 3).
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoded_bytes: int  # of all pictures as uint8 pixels
    fingerprint: str  # SHA-256 over the sorted keys, classes, pixel hashes, masks and boxes
    pixels: dict[str, dict[str, int]] = field(default_factory=dict)  # of masks: class -> part -> pixels
    boxes: dict[str, dict[str, int]] = field(default_factory=dict)  # class -> part -> usable boxes
    boxes_each: tuple[int, int, int] = (0, 0, 0)  # of a picture: fewest, median, most
    # Square root of a box's share of its picture, 0..1: smallest, median, largest.
    box_sides: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


class Failure(NamedTuple):
    """Why a picture or its mask cannot be used; the error itself would hold on to the file's bytes."""

    file: str
    code: str
    message: str
    fix: str


class Measured:
    """What is kept of each picture, in a slot of its own, so that threads may fill it in any order."""

    def __init__(self, count: int, near_duplicates: bool, classes: int = 0) -> None:
        self.shapes = np.zeros((count, 3), np.int64)  # height, width, channels; zeros if unreadable
        self.digests = np.zeros((count, 2), np.uint64)
        self.sums = np.zeros((count, 3), np.int64)  # of the pixels of each channel; gray counts as R = G = B
        self.squares = np.zeros((count, 3), np.int64)
        self.even = np.zeros(count, np.bool_)  # whether all pixels are equal
        self.thumbnails = np.zeros((count if near_duplicates else 0, SIDE, SIDE), np.uint8)
        self.comparable = np.zeros(count, np.bool_)  # whether there is a thumbnail
        self.failures: dict[int, Failure] = {}
        # Of the masks of `classes` classes; zeros without a mask.
        self.pixels = np.zeros((count, classes), np.uint32)  # that show each class
        self.mask_digests = np.zeros((count, 2), np.uint64)
        self.boxes = BoxTable.empty()  # of all pictures together, once they are measured

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which pictures decoded, (items,)."""
        return self.shapes[:, 0] > 0

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Which pictures decoded and fit what is known of them, (items,)."""
        sound = self.readable
        sound[list(self.failures)] = False
        return sound

    def record(self, index: int, image: Image) -> None:
        """Take what is needed of picture `index`."""
        self.shapes[index] = image.shape
        self.digests[index] = np.frombuffer(_digest(image), np.uint64)
        self.sums[index], self.squares[index] = _moments(image)
        self.even[index] = _is_even(image)
        if len(self.thumbnails) and (small := thumbnail(image)) is not None:
            self.thumbnails[index] = small
            self.comparable[index] = True

    def record_mask(self, index: int, mask: NDArray[np.uint8]) -> None:
        """Take what is needed of the mask of picture `index`."""
        self.mask_digests[index] = np.frombuffer(_digest(mask), np.uint64)
        classes = self.pixels.shape[1]
        self.pixels[index] = np.bincount(mask.reshape(-1), minlength=256)[:classes]

    def groups(self) -> Ints:
        """For each picture, the first index with the same pixels; -1 where no other has them."""
        groups = np.full(len(self.shapes), -1, np.int64)
        indices = np.flatnonzero(self.readable)
        _, first, inverse, counts = np.unique(
            self.digests[indices], axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(-1)  # numpy 2.0 alone gives it a second axis
        shared = counts[inverse] > 1
        groups[indices[shared]] = indices[first[inverse[shared]]]
        return groups


def _digest(image: NDArray[np.uint8]) -> bytes:
    """16 bytes that two pictures or masks share only if their shape and pixels are equal."""
    hasher = hashlib.blake2b(np.array(image.shape, "<u4").tobytes(), digest_size=16)
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.digest()


def _is_even(image: Image) -> bool:
    """Whether several pixels are all equal."""
    # The first row decides for nearly every picture.
    first = image[0, 0]
    return image.size > image.shape[2] and bool((image[0] == first).all() and (image == first).all())


def _moments(image: Image) -> tuple[Ints, Ints]:
    """Sum and sum of squares of each of three channels, exact."""
    pixels = image.reshape(-1, image.shape[2])
    sums, squares = np.zeros(image.shape[2]), np.zeros(image.shape[2])
    # Blocks that fit the processor's cache; float64 is exact up to 2**53, and 64 megapixels give 2**42.
    for start in range(0, len(pixels), 1 << 14):
        block = pixels[start : start + (1 << 14)].T.astype(np.float64)
        sums += block.sum(axis=1)
        squares += np.einsum("cp,cp->c", block, block)
    wide = np.broadcast_to([sums, squares], (2, 3)).astype(np.int64)
    return wide[0], wide[1]


def facts_of(dataset: Dataset, measured: Measured, usable: Ints) -> DataFacts:
    """The facts about the pictures `usable` (K,), indices into `dataset`."""
    shapes = measured.shapes[usable]
    gray = bool(len(usable)) and bool((shapes[:, 2] == 1).all())
    training = [index for index in usable.tolist() if is_training(dataset.items[index])]
    mean, std = _mean_and_std(measured, training or usable.tolist(), 1 if gray else 3)
    boxes = measured.boxes.of_items(usable)
    return DataFacts(
        pictures=len(usable),
        counts=_counts(dataset, measured, usable),
        heights=_spread(shapes[:, 0]),
        widths=_spread(shapes[:, 1]),
        uniform=len(np.unique(shapes[:, :2], axis=0)) == 1,
        gray=gray,
        mean=mean,
        std=std,
        decoded_bytes=int(shapes.prod(axis=1).sum()),
        fingerprint=_fingerprint(dataset, measured, usable),
        pixels=_by_part(dataset, measured.pixels, usable) if dataset.task == "segmentation" else {},
        boxes=_boxes_by_part(dataset, boxes, usable) if dataset.task == "detection" else {},
        boxes_each=_spread(np.bincount(boxes.items, minlength=len(dataset))[usable]),
        box_sides=_spread_of_sides(boxes),
    )


def _counts(dataset: Dataset, measured: Measured, usable: Ints) -> dict[str, dict[str, int]]:
    if dataset.task == "segmentation":
        return _by_part(dataset, measured.pixels > 0, usable)
    if dataset.task == "detection":
        return _boxes_by_part(dataset, measured.boxes.of_items(usable).first_of_class(), usable)
    found = Counter((dataset.items[index].label, dataset.items[index].part) for index in usable.tolist())
    parts = _parts(dataset, usable)
    return {name: {part: found[label, part] for part in parts} for label, name in enumerate(dataset.classes)}


def _by_part(
    dataset: Dataset, numbers: NDArray[np.uint32] | NDArray[np.bool_], usable: Ints
) -> dict[str, dict[str, int]]:
    """Class -> part -> sum of `numbers` (items, classes) over the usable items of that part."""
    sums = {
        part: numbers[[index for index in usable.tolist() if dataset.items[index].part == part]].sum(
            axis=0, dtype=np.int64
        )
        for part in _parts(dataset, usable)
    }
    return {
        name: {part: int(total[label]) for part, total in sums.items()}
        for label, name in enumerate(dataset.classes)
    }


def _boxes_by_part(dataset: Dataset, boxes: BoxTable, usable: Ints) -> dict[str, dict[str, int]]:
    """Class -> part -> how many of `boxes` there are."""
    part_of = [dataset.items[index].part for index in boxes.items.tolist()]
    found = Counter(zip(boxes.labels.tolist(), part_of, strict=True))
    parts = _parts(dataset, usable)
    return {name: {part: found[label, part] for part in parts} for label, name in enumerate(dataset.classes)}


def _parts(dataset: Dataset, usable: Ints) -> list[Part]:
    """The parts of the usable items, in the usual order; "" last."""
    found = {dataset.items[index].part for index in usable.tolist()}
    return [part for part in (*PARTS, "") if part in found]


def _spread(sides: Ints) -> tuple[int, int, int]:
    """Smallest, lower median and largest."""
    if not len(sides):
        return 0, 0, 0
    ranked = np.sort(sides)
    return int(ranked[0]), int(ranked[(len(ranked) - 1) // 2]), int(ranked[-1])


def _spread_of_sides(boxes: BoxTable) -> tuple[float, float, float]:
    """Smallest, lower median and largest square root of a box's share of its picture."""
    if not len(boxes):
        return 0.0, 0.0, 0.0
    ranked = np.sort(np.sqrt(areas(boxes.clipped) / boxes.sizes.prod(1)))
    return float(ranked[0]), float(ranked[(len(ranked) - 1) // 2]), float(ranked[-1])


def _mean_and_std(
    measured: Measured, indices: Sequence[int], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of all pixels of these pictures, per channel, 0..1; whole numbers until the last division."""
    pixels = int(measured.shapes[indices, :2].prod(axis=1).sum()) if indices else 0
    if not pixels:
        return (), ()
    sums = [int(total) for total in measured.sums[indices].sum(axis=0)[:channels]]
    squares = [int(total) for total in measured.squares[indices].sum(axis=0)[:channels]]
    mean = tuple(total / (pixels * 255) for total in sums)
    # n * sum(x^2) - sum(x)^2 is n^2 times the variance.
    std = tuple(
        math.sqrt((pixels * square - total * total) / (pixels * 255) ** 2)
        for total, square in zip(sums, squares, strict=True)
    )
    return mean, std


def _fingerprint(dataset: Dataset, measured: Measured, usable: Ints) -> str:
    hasher = hashlib.sha256()
    if dataset.task != "classification":
        hasher.update("\0".join(dataset.classes).encode(errors="surrogatepass"))
    for index in sorted(usable.tolist(), key=lambda index: dataset.items[index].key):
        item = dataset.items[index]
        name = "" if item.label is None else dataset.classes[item.label]
        # A file name may hold bytes that are no UTF-8; Python spells them as surrogates.
        hasher.update(f"{item.key}\0{name}\0".encode(errors="surrogatepass"))
        hasher.update(measured.digests[index].tobytes())
        if item.mask is not None:
            hasher.update(measured.mask_digests[index].tobytes())
        if dataset.task == "detection" and item.objects is not None:
            hasher.update(contents_of(item.objects))
    return hasher.hexdigest()


def is_training(item: Item) -> bool:
    """Whether the item is to be trained on, as far as is known before a split is made."""
    return item.part in ("train", "")
