"""Prepared pictures, kept in memory and on disk beyond it, so that no file is decoded every epoch."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.data.dataset import Dataset
from striate.data.disk_cache import DiskCache, folder_name
from striate.data.disk_space import DiskSpace
from striate.data.identity import identity_of
from striate.data.preprocess import Resize, apply, planned
from striate.errors import DataError, StriateError, UsageError
from striate.structures import Geometry, Image, Preprocess

__all__ = ["Budget", "CacheConfig", "Pictures", "available_memory"]

_SHARE = 0.4  # of the available memory, where no budget is given
_FALLBACK = 4 << 30  # bytes assumed available on a system that does not tell
_MOST_KEPT = 2.0  # sides kept for random cuts and zooms per side of the input

Prepare = Callable[[Image], tuple[Image, Geometry]]
"""What is kept of a decoded picture, and where its pixels went."""


class CacheConfig(Settings, frozen=True):
    """Where pictures are kept once they are decoded and shrunk."""

    mode: Literal["auto", "memory", "disk", "off"] = "auto"  # auto: in memory, on disk what does not fit
    gigabytes: float = 20.0  # 10**9 bytes of disk that all datasets' caches may take together

    def __post_init__(self) -> None:
        if not 0 < self.gigabytes < math.inf:
            raise UsageError("cache.gigabytes", f"{self.gigabytes!r} is no size", "give a number above 0")

    def budget(self) -> "Budget":
        """The memory that may be taken."""
        return Budget(None if self.mode in ("auto", "memory") else 0)

    def disk_space(self) -> DiskSpace | None:
        """The disk that may be taken: in $STRIATE_CACHE, else ~/.cache/striate/pictures; None for none."""
        if self.mode in ("memory", "off"):
            return None
        root = Path(os.environ.get("STRIATE_CACHE") or "~/.cache/striate/pictures")
        try:
            return DiskSpace(root.expanduser().absolute(), int(1e9 * self.gigabytes))
        except RuntimeError:  # there is no home folder
            if self.mode == "auto":
                return None
            raise UsageError(
                "cache.mode", "'disk' needs a folder, and there is no home", "set STRIATE_CACHE to a folder"
            ) from None


def available_memory() -> int:
    """Bytes that this process may still take: the system's, or its container's if that is less."""
    free = [_from_meminfo(), _from_cgroup()]
    return min((count for count in free if count is not None), default=_FALLBACK)


class Budget:
    """Bytes that caches share; by default 40 % of the memory available when it is made."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = int(_SHARE * available_memory()) if limit is None else limit
        self.used = 0
        self._lock = Lock()

    def take(self, count: int) -> bool:
        """Whether `count` more bytes fit; if so they are taken."""
        with self._lock:
            fits = self.used + count <= self.limit
            self.used += count if fits else 0
            return fits


class Pictures:
    """The pictures of a dataset as `prepare` gives them, by their index in it; kept while they fit.

    What does not fit in `budget` comes from `disk`, unless its file has changed since, and where that is
    None or full it is decoded again each time; the pixels are the same. With `shape`, which every prepared
    picture must then have, they lie in one array (N, H, W, C), so that a batch is one indexing. Filled as
    pictures are asked for, from any number of threads.
    """

    def __init__(
        self,
        dataset: Dataset,
        prepare: Prepare,
        budget: Budget,
        shape: tuple[int, int, int] | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self.dataset = dataset
        self._prepare = prepare
        self.budget = budget
        self.disk = disk
        self._geometry: dict[int, Geometry] = {}  # of the kept pictures; written last, so readers look here
        self._known: dict[Geometry, Geometry] = {}  # a thousand equal pictures share one
        self._single: dict[int, Image] = {}
        self._lock = Lock()
        # The system gives memory page by page as rows are filled, so unused ones cost nothing.
        fits = shape is not None and len(dataset) * math.prod(shape) <= budget.limit
        self._array = np.empty((len(dataset), *shape), np.uint8) if shape is not None and fits else None

    @classmethod
    def for_input(
        cls, dataset: Dataset, spec: Preprocess, budget: Budget, space: DiskSpace | None = None
    ) -> "Pictures":
        """Pictures exactly as `predict` prepares them, bit by bit: `preprocess.apply`."""
        shape = (*spec.size, spec.channels) if spec.is_fixed else None
        return cls(dataset, partial(apply, spec), budget, shape, _disk(space, spec))

    @classmethod
    def for_cutting(
        cls,
        dataset: Dataset,
        spec: Preprocess,
        least: float,
        budget: Budget,
        space: DiskSpace | None = None,
    ) -> "Pictures":
        """Pictures for random resized crops of at least the share `least` of the area, never enlarged.

        The shorter side is kept so long that the least cut of a square picture needs no enlargement, up to
        twice the input's, which is a quarter of the area: smaller cuts are blurred, and training on them
        costs accuracy. A larger `resize_to` wins. The pixels are within one level of `preprocess.apply`.
        """
        # Only training cuts, so that everything else does without torch.
        from striate.data.resample import resampler

        times = min(1 / math.sqrt(least), _MOST_KEPT)
        shorter = max(spec.resize_to or 0, math.ceil(times * max(spec.inner_size)))
        # The spec itself prepares the cut: turning that to gray again changes nothing, to HSV it would.
        color = "rgb" if spec.color == "hsv" else spec.color
        whole = replace(spec, fit="none", color=color, border=0, resize_to=None, max_size=None)
        shrunk = replace(whole, fit="shorter", size=(shorter, shorter))
        resize = resampler(shrunk)
        disk = _disk(space, shrunk, whole, by_torch=resize is not None)
        return cls(dataset, partial(_shrink, shrunk, whole, resize), budget, disk=disk)

    @classmethod
    def for_zooming(
        cls,
        dataset: Dataset,
        spec: Preprocess,
        largest: float | None,
        budget: Budget,
        space: DiskSpace | None = None,
    ) -> "Pictures":
        """Whole pictures without padding, for random zooms to `largest` times the size that fits the input.

        They are kept at most twice that size, and never enlarged, their pixels within one level of
        `preprocess.apply`. With None, which is no zoom, they are at that size, and exactly its pixels.
        """
        # Only training zooms, so that everything else does without torch.
        from striate.data.resample import resampler

        color = "rgb" if spec.color == "hsv" else spec.color  # as in `for_cutting`
        flat = replace(spec, color=color)
        resize = None if largest is None else resampler(flat)
        times = None if largest is None else min(largest, _MOST_KEPT)
        disk = _disk(space, flat, by_torch=resize is not None, form=("fitted", times))
        return cls(dataset, partial(_fitted, flat, times, resize), budget, disk=disk)

    def __len__(self) -> int:
        """How many pictures are kept in memory so far."""
        return len(self._geometry)

    def one(self, index: int) -> tuple[Image, Geometry]:
        """The picture of item `index`, not to be written to. Raises DataError naming the file."""
        geometry = self._geometry.get(index)
        if geometry is None:
            return self._load(index)
        image: Image = self._single[index] if self._array is None else self._array[index]
        return image, geometry

    def batch(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], tuple[Geometry, ...]]:
        """The pictures of the items `indices` as one new array (B, H, W, C).

        Raises DataError naming the file that cannot be decoded or is of another size than the first.
        """
        asked = indices.tolist()
        if self._array is not None and all(index in self._geometry for index in asked):
            return self._array[indices], tuple(self._geometry[index] for index in asked)
        images, geometry = zip(*map(self.one, asked), strict=True)
        self.refuse_mixed(asked, [image.shape for image in images])
        return np.stack(images), geometry

    def _load(self, index: int) -> tuple[Image, Geometry]:
        identity = self._identity(index)
        if self.disk is None or identity is None:
            image, geometry = self._decoded(index)
            self._store(index, image, geometry)
            return image, geometry
        found = self.disk.get(identity)
        image, geometry = found or self._decoded(index)
        is_stored = self._store(index, image, geometry)
        # A file that changes while it is read may have given the old pixels or the new.
        if not is_stored and not found and identity == self._identity(index):
            self.disk.put(identity, image, geometry)
        return image, geometry

    def _identity(self, index: int) -> bytes | None:
        if self.disk is None:
            return None
        return identity_of(self.dataset.storage, self.dataset.items[index].key)

    def _decoded(self, index: int) -> tuple[Image, Geometry]:
        key = self.dataset.items[index].key
        try:
            return self._prepared(key, self.dataset.image(index))
        except StriateError:
            raise
        except OSError as error:
            raise DataError(key, f"it cannot be read ({error})", "check the file, then run again") from error
        except Exception as error:
            error.add_note(f"while preparing {key}")
            raise

    def _prepared(self, key: str, image: Image) -> tuple[Image, Geometry]:
        try:
            return self._prepare(image)
        except DataError as error:
            # It was given pixels alone, so it cannot say whose they are.
            raise DataError(key, error.what, error.fix) from error

    def _store(self, index: int, image: Image, geometry: Geometry) -> bool:
        """Whether the picture is in memory now."""
        with self._lock:
            if index in self._geometry:
                return True
            if not self.budget.take(image.nbytes):
                return False
            if self._array is None:
                self._single[index] = image
            else:
                self._array[index] = image
            self._geometry[index] = self._known.setdefault(geometry, geometry)
            return True

    def refuse_mixed(self, indices: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise DataError where the pictures of the items `indices` are not all of one shape (H, W, C)."""
        for index, shape in zip(indices, shapes, strict=True):
            if shape != shapes[0]:
                raise DataError(
                    self.dataset.items[index].key,
                    f"it is {shape[1]}x{shape[0]}, {self.dataset.items[indices[0]].key} is "
                    f"{shapes[0][1]}x{shapes[0][0]}, and one batch needs one size",
                    "use a preprocess.fit of crop, stretch or letterbox",
                )


# What the network's first layer does, and what comes beside the pixels.
_NOT_IN_PIXELS = ("scale", "mean", "std", "channel_order", "proposals")


def _disk(
    space: DiskSpace | None, *specs: Preprocess, by_torch: bool = False, form: tuple[object, ...] = ()
) -> DiskCache | None:
    if space is None:
        return None
    read: list[object] = [
        {name: value for name, value in asdict(spec).items() if name not in _NOT_IN_PIXELS} for spec in specs
    ]
    read.extend(form)
    # A machine that shares the folder may not have the vector instructions.
    return DiskCache(space, folder_name([*read, f"torch {version('torch')}"] if by_torch else read))


def _shrink(
    shrunk: Preprocess, whole: Preprocess, resize: Resize | None, image: Image
) -> tuple[Image, Geometry]:
    if min(image.shape[:2]) > shrunk.size[0]:
        return apply(shrunk, image, resize)
    return apply(whole, image)


def _fitted(
    spec: Preprocess, times: float | None, resize: Resize | None, image: Image
) -> tuple[Image, Geometry]:
    """`image` at `times` the size that `spec` gives it, never enlarged for that; None: at just that size."""
    size = planned(spec, *image.shape[:2]).resized
    if times is not None:
        height, width = (
            min(own, math.ceil(times * side)) for own, side in zip(image.shape[:2], size, strict=True)
        )
        size = height, width
    unpadded = replace(spec, border=0, resize_to=None, max_size=None, pad_to=1)
    if size == image.shape[:2]:
        return apply(replace(unpadded, fit="none"), image)
    return apply(replace(unpadded, fit="stretch", size=size), image, resize)


def _from_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _half_of_physical()


def _half_of_physical() -> int | None:
    names: dict[str, Any] = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _from_cgroup() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text("ascii"))
        return max(0, limit - int((folder / "memory.current").read_text("ascii")))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return None
