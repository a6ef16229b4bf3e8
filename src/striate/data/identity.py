"""What tells, without reading it again, whether a picture is still the one that was prepared."""

import os
from hashlib import blake2b
from pathlib import Path

from striate.data.dataset import Storage
from striate.data.tars import TarStorage
from striate.data.tree import FolderTree, Subtree
from striate.data.zips import ZipTree

__all__ = ["identity_of"]


def identity_of(storage: Storage, key: str) -> bytes | None:
    """16 bytes that another content of picture `key` does not share; None where it is no file's.

    A file is its path, size and time of change; an entry of a zip is the zip and the checksum, size and
    place in it; a member of a tar is the tar and the place in it. So nothing is unpacked. None also for a
    file that is not there: decoding says so with more words.
    """
    if isinstance(storage, Subtree):
        return identity_of(storage.base, storage.prefix + key)
    try:
        if isinstance(storage, FolderTree):
            return _digest("file", *_of_file(storage.content(key)))
        if isinstance(storage, ZipTree):
            entry = storage.entries[key]
            return _digest("zip", *_of_file(storage.path), entry.CRC, entry.file_size, entry.header_offset)
        if isinstance(storage, TarStorage):
            tar, offset, size = storage.place(key)
            return _digest("tar", *_of_file(storage.paths[tar]), offset, size)
    except OSError:
        pass
    return None


def _of_file(path: Path) -> tuple[bytes, int, int]:
    status = os.stat(path)
    return os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode("ascii"), digest_size=16).digest()
