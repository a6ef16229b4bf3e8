"""Writes a dataset as tar shards in the WebDataset layout: the same bytes each time, interrupted or not.

A shard is written whole and then its index; what is there whole is kept. A shard's pictures are a chance
sample of its part, so that reading a few shards at a time is nearly as good as reading all at once.
"""

import hashlib
import re
import tarfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import PARTS, Dataset, Part
from striate.data.draws import Draws
from striate.data.identity import identity_of
from striate.data.manifest import (
    IndexRow,
    PackConfig,
    Shard,
    ShardIndex,
    decoded,
    index_name,
    sha256,
    write_json,
)
from striate.data.picture_file import picture_file, suffix_of
from striate.errors import DataError
from striate.files import atomic_write, sha256_of

__all__ = ["identity_of_all", "member_names", "write_shards"]

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_AHEAD = 16  # pictures that are read at a time
_THREADS = 4


def identity_of_all(dataset: Dataset) -> str:
    """SHA-256 that other pictures, labels, classes or parts than those of `dataset` do not share.

    A file counts by its path, size and time of change; what lies in memory by its pixels.
    """
    hasher = hashlib.sha256(repr(dataset.classes).encode("utf-8", "surrogatepass"))
    for item in dataset.items:
        hasher.update(repr((item.key, item.part, item.label)).encode("utf-8", "surrogatepass"))
        identity = identity_of(dataset.storage, item.key)
        if identity is None:
            content = dataset.storage.content(item.key)
            identity = content.tobytes() if isinstance(content, np.ndarray) else b""
        hasher.update(identity)
    return hasher.hexdigest()


def member_names(keys: Sequence[str]) -> list[str]:
    """A name for each picture in a tar, its key without suffix: no two alike, and no dot in any.

    WebDataset takes what follows the first dot for the kind of a file.
    """
    taken: set[str] = set()
    names = []
    for key in keys:
        stem = re.sub(r"\.[A-Za-z]{2,5}$", "", key)
        # What a shell, another system or a reader of tars would take for something else.
        stem = re.sub(r"[^\w/+=@-]+", "_", stem).strip("_/") or "picture"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        names.append(name)
    return names


def write_shards(
    dataset: Dataset, folder: Path, config: PackConfig, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Shard, ...], int]:
    """The shards of `dataset`, whose items all have a part and a label, and how many were there already.

    `progress(done, total)` counts pictures. Raises DiskFull where there is no room and DataError for a
    picture that cannot be read any more; the shards that are there stay.
    """
    names = member_names([item.key for item in dataset.items])
    shards: list[Shard] = []
    kept = done = 0

    def note(pictures: int) -> None:
        if progress is not None:
            progress(done + pictures, len(dataset))

    for part in PARTS:
        order = Draws(config.split.seed, 0).order(dataset.indices(part))
        number = position = 0
        while position < len(order):
            job = _Job(dataset, names, folder / f"{part}-{number:06d}.tar", part, order[position:])
            shard = _finished(job)
            kept += shard is not None
            shards.append(shard := shard or _write(job, config.shard_bytes, note))
            note(shard.pictures)
            position, number, done = position + shard.pictures, number + 1, done + shard.pictures
    return tuple(shards), kept


@dataclass(frozen=True, slots=True)
class _Job:
    """A shard to be written: as many of the first of `indices` as it takes."""

    dataset: Dataset
    names: Sequence[str]  # of the members, without suffix, by index in the dataset
    path: Path
    part: Part
    indices: NDArray[np.int64]

    @property
    def index_path(self) -> Path:
        """Where its index lies."""
        return self.path.with_name(index_name(self.path.name))

    def shard(self, index: ShardIndex, index_sha256: str) -> Shard:
        """The shard as the manifest lists it."""
        count = len(index.samples)
        return Shard(self.path.name, self.part, count, index.bytes, index.sha256, index_sha256)


def _finished(job: _Job) -> Shard | None:
    """The shard if it was written before, whole and with these pictures."""
    try:
        content = job.index_path.read_bytes()
        index = decoded(content, ShardIndex, str(job.index_path))
        is_whole = job.path.stat().st_size == index.bytes and sha256_of(job.path) == index.sha256
    except (OSError, DataError):
        return None
    expected = [
        (job.names[i], job.dataset.items[i].label) for i in job.indices[: len(index.samples)].tolist()
    ]
    found = [(row.name.partition(".")[0], row.label) for row in index.samples]
    return job.shard(index, sha256(content)) if is_whole and found and found == expected else None


def _write(job: _Job, limit: int, note: Callable[[int], None]) -> Shard:
    """Write the shard of at most `limit` bytes, unless its first picture alone is larger, and its index.

    `note` is told how many pictures it has so far.
    """
    with atomic_write(job.path) as file, closing(_contents(job.dataset, job.indices)) as contents:
        writer = _TarWriter(file)
        for index, content in contents:
            label = job.dataset.items[index].label
            members = [
                (f"{job.names[index]}.{suffix_of(content, job.dataset.items[index].key)}", content),
                (f"{job.names[index]}.cls", str(label).encode("ascii")),
            ]
            if writer.rows and writer.size_with(members) > limit:
                break
            writer.add(members, int(label or 0))
            note(len(writer.rows))
        found = writer.finish()
    return job.shard(found, write_json(job.index_path, found))


def _contents(dataset: Dataset, indices: NDArray[np.int64]) -> Generator[tuple[int, bytes], None, None]:
    """The file of each picture with its index, some read ahead."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="striate-pack") as pool:
        for start in range(0, len(indices), _AHEAD):
            some = indices[start : start + _AHEAD].tolist()
            keys = [dataset.items[index].key for index in some]
            yield from zip(some, pool.map(lambda key: picture_file(dataset.storage, key), keys), strict=True)


class _TarWriter:
    """Writes members one after the other and notes where the pictures lie."""

    def __init__(self, file: IO[bytes]) -> None:
        self.rows: list[IndexRow] = []
        self._file = file
        self._size = 0
        self._hash = hashlib.sha256()

    def size_with(self, members: Sequence[tuple[str, bytes]]) -> int:
        """Bytes of the finished tar, were `members` the last ones."""
        added = sum(len(_header(name, content)) + _padded(len(content)) for name, content in members)
        return _whole(self._size + added)

    def add(self, members: Sequence[tuple[str, bytes]], label: int) -> None:
        """A picture, the first of `members`, with what belongs to it."""
        for position, (name, content) in enumerate(members):
            self._write(_header(name, content))
            if position == 0:
                self.rows.append(IndexRow(name, self._size, len(content), label))
            self._write(content)
            self._write(bytes(_padded(len(content)) - len(content)))

    def finish(self) -> ShardIndex:
        """Write the end mark."""
        self._write(bytes(_whole(self._size) - self._size))
        return ShardIndex(self._size, self._hash.hexdigest(), tuple(self.rows))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._hash.update(content)
        self._size += len(content)


def _header(name: str, content: bytes) -> bytes:
    """A header without owner and time, so that equal pictures make equal tars; pax where it is needed."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _whole(size: int) -> int:
    """Bytes of a tar of members of `size`: two empty blocks end it, and it consists of whole records."""
    return -(-(size + 2 * _BLOCK) // _RECORD) * _RECORD
