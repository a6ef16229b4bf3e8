"""Prepared pictures on a disk, for those that do not fit the memory and for later runs.

A cache is a folder with pairs of files: NAME.rows holds pixels, one picture after the other, NAME.index a
record of fixed size for each, written after its pixels. A process appends to a pair that it has locked, so
any number may fill one cache. A record bears a checksum of itself and one of its pixels, which are compared
the first time that a process reads the row: whatever a crash leaves is a whole row or one that is ignored.

Rows are read by position, not through a memory map: a map costs 40 microseconds less a picture where all of
it lies in memory, but a read that fails there kills the process, and one from the disk takes many pieces.
"""

import hashlib
import json
import os
import secrets
import struct
import time
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import PIL
import PIL.features

from striate.data.disk_space import DiskSpace, hold, lock_alone
from striate.errors import DiskFull
from striate.files import write_all
from striate.structures import Geometry, Image

__all__ = ["DiskCache", "folder_name"]

_VERSION = 1  # of the files, and of what decoding and preparing make of a picture

# identity; time of writing in ns; offset; height, width, channels; source; input; scale_x, scale_y, left,
# top; the pixels' checksum
_FIELDS = struct.Struct("<16sQQ7I4dI")
_CHECKSUM = struct.Struct("<I")
_RECORD = _FIELDS.size + _CHECKSUM.size

_APPEND = os.O_RDWR | os.O_APPEND


def folder_name(preparation: object) -> str:
    """Name of the cache of pictures prepared so, by these decoders; `preparation` is plain data."""
    codecs = [PIL.__version__, *(PIL.features.version(name) for name in ("jpg", "zlib", "webp", "libtiff"))]
    content = json.dumps([_VERSION, codecs, preparation], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Row:
    """Where the pixels of one picture lie."""

    file: int  # handle of a NAME.rows
    written: int  # when, in ns: a row that replaces a damaged one is the later
    offset: int
    shape: tuple[int, int, int]
    geometry: Geometry
    checksum: int


class DiskCache:
    """The prepared pictures in folder `name` of `space`, by their identity; the folder is made by a `put`.

    Nothing here fails: what cannot be read is as if it had never been kept, and where nothing more can be
    written nothing more is; `notes` says so. Any number of threads and processes may use it.
    """

    def __init__(self, space: DiskSpace, name: str) -> None:
        self.space = space
        self.folder = space.root / name
        self._rows: dict[bytes, _Row] = {}
        self._known: dict[Geometry, Geometry] = {}  # a thousand equal pictures share one
        self._checked: set[bytes] = set()  # identities of rows whose checksum was right, or that are ours
        self._damaged = 0
        self._stopped = ""  # why nothing more is written
        self._handles: list[int] = []  # the lock first
        self._writer: _Writer | None = None
        self._granted = 0
        self._is_looked_for = False
        self._lock = Lock()
        weakref.finalize(self, _close, self._handles)

    def __len__(self) -> int:
        """How many pictures it holds."""
        return len(self._rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: damaged rows that were made anew, why no more are written."""
        damaged = f"{self.folder}: {self._damaged} damaged pictures were decoded again"
        return (*([damaged] if self._damaged else []), *([self._stopped] if self._stopped else []))

    def get(self, identity: bytes) -> tuple[Image, Geometry] | None:
        """The picture and where its pixels went; None if it is not here, or damaged."""
        self._look_for()
        row = self._rows.get(identity)
        if row is None:
            return None
        try:
            pixels = _read(row)
        except OSError:
            pixels = None
        if pixels is None or not (identity in self._checked or zlib.crc32(pixels.data) == row.checksum):
            self._drop(identity, row)
            return None
        self._checked.add(identity)
        return pixels, row.geometry

    def _drop(self, identity: bytes, damaged: _Row) -> None:
        with self._lock:
            # Another thread may have put a sound one in its place.
            if self._rows.get(identity) is damaged:
                del self._rows[identity]
                self._damaged += 1

    def put(self, identity: bytes, image: Image, geometry: Geometry) -> None:
        """Keep the picture, if there is room."""
        with self._lock:
            if self._stopped or identity in self._rows:
                return
            try:
                self._append(identity, np.ascontiguousarray(image), geometry)
            except OSError as error:
                reason = "the disk is full" if DiskFull.is_cause(error) else error.strerror or str(error)
                self._stop(f"it cannot be written to ({reason})")

    def _append(self, identity: bytes, image: Image, geometry: Geometry) -> None:
        if not self._handles:
            self._open()
        size = image.nbytes + _RECORD
        if size > self._granted:
            self._granted = self.space.grant(size)
        if size > self._granted:
            self._stop(f"{self.space.limit / 1e9:g} GB for caches, or the disk, are used up")
            return
        if self._writer is None:
            self._writer = _Writer(self.folder, self._handles)
        self._rows[identity] = self._writer.append(identity, image, geometry)
        self._checked.add(identity)
        self._granted -= size

    def _stop(self, reason: str) -> None:
        self._stopped = f"{self.space.root}: {reason}; pictures that are not kept are decoded every epoch"

    def _look_for(self) -> None:
        """Open the folder if an earlier run made it."""
        if self._is_looked_for:
            return
        with self._lock:
            if not self._handles and self.folder.is_dir():
                try:
                    self._open()
                except OSError as error:
                    self._stop(f"it cannot be opened ({error.strerror or error})")
            self._is_looked_for = True

    def _open(self) -> None:
        self._handles.append(hold(self.folder))
        for index in self.folder.glob("*.index"):
            with suppress(FileNotFoundError):  # a pair that has just been begun
                self._handles.append(os.open(index.with_suffix(".rows"), os.O_RDONLY))
                self._add_rows(index.read_bytes(), self._handles[-1])

    def _add_rows(self, index: bytes, rows: int) -> None:
        for identity, row in _records(index, rows, self._known):
            known = self._rows.get(identity)
            if known is None or known.written < row.written:
                self._rows[identity] = row


class _Writer:
    """The pair of files that this process appends to."""

    def __init__(self, folder: Path, handles: list[int]) -> None:
        path, self.index = _own_index(folder, handles)
        rows = path.with_suffix(".rows")
        self.rows = _opened(rows, _APPEND | os.O_CREAT, handles)
        self.reader = _opened(rows, os.O_RDONLY, handles)
        self.end = os.fstat(self.rows).st_size
        # A record that a crash cut off.
        os.ftruncate(self.index, os.fstat(self.index).st_size // _RECORD * _RECORD)

    def append(self, identity: bytes, image: Image, geometry: Geometry) -> _Row:
        """Write one row. Raises OSError; then its pixels are taken back, and nothing may be appended more."""
        height, width, channels = image.shape
        checksum = zlib.crc32(image.data)
        row = _Row(self.reader, time.time_ns(), self.end, (height, width, channels), geometry, checksum)
        where = (geometry.scale_x, geometry.scale_y, geometry.left, geometry.top)
        fields = _FIELDS.pack(
            identity, row.written, row.offset, *row.shape, *geometry.source, *geometry.input, *where, checksum
        )
        try:
            write_all(self.rows, image.tobytes())
            write_all(self.index, fields + _CHECKSUM.pack(zlib.crc32(fields)))
        except OSError:
            os.ftruncate(self.rows, self.end)
            raise
        self.end += image.nbytes
        return row


def _own_index(folder: Path, handles: list[int]) -> tuple[Path, int]:
    """An index that no other process appends to, locked: one that is left over, else a new one."""
    for path in folder.glob("*.index"):
        handle = os.open(path, _APPEND)
        if lock_alone(handle):
            handles.append(handle)
            return path, handle
        os.close(handle)
    path = folder / f"{secrets.token_hex(8)}.index"
    os.close(os.open(path, _APPEND | os.O_CREAT, 0o600))
    return _own_index(folder, handles)


def _opened(path: Path, flags: int, handles: list[int]) -> int:
    handles.append(os.open(path, flags, 0o600))
    return handles[-1]


def _records(index: bytes, rows: int, known: dict[Geometry, Geometry]) -> Iterator[tuple[bytes, _Row]]:
    """The rows that `index` names, but for records that are cut off or damaged or lead beyond the pixels."""
    end = os.fstat(rows).st_size
    for start in range(0, len(index) - _RECORD + 1, _RECORD):
        fields = index[start : start + _FIELDS.size]
        if _CHECKSUM.unpack_from(index, start + _FIELDS.size)[0] != zlib.crc32(fields):
            continue
        identity, written, offset, height, width, channels, *where, checksum = _FIELDS.unpack(fields)
        geometry = Geometry((where[0], where[1]), (where[2], where[3]), *where[4:])
        geometry = known.setdefault(geometry, geometry)
        if offset + height * width * channels <= end:
            yield identity, _Row(rows, written, offset, (height, width, channels), geometry, checksum)


def _read(row: _Row) -> Image | None:
    """The pixels of `row`; None where the file has become shorter."""
    pixels = np.empty(row.shape, np.uint8)
    rest, offset = pixels.reshape(-1).data, row.offset
    while rest and (count := os.preadv(row.file, [rest], offset)):
        rest, offset = rest[count:], offset + count
    return None if rest else pixels


def _close(handles: list[int]) -> None:
    for handle in reversed(handles):
        os.close(handle)
