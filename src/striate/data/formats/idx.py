"""MNIST's own files: a header of big-endian numbers, then one byte a pixel or label.

    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz

With or without `.gz`, with a dot in place of the last hyphen but one (`train-images.idx3-ubyte`), in the
folder or in `raw` below it. Of a file that is there twice the `.gz` is read, for its checksum shows
that it is whole. `t10k` is the test part. Format: LeCun, Cortes and Burges, "The MNIST database".
"""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Item, Part
from striate.data.storage import ArrayStorage, JoinedStorage
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "array_dataset", "read", "recognise"]

NAME = "idx"
ACCEPTS = "MNIST's files: train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k-... for test, .gz or not"
PRECEDENCE = 2
TASK: Task = "classification"

FASHION = (
    *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

_FILE = re.compile(r"(?:raw/)?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
_PARTS: dict[str, Part] = {"train": "train", "t10k": "test", "test": "test"}
_MAGIC = {"images": 0x0803, "labels": 0x0801}  # 08: unsigned bytes; 03, 01: number of axes
_MAX_BYTES = 8_000_000_000
# Deflate cannot shrink further, so a header that promises more than this is false.
_MAX_DEFLATE_RATIO = 1032


def recognise(tree: Tree) -> bool:
    """Whether files of that name are there."""
    return bool(_files(tree))


def read(tree: Tree) -> Dataset:
    """The pictures, held in memory. Raises DataError naming a file that is damaged or missing."""
    files = _files(tree)
    parts = []
    for part in dict.fromkeys(part for part, _ in files):
        image_file, label_file = (_file_of(tree, files, part, kind) for kind in _MAGIC)
        images, labels = _read(tree, image_file, "images"), _read(tree, label_file, "labels")
        if len(images) != len(labels):
            raise DataError(
                f"{tree.name}/{label_file}",
                f"has {len(labels):,} labels for {len(images):,} pictures",
                "use the files of one set",
            )
        prefix = Path(image_file).name.removesuffix(".gz")
        parts.append((part, ArrayStorage(images[..., None], prefix), labels))
    if not parts:
        raise DataError(tree.name, "has no idx file", f"make it {ACCEPTS}")
    most = max(int(labels.max()) for _, _, labels in parts)
    return array_dataset(tree.name, NAME, _classes(tree, most), parts)


def array_dataset(
    name: str,
    format_name: str,
    classes: tuple[str, ...],
    parts: list[tuple[Part, ArrayStorage, NDArray[np.uint8]]],
) -> Dataset:
    """A dataset of pictures in memory: for each part its arrays and the labels (N,)."""
    items = tuple(
        Item(key, part, label)
        for part, storage, labels in parts
        for key, label in zip(storage.keys(), labels.tolist(), strict=True)
    )
    storage = JoinedStorage(tuple(storage for _, storage, _ in parts))
    return Dataset(name, format_name, "classification", classes, items, storage)


def _files(tree: Tree) -> dict[tuple[Part, str], str]:
    """The file of each part and kind; train first, and the .gz where there are both."""
    # Sorted, a .gz comes after the same name without it and so replaces it.
    matches = [match for path in sorted(tree.files) if (match := _FILE.fullmatch(path))]
    found = {(_PARTS[match["part"]], match["kind"]): match[0] for match in matches}
    return dict(sorted(found.items(), reverse=True))


def _file_of(tree: Tree, files: dict[tuple[Part, str], str], part: Part, kind: str) -> str:
    if (part, kind) not in files:
        prefix = "train" if part == "train" else "t10k"
        axes = 3 if kind == "images" else 1
        wanted = f"{prefix}-{kind}-idx{axes}-ubyte"
        raise DataError(tree.name, f"has no {wanted}", f"put {wanted}.gz beside the other files")
    return files[part, kind]


def _classes(tree: Tree, most: int) -> tuple[str, ...]:
    """Names of the classes: the files do not hold them, so the name of the folder or zip decides."""
    named = "/".join(Path(tree.name).resolve().parts[-2:]).lower()
    if "fashion" in named and most < len(FASHION):
        return FASHION
    return tuple(map(str, range(max(10, most + 1))))


def _read(tree: Tree, path: str, kind: str) -> NDArray[np.uint8]:
    """The array in one file: pictures (N, H, W) or labels (N,)."""
    where = f"{tree.name}/{path}"
    content = tree.content(path)
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    try:
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as raw:
            if not path.endswith(".gz"):
                return _array(raw, where, kind, size, is_exact=True)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _array(unpacked, where, kind, size * _MAX_DEFLATE_RATIO, is_exact=False)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(where, f"cannot be read ({error})", "copy or download it again") from None


def _array(
    file: IO[bytes] | gzip.GzipFile, where: str, kind: str, size: int, is_exact: bool
) -> NDArray[np.uint8]:
    """The array behind the header; `size` is what the file holds, or at most holds."""
    axes = _MAGIC[kind] & 0xFF
    header = file.read(4 + 4 * axes)
    if len(header) < 4 + 4 * axes:
        raise DataError(where, "is cut off in its header", "copy or download it again")
    magic, *shape = struct.unpack(f">{1 + axes}I", header)
    if magic != _MAGIC[kind]:
        raise DataError(
            where, f"is no idx file of {kind}: it starts with {header[:4].hex()}", "use MNIST's own files"
        )
    count = math.prod(shape)
    expected = count + len(header)
    if count == 0 or expected > min(size, _MAX_BYTES) or (is_exact and expected != size):
        raise DataError(
            where,
            f"its header promises {' × '.join(map(str, shape))} bytes, which do not fit the file's size",
            "copy or download it again",
        )
    values = np.empty(count, np.uint8)
    _fill(file, values, where)
    return values.reshape(shape)


def _fill(file: IO[bytes] | gzip.GzipFile, values: NDArray[np.uint8], where: str) -> None:
    """Read exactly `values` from `file`. Reading on to the end also checks a gzip's checksum."""
    view, filled = values.data, 0
    while filled < len(view):
        block = file.read(min(1 << 20, len(view) - filled))
        if not block:
            raise DataError(where, "is cut off", "copy or download it again")
        view[filled : filled + len(block)] = block
        filled += len(block)
    if file.read(1):
        raise DataError(where, "holds more than its header says", "copy or download it again")
