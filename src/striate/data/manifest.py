"""The files beside packed shards: the manifest of all, and the index of each.

manifest.json       classes, counts, sizes and SHA-256 of each shard and of its index
train-000000.tar    pictures and labels in the WebDataset layout: KEY.jpg and KEY.cls
train-000000.json   where each picture lies in it, so that nothing has to be scanned
packing.json        there only while packing: what the shards will hold
"""

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from striate.config import Settings
from striate.data.dataset import Finding, Part
from striate.data.split import SplitConfig
from striate.errors import DataError, UsageError
from striate.files import atomic_write

__all__ = [
    "MANIFEST",
    "PACKING",
    "IndexRow",
    "Manifest",
    "PackConfig",
    "Packing",
    "Shard",
    "ShardIndex",
    "decoded",
    "index_name",
    "read_bytes",
    "read_json",
    "sha256",
    "write_json",
]

MANIFEST = "manifest.json"
PACKING = "packing.json"

_MAX_BYTES = 2_000_000_000  # of one of these files
_AGAIN = "pack the data again"

StructT = TypeVar("StructT", bound=msgspec.Struct)


class PackConfig(Settings, frozen=True):
    """How a dataset is packed."""

    shard_megabytes: float = 256.0  # 10**6 bytes; a shard is closed before it would grow beyond
    split: SplitConfig = SplitConfig()  # of parts that the source lacks; its seed also shuffles

    def __post_init__(self) -> None:
        if not 0.01 <= self.shard_megabytes <= 1_000_000:
            raise UsageError(
                "--shard-megabytes", f"{self.shard_megabytes:g} is out of range", "give 0.01 to 1000000"
            )

    @property
    def shard_bytes(self) -> int:
        """What a shard holds at most, unless a single picture is larger."""
        return round(1e6 * self.shard_megabytes)


class IndexRow(msgspec.Struct, frozen=True, array_like=True):
    """A picture in a shard."""

    name: str  # of its member
    offset: int  # of its bytes in the shard
    size: int
    label: int


class ShardIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one shard holds."""

    bytes: int  # of the shard
    sha256: str
    samples: tuple[IndexRow, ...]


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard as the manifest lists it."""

    name: str
    part: Part
    pictures: int
    bytes: int
    sha256: str
    index_sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about packed shards but where each picture lies."""

    format: Literal["striate shards"] = "striate shards"
    version: Literal[1] = 1
    source: str  # name of the dataset that was packed
    fingerprint: str  # SHA-256 over its usable keys, classes and pixels
    config: PackConfig
    classes: tuple[str, ...]  # in the order of the labels
    pictures: dict[Part, int]  # in each part
    shards: tuple[Shard, ...]


class Packing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is being packed, so that an interrupted packing goes on without a second look at the pictures."""

    identity: str  # SHA-256 over names, labels and states of the files
    fingerprint: str
    config: PackConfig
    parts: dict[str, Part]  # of each usable picture by its key
    notes: tuple[str, ...]  # how the parts were made
    left_out: tuple[Finding, ...]  # why pictures are not usable


def index_name(shard: str) -> str:
    """The file that says where the pictures of `shard` lie."""
    return f"{shard.removesuffix('.tar')}.json"


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path, value: msgspec.Struct, *, indent: int = 0) -> str:
    """Write `value`, whole or not at all; SHA-256 of what was written."""
    content = msgspec.json.encode(value)
    if indent:
        content = msgspec.json.format(content, indent=indent) + b"\n"
    with atomic_write(path) as file:
        file.write(content)
    return sha256(content)


def read_bytes(path: Path, where: str) -> bytes:
    """The content of one of these files. Raises DataError naming it by `where`."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(where, "is larger than 2 GB", _AGAIN)
        return path.read_bytes()
    except OSError as error:
        raise DataError(where, f"cannot be read ({error.strerror or error})", _AGAIN) from None


def decoded(content: bytes, kind: type[StructT], where: str) -> StructT:
    """`content` as `kind`. Raises DataError naming it by `where` for anything else."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UsageError, UnicodeDecodeError) as error:
        raise DataError(where, f"is damaged or of another version ({error})", _AGAIN) from None


def read_json(path: Path, kind: type[StructT], where: str) -> StructT:
    """What `write_json` wrote. Raises DataError naming it by `where` for anything else."""
    return decoded(read_bytes(path, where), kind, where)
