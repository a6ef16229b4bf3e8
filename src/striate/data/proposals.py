"""Where in a picture objects may be, whatever they are: selective search, for R-CNN and Fast R-CNN.

The picture is brought to a width of 500 pixels; its HSV and Lab colours are segmented at two scales each, and
neighbouring segments are merged by two measures of similarity ("fast"). Every segment on the way gives a box;
those with a side below 20 pixels are dropped. Source: Uijlings et al. 2013, doi:10.1007/s11263-013-0620-5,
with the settings of R-CNN (arXiv:1311.2524).

A search takes a second for a picture, so what is found is kept on a disk.
"""

import hashlib
import io
import json
import os
import weakref
import zlib
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from striate.data.disk_space import DiskSpace, hold
from striate.data.overlaps import areas
from striate.errors import EnvironmentProblem, StriateError
from striate.files import atomic_write
from striate.structures import MAX_PROPOSALS, Geometry, Image

__all__ = ["Proposals", "in_input", "proposals"]

Boxes = NDArray[np.float32]

WIDTH = 500  # pixels of the picture that is searched
_MOST_HEIGHT = 1000  # where it is much higher than wide
LEAST_SIDE = 20  # of a box there
_SCALES = (50, 100)  # k of the segmentation, doi:10.1023/B:VISI.0000022288.19776.77, and its least segment
_SIGMA = 0.8  # of the blur before it
_SIMILARITIES = (("Color", "Fill", "Texture", "Size"), ("Fill", "Texture", "Size"))
_STRATEGY = "createSelectiveSearchSegmentationStrategy"  # how OpenCV's names of them begin

_VERSION = 1  # of the files, and of how boxes are found and ordered
_CHECKSUM = 4  # bytes at the end of a file


def proposals(image: Image, count: int) -> Boxes:
    """`count` boxes that may hold an object, (count, 4) float32 x0 y0 x1 y1 in pixels of `image`.

    `image` is uint8 (H, W, 1 or 3). Rows of 0 fill up where fewer are found. The order is random and the same
    for equal pictures, so that any first few are a fair sample. Raises EnvironmentProblem where OpenCV's
    extra modules are missing.
    """
    return _in_pixels(_searched(image), image, count)


def in_input(found: Boxes, geometry: Geometry) -> Boxes:
    """The boxes `found` (P, 4) in pixels of the input, clipped to it; 0 for those that are not in it."""
    height, width = geometry.input
    boxes = np.clip(geometry.boxes_to_input(found), 0, np.array([width, height] * 2, np.float32))
    boxes[areas(boxes) == 0] = 0
    return boxes


class Proposals:
    """What `proposals` finds, kept on a disk: a file for each picture, named by its pixels.

    The disk makes nothing fail: a damaged file is as if there were none, and where nothing more can be
    written nothing more is; `notes` says so. Any number of threads and processes may use it.
    """

    def __init__(self, space: DiskSpace | None) -> None:
        self.space = space  # None: nothing is kept
        self.notes: tuple[str, ...] = ()  # what the user should know
        self._folder: Path | None = None  # held from the first call on
        self._granted = 0
        self._lock = Lock()

    def __call__(self, image: Image, count: int) -> Boxes:
        """As `proposals`."""
        folder = self._held()
        if folder is None:
            return proposals(image, count)
        path = folder / f"{_digest(image)}.npy"
        found = _read(path)
        if found is None:
            found = _searched(image)
            self._keep(path, found)
        return _in_pixels(found, image, count)

    def _held(self) -> Path | None:
        """The folder, which nobody removes while this object lives; None where nothing can be kept."""
        with self._lock:
            if self._folder is None and self.space is not None and not self.notes:
                folder = self.space.root / _folder_name()
                try:
                    weakref.finalize(self, os.close, hold(folder))
                except OSError as error:
                    self._stop(f"it cannot be opened ({error.strerror or error})")
                else:
                    self._folder = folder
            return self._folder

    def _keep(self, path: Path, found: NDArray[np.uint16]) -> None:
        """Write `found`, if there is room."""
        buffer = io.BytesIO()
        np.save(buffer, found)
        content = buffer.getvalue()
        try:
            if self._has_room(len(content) + _CHECKSUM):
                with atomic_write(path) as file:
                    file.write(content + zlib.crc32(content).to_bytes(_CHECKSUM, "little"))
        except (OSError, StriateError) as error:
            self._stop(error.what if isinstance(error, StriateError) else str(error))

    def _has_room(self, size: int) -> bool:
        with self._lock:
            if self.space is None or self.notes:
                return False
            if size > self._granted:
                self._granted = self.space.grant(size)
            if size > self._granted:
                self._stop(f"{self.space.limit / 1e9:g} GB for caches, or the disk, are used up")
                return False
            self._granted -= size
            return True

    def _stop(self, reason: str) -> None:
        root = "" if self.space is None else self.space.root
        self.notes = (f"{root}: {reason}; regions that are not kept are searched for every epoch",)


def _read(path: Path) -> NDArray[np.uint16] | None:
    """What the file holds; None if it is not there or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
    if not body or zlib.crc32(body).to_bytes(_CHECKSUM, "little") != checksum:
        return None
    found: NDArray[np.uint16] = np.load(io.BytesIO(body), allow_pickle=False)
    return found


def _digest(image: Image) -> str:
    """32 letters that two pictures share only if their shape and pixels are equal."""
    hasher = hashlib.blake2b(repr(image.shape).encode("ascii"), digest_size=16)
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.hexdigest()


def _folder_name() -> str:
    """Of what is found with these settings by these libraries."""
    settings = [WIDTH, _MOST_HEIGHT, LEAST_SIDE, _SCALES, _SIGMA, _SIMILARITIES, MAX_PROPOSALS]
    content = json.dumps([_VERSION, _opencv().__version__, PIL.__version__, settings])
    return f"proposals-{hashlib.sha256(content.encode('ascii')).hexdigest()[:16]}"


# --- the search -------------------------------------------------------------------------------------


def _searched(image: Image) -> NDArray[np.uint16]:
    """All boxes x0 y0 x1 y1 that are found in `image`, in pixels of the searched size."""
    opencv = _opencv()
    segmentation = opencv.ximgproc.segmentation
    pixels = _resized(image)
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(pixels)
    for code in (opencv.COLOR_BGR2HSV, opencv.COLOR_BGR2Lab):
        search.addImage(opencv.cvtColor(pixels, code))
    for scale in _SCALES:
        search.addGraphSegmentation(segmentation.createGraphSegmentation(_SIGMA, scale, scale))
    for names in _SIMILARITIES:
        kinds = (getattr(segmentation, f"{_STRATEGY}{name}")() for name in names)
        search.addStrategy(getattr(segmentation, f"{_STRATEGY}Multiple")(*kinds))
    found = np.asarray(search.process(), np.int64).reshape(-1, 4)
    return _ordered(found[(found[:, 2:] >= LEAST_SIDE).all(1)])


def _ordered(found: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The boxes x y width height as x0 y0 x1 y1, in an order that depends on them alone."""
    # The paper's order is a place in the hierarchy times a random number; OpenCV draws that anew each time.
    # With no regard to the place, the first 300 and 1,000 cover more objects of photos.
    boxes = np.unique(found, axis=0)
    order = np.argsort(np.random.PCG64(0).random_raw(len(boxes)), kind="stable")
    boxes = boxes[order][:MAX_PROPOSALS]
    boxes[:, 2:] += boxes[:, :2]
    return boxes.astype(np.uint16)


def _resized(image: Image) -> Image:
    """The picture as it is searched: blue, green, red."""
    height, width = _searched_size(image)
    picture = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    resized = picture.convert("RGB").resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized)[:, :, ::-1])


def _searched_size(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = min(WIDTH / width, _MOST_HEIGHT / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _in_pixels(found: NDArray[np.uint16], image: Image, count: int) -> Boxes:
    """The first `count` of `found` in pixels of `image`, (count, 4)."""
    height, width = _searched_size(image)
    scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
    boxes = np.zeros((count, 4), np.float32)
    boxes[: len(found)] = found[:count] * scale
    return boxes


@cache
def _opencv() -> Any:
    """OpenCV with its extra modules, on one thread: the loader has its own."""
    try:
        import cv2

        cv2.ximgproc.segmentation  # noqa: B018
    except (ImportError, AttributeError):
        raise EnvironmentProblem(
            "proposals", "selective search needs OpenCV's extra modules", "pip install 'striate[rcnn]'"
        ) from None
    cv2.setNumThreads(1)
    return cv2
