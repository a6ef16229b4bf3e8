"""The files in a zip: listed once, read entry by entry within limits, never unpacked to a disk."""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from striate.data.dataset import Finding
from striate.data.unlisted import KINDS, is_ignored, link_finding
from striate.errors import DataError

__all__ = ["ZipTree", "open_zip"]

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 100_000_000  # of one zip entry, unpacked
MAX_RATIO = 200  # unpacked to packed bytes of one zip entry
# A black BMP of a few hundred pixels shrinks a thousandfold; only larger entries can do harm.
RATIO_FREE_BYTES = 1_000_000

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@dataclass(frozen=True, slots=True)
class ZipTree:
    """The files in a zip. Holds no open file, so that threads and forked workers read independently."""

    name: str
    path: Path
    files: tuple[str, ...] = field(repr=False)
    folders: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    entries: Mapping[str, zipfile.ZipInfo] = field(repr=False)

    def content(self, key: str) -> bytes:
        """The bytes of entry `key`, at most 100 MB and, above 1 MB, 200 times what they take packed."""
        entry, where = self.entries[key], f"{self.name}/{key}"
        packed = _packed_bytes(self.path, entry, where)
        data = packed if entry.compress_type == _STORED else _inflate(packed, where)
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            raise DataError(where, "is damaged: its checksum is wrong", "make or copy the zip again")
        return data


def _packed_bytes(path: Path, entry: zipfile.ZipInfo, where: str) -> bytes:
    if entry.compress_size > MAX_ENTRY_BYTES:
        raise DataError(where, "is larger than 100 MB", "unpack the zip and give its folder")
    try:
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            # The local header repeats name and extra field, at lengths of its own.
            name_length, extra_length = struct.unpack("<26xHH", file.read(30))
            file.seek(name_length + extra_length, os.SEEK_CUR)
            packed = file.read(entry.compress_size)
    except (OSError, ValueError, struct.error) as error:
        raise DataError(where, f"cannot be read ({error})", "make or copy the zip again") from None
    if len(packed) < entry.compress_size:
        raise DataError(where, "is cut off", "make or copy the zip again")
    return packed


def _inflate(packed: bytes, where: str) -> bytes:
    """The bytes that `packed` (raw deflate) holds; counted while unpacking, for headers may lie."""
    limit = min(MAX_ENTRY_BYTES, max(RATIO_FREE_BYTES, MAX_RATIO * len(packed)))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, limit + 1)
    except zlib.error as error:
        raise DataError(where, f"is damaged ({error})", "make or copy the zip again") from None
    if len(data) > limit:
        raise DataError(
            where,
            f"unpacks to more than {limit / 1e6:,.0f} MB from {len(packed):,} bytes",
            "unpack the zip yourself if you trust it, and give its folder",
        )
    return data


def open_zip(path: Path) -> ZipTree:
    """The files in the zip `path`.

    Raises DataError naming it if it is damaged, encrypted, no zip at all or has more than 200,000 entries.
    """
    with path.open("rb") as file:
        if path.suffix.lower() != ".zip" and file.read(2) != b"PK":
            raise DataError(
                path, "is neither a folder nor a zip nor a .csv", "give one of these; unpack other archives"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
        raise DataError(path, f"is not a zip that can be read ({error})", "make or copy it again") from None
    if len(infos) > MAX_ENTRIES:
        raise DataError(
            path, f"has {len(infos):,} entries, more than {MAX_ENTRIES:,}", "unpack it and give its folder"
        )
    if any(info.flag_bits & 1 for info in infos):
        raise DataError(path, "is encrypted", "unpack it with its password and give the folder")
    return _zip_tree(path, infos)


def _zip_tree(path: Path, infos: list[zipfile.ZipInfo]) -> ZipTree:
    entries: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    findings = []
    for info in infos:
        # Some Windows tools write backslashes, against the format's rules.
        name = info.filename.replace("\\", "/")
        if any(map(_is_ignored_part, name.split("/"))):
            continue
        if finding := _entry_finding(name, info, entries):
            findings.append(finding)
            continue
        if not name.endswith("/"):
            entries[name] = info
        pieces = name.rstrip("/").split("/")
        depth = len(pieces) + name.endswith("/")
        folders.update("/".join(pieces[:end]) for end in range(1, depth))
    return ZipTree(str(path), path, tuple(sorted(entries)), tuple(sorted(folders)), tuple(findings), entries)


def _is_ignored_part(piece: str) -> bool:
    return piece not in (".", "..") and is_ignored(piece)


def _entry_finding(name: str, info: zipfile.ZipInfo, known: Mapping[str, object]) -> Finding | None:
    """Why an entry is left out, if it is."""
    pieces = name.removesuffix("/").split("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if "" in pieces or "." in pieces or ".." in pieces or ":" in pieces[0]:
        return Finding(name, "", "error", "path", "its path leaves the zip", "make the zip again")
    if kind == stat.S_IFLNK:
        return link_finding(name, "symlink", "it is a link")
    if kind in KINDS:
        return Finding(name, "", "error", "special-file", f"it is a {KINDS[kind]}", "remove it")
    if info.compress_type not in (_STORED, _DEFLATED):
        message = f"it is compressed by method {info.compress_type}, which is not read here"
        return Finding(name, "", "error", "compression", message, "make the zip again with deflate")
    if name in known:
        return Finding(name, "", "error", "duplicate-entry", "the zip holds it twice", "make the zip again")
    return None
