"""Pictures that look the same without having the same pixels: re-encoded, resized, a shade brighter.

Each picture leaves a 16x16 gray thumbnail. Its hash says, for each of 8x8 cells, whether the cell to
the right is brighter (a "difference hash" that wraps around). Two pictures are near duplicates if
their hashes differ in at most 5 of 64 bits and their thumbnails correlate to 0.985 or more.
Measured on 200 photographs of clothes, insects and scenes: each of eight ways to copy that keep the
frame (JPEG at 50 and 20, WebP, a third of the size, brightness, contrast, colour, gamma) is found in
97 % of cases or more; different pictures of one layout (shirts on one cloth) correlate to 0.973 at most.
Cropped, mirrored or rotated copies are not found.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from striate.structures import Image

__all__ = ["SIDE", "TOO_SMALL", "clusters", "near_pairs", "thumbnail"]

SIDE = 16
"""Height and width of a thumbnail, in pixels."""

TOO_SMALL = 32
"""Shorter side in pixels below which a thumbnail says too little to compare pictures by it."""

TOO_FLAT = 6.0
"""Standard deviation of a thumbnail (0..255) below which it is mostly noise."""

MOST_BITS = 5
LEAST_CORRELATION = 0.985

# Hashes that differ in 5 bits have 2 of 7 chunks in common, whatever the bits (pigeonhole). A chunk takes
# every seventh bit, because neighbouring cells tend to agree.
_CHUNKS = 7
_MASKS = tuple(
    np.uint64(sum(1 << bit for bit in range(64) if bit % _CHUNKS in pair))
    for pair in combinations(range(_CHUNKS), _CHUNKS - MOST_BITS)
)

_REACH = 32
"""Neighbours that a picture is compared with among those that share two chunks."""

_BLOCK = 1 << 16  # pairs correlated at a time: 64 MB of float32

Pairs = NDArray[np.int64]


def thumbnail(image: Image) -> NDArray[np.uint8] | None:
    """The picture in 16x16 gray cells, each the mean of its pixels, (16, 16).

    None for a picture that cannot be told apart by it: shorter side below 32 pixels or nearly flat.
    """
    if min(image.shape[:2]) < TOO_SMALL:
        return None
    gray = Pillow.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    cells = np.asarray(gray.resize((SIDE, SIDE), Pillow.Resampling.BOX))
    return cells if cells.std() >= TOO_FLAT else None


def near_pairs(thumbnails: NDArray[np.uint8]) -> tuple[Pairs, bool]:
    """Near duplicates among the thumbnails (N, 16, 16): pairs (P, 2), each ascending, all sorted.

    Takes about N log N steps. The second value is False where more than 32 pictures share a part
    of their hash, so that some were not compared with each other.
    """
    hashes = _hashes(thumbnails)
    found, complete = [np.empty((0, 2), np.int64)], True
    for mask in _MASKS:
        for number, pairs in enumerate(_sharing(hashes, mask), start=1):
            differing = np.bitwise_count(hashes[pairs[0]] ^ hashes[pairs[1]])
            close = np.sort(pairs[:, differing <= MOST_BITS].T, axis=1)
            found += [block[_correlate(thumbnails, block)] for block in _blocks(close)]
            complete &= number < _REACH
    return np.unique(np.concatenate(found), axis=0), complete


def clusters(pairs: Pairs) -> list[list[int]]:
    """The groups that the pairs (P, 2) tie together, members ascending, ordered by the first."""
    parents: dict[int, int] = {}

    def root(member: int) -> int:
        parents.setdefault(member, member)
        while parents[member] != member:
            parents[member] = member = parents[parents[member]]
        return member

    for first, second in pairs.tolist():
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    groups: dict[int, list[int]] = {}
    for member in sorted(parents):
        groups.setdefault(root(member), []).append(member)
    return list(groups.values())


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits for each thumbnail: is the cell to the right brighter, cell by cell of 8x8."""
    cells = thumbnails.reshape(-1, 8, 2, 8, 2).sum(axis=(2, 4), dtype=np.int32)
    brighter = np.roll(cells, -1, axis=2) > cells
    return np.packbits(brighter.reshape(-1, 64), axis=1).view(np.uint64)[:, 0]


def _sharing(hashes: NDArray[np.uint64], mask: np.uint64) -> Iterator[Pairs]:
    """Pairs (2, P) whose hashes agree in `mask`: neighbours in sorted order, then the next but one, ..."""
    masked = hashes & mask
    order = np.lexsort((hashes, masked))
    masked = masked[order]
    starts = np.arange(len(order))
    for distance in range(1, _REACH + 1):
        starts = starts[: np.searchsorted(starts, len(order) - distance)]
        starts = starts[masked[starts] == masked[starts + distance]]
        if not len(starts):
            return
        yield np.stack([order[starts], order[starts + distance]])


def _blocks(pairs: Pairs) -> Iterator[Pairs]:
    for start in range(0, len(pairs), _BLOCK):
        yield pairs[start : start + _BLOCK]


def _correlate(thumbnails: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.bool_]:
    """Whether the two thumbnails of each pair (P, 2) correlate to LEAST_CORRELATION, (P,)."""
    first, second = (_centred(thumbnails[pairs[:, side]]) for side in (0, 1))
    products, first_squares, second_squares = (
        np.einsum("pc,pc->p", a, b) for a, b in ((first, second), (first, first), (second, second))
    )
    alike: NDArray[np.bool_] = products >= LEAST_CORRELATION * np.sqrt(first_squares * second_squares)
    return alike


def _centred(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each thumbnail as a row (256,) of mean 0."""
    rows = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows
