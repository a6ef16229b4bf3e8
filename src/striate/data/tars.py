"""Pictures in tars: listed from the headers alone, read by position, never unpacked to a disk."""

import os
import stat
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import Finding
from striate.data.unlisted import KINDS, is_ignored, is_text, link_finding, unreadable, unreadable_name
from striate.errors import DataError
from striate.files import sha256_of

__all__ = ["Member", "TarStorage", "list_members"]

BLOCK = 512  # bytes; what a tar is made of
_END = bytes(BLOCK)
_MAX_HEADER_BYTES = 1 << 20  # of a long name or a list of attributes
_AGAIN = "make or copy the tar again"

# POSIX.1-1988 (ustar): name, size, checksum, type, magic, prefix of the name.
_FIELDS = struct.Struct("<100s24x12s12x8sc100x6s82x155s12x")
_REGULAR = (b"0", b"\0", b"7")
_FOLDER = b"5"
_LINKS = {b"1": "hard link", b"2": "link"}
_DEVICES = {b"3": KINDS[stat.S_IFCHR], b"4": KINDS[stat.S_IFBLK], b"6": KINDS[stat.S_IFIFO]}
_ATTRIBUTES, _ATTRIBUTES_OF_ALL = b"x", b"g"  # POSIX.1-2001 (pax)
_LONG_NAME, _LONG_LINK, _SPARSE = b"L", b"K", b"S"  # GNU


# --- headers ----------------------------------------------------------------------------------------


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    offset: int  # of its bytes in the tar
    size: int


class _Header(NamedTuple):
    """One header with what the headers before it say of the same member."""

    name: str
    kind: bytes
    offset: int
    size: int


def list_members(path: Path, name: str) -> tuple[list[Member], list[Finding]]:
    """The regular files in the tar `path` in their order, and what was left out; `name` is for messages.

    Left out with a finding each are links, devices, names that are not UTF-8 or lead out of the tar, and
    a name's second member; folders and what file managers write, in silence. Raises DataError for a tar
    that is cut off, damaged or compressed, and for sparse members.
    """
    members: dict[str, Member] = {}
    findings: list[Finding] = []
    try:
        with path.open("rb") as file:
            for header in _headers(file, os.fstat(file.fileno()).st_size, name):
                member = header.name.removeprefix("./")
                if header.kind == _FOLDER or any(map(_is_ignored_part, member.split("/"))):
                    continue
                if finding := _member_finding(f"{name}/{member}", member, header, members):
                    findings.append(finding)
                else:
                    members[member] = Member(member, header.offset, header.size)
    except OSError as error:
        raise DataError(name, f"cannot be read ({error.strerror or error})", _AGAIN) from None
    return list(members.values()), findings


def _is_ignored_part(piece: str) -> bool:
    return piece not in (".", "..") and is_ignored(piece)


def _member_finding(where: str, name: str, header: _Header, known: Mapping[str, Member]) -> Finding | None:
    """Why a member is left out, if it is."""
    if not is_text(name):
        return unreadable_name(where)
    pieces = name.split("/")
    if "" in pieces or "." in pieces or ".." in pieces or ":" in pieces[0] or "\\" in name:
        return Finding(where, "", "error", "path", "its path leaves the tar", _AGAIN)
    if header.kind in _LINKS:
        return link_finding(where, "symlink", f"it is a {_LINKS[header.kind]}")
    if header.kind not in _REGULAR:
        message = f"it is a {_DEVICES.get(header.kind, 'special file')}"
        return Finding(where, "", "error", "special-file", message, _AGAIN)
    if name in known:
        return Finding(where, "", "error", "duplicate-entry", "the tar holds it twice", _AGAIN)
    return None


def _headers(file: IO[bytes], end: int, tar: str) -> Iterator[_Header]:
    """Every member's header; those that only describe the next one are merged into it."""
    position = 0
    of_all: dict[str, str] = {}
    described: dict[str, str] = {}
    while (block := _read(file, position, BLOCK, tar)) != _END:
        name, size, kind = _parsed(block, f"{tar}, byte {position}")
        position += BLOCK
        if kind in (_ATTRIBUTES, _ATTRIBUTES_OF_ALL, _LONG_NAME, _LONG_LINK):
            content = _description(file, position, size, tar)
            if kind == _ATTRIBUTES_OF_ALL:
                of_all |= _attributes(content, tar)
            elif kind == _ATTRIBUTES:
                described |= _attributes(content, tar)
            elif kind == _LONG_NAME:
                described["path"] = _text(content)
        else:
            merged = _merged(_Header(name, kind, position, size), {**of_all, **described}, tar)
            described = {}
            # Links, devices and folders have no bytes, whatever their header says.
            size = 0 if kind in (*_LINKS, *_DEVICES, _FOLDER) else merged.size
            if position + size > end:
                raise DataError(f"{tar}/{merged.name}", f"reaches beyond the tar's {end:,} bytes", _AGAIN)
            yield merged
        position += -(-size // BLOCK) * BLOCK
    _refuse_more(file, position, tar)


def _parsed(block: bytes, where: str) -> tuple[str, int, bytes]:
    """Name, size and type that a header states."""
    name, size, checksum, kind, magic, prefix = _FIELDS.unpack(block)
    if _number(checksum, where) != sum(block) - sum(checksum) + 8 * ord(" "):
        raise DataError(where, "is no header of a tar, or a damaged one", f"{_AGAIN}, uncompressed")
    name = _text(name)
    # GNU's own form keeps other things where POSIX keeps the prefix.
    if magic == b"ustar\0" and prefix[0]:
        name = f"{_text(prefix)}/{name}"
    is_old_folder = kind == b"\0" and name.endswith("/")
    return name, _number(size, where), _FOLDER if is_old_folder else kind


def _merged(header: _Header, described: Mapping[str, str], tar: str) -> _Header:
    where = f"{tar}/{header.name}"
    if header.kind == _SPARSE or "sparse" in described:
        raise DataError(where, "is sparse, which is not read here", "make the tar again without --sparse")
    size = described.get("size", str(header.size))
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise DataError(where, f"has the size {size!r}", _AGAIN)
    return _Header(described.get("path", header.name), header.kind, header.offset, int(size))


def _description(file: IO[bytes], position: int, size: int, tar: str) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise DataError(f"{tar}, byte {position}", f"a header takes {size:,} bytes", _AGAIN)
    return _read(file, position, size, tar)


def _attributes(content: bytes, tar: str) -> dict[str, str]:
    """Those of the records `LENGTH KEY=VALUE\\n` of a pax header that matter here."""
    records = {}
    while content:
        digits, _, rest = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0
        key, equals, value = rest[: max(0, length - len(digits) - 1)].partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(content):
            raise DataError(tar, "has a damaged pax header", _AGAIN)
        name = "sparse" if key.startswith(b"GNU.sparse") else _text(key)
        if name in ("path", "size", "sparse"):
            records[name] = value[:-1].decode("utf-8", "surrogateescape")
        content = content[length:]
    return records


def _text(field_content: bytes) -> str:
    return field_content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(digits: bytes, where: str) -> int:
    """An octal number, or GNU's binary one for what has too many digits."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.strip(b" \0")
    if not all(byte in b"01234567" for byte in text):
        raise DataError(where, "is no header of a tar, or a damaged one", f"{_AGAIN}, uncompressed")
    return int(text or b"0", 8)


def _read(file: IO[bytes], position: int, size: int, tar: str) -> bytes:
    file.seek(position)
    content = file.read(size)
    if len(content) < size:
        raise DataError(tar, f"is cut off at byte {position + len(content):,}", _AGAIN)
    return content


def _refuse_more(file: IO[bytes], position: int, tar: str) -> None:
    """Raise DataError where something follows the end mark: readers of tars would never see it."""
    file.seek(position)
    while block := file.read(1 << 20):
        if block.count(0) < len(block):
            raise DataError(tar, "goes on behind its end mark", "join tars with tar --concatenate")


# --- pictures ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TarStorage:
    """Pictures in uncompressed tars. Holds no open file, so threads and forked workers read independently."""

    names: tuple[str, ...]  # of the tars, for messages and keys
    paths: tuple[Path, ...]
    rows: Mapping[str, int] = field(repr=False)  # key -> row of `places`
    places: NDArray[np.int64] = field(repr=False)  # (N, 3): which tar, offset and size in bytes
    checksums: tuple[str, ...] = ()  # SHA-256 of each tar; empty where nobody noted them
    _ahead: "_ReadAhead" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = Counter(self.places[:, 0].tolist())
        object.__setattr__(self, "_ahead", _ReadAhead(self.paths, counts))

    def content(self, key: str) -> bytes:
        """The bytes of picture `key`. Raises DataError where its tar became shorter or cannot be read."""
        tar, offset, size = self.place(key)
        self._ahead.note(tar)
        try:
            with self.paths[tar].open("rb") as file:
                return _read(file, offset, size, key)
        except OSError as error:
            raise DataError(
                key, f"its tar cannot be read ({error.strerror or error})", "check the disk"
            ) from None

    def place(self, key: str) -> tuple[int, int, int]:
        """Which tar holds picture `key`, where in it, and its size in bytes. Raises DataError for no key."""
        if key not in self.rows:
            raise DataError(key, "there is no such picture", "keys are TAR/NAME of the pictures in the tars")
        tar, offset, size = self.places[self.rows[key]].tolist()
        return tar, offset, size

    def block_of(self, key: str) -> int:
        """The tar that holds picture `key`: those of one are best read together."""
        return self.place(key)[0]

    def damage(self) -> Iterator[tuple[int, Finding | None]]:
        """For each tar how many pictures it holds, and what is wrong where its checksum is."""
        counts = Counter(self.places[:, 0].tolist())
        for number, (name, path) in enumerate(zip(self.names, self.paths, strict=True)):
            try:
                is_whole = not self.checksums or sha256_of(path) == self.checksums[number]
            except OSError as error:
                yield counts[number], unreadable(name, error)
                continue
            message = "it is damaged: its SHA-256 is not the one in the manifest"
            finding = Finding(name, "", "error", "checksum", message, "pack it again, or copy it again")
            yield counts[number], None if is_whole else finding


class _ReadAhead:
    """Reads a tar from front to back into the system's cache once its pictures are being asked for.

    They are asked for in any order, which a disk answers far slower than one long read. A few alone are
    left to themselves. Advice to the kernel (WILLNEED) would not do: it reads a few hundred kilobytes.
    """

    _FEW = 4
    _STEP = 1 << 22  # bytes

    def __init__(self, paths: tuple[Path, ...], pictures: Mapping[int, int]) -> None:
        self._paths = paths
        self._pictures = pictures
        self._asked: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one tar at a time

    def note(self, tar: int) -> None:
        """That a picture of `tar` is asked for."""
        with self._lock:
            self._asked[tar] += 1
            # Anew in each pass: the system's cache may have let go of it.
            is_due = self._asked[tar] % max(self._pictures[tar], self._FEW) == self._FEW - 1
        if is_due and self._pictures[tar] > self._FEW:
            threading.Thread(target=self._read, args=(tar,), name="striate-read-ahead", daemon=True).start()

    def _read(self, tar: int) -> None:
        with self._turn:
            try:
                with self._paths[tar].open("rb", buffering=0) as file:
                    if hasattr(os, "posix_fadvise"):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                    scratch = bytearray(self._STEP)
                    while file.readinto(scratch):
                        pass
            except OSError:
                return  # who asks for the picture itself is told
