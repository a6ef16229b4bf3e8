"""Tars in the WebDataset layout, those that `striate datasets pack` writes or anybody else's.

    train-000000.tar: 00001.jpg 00001.cls 00002.jpg 00002.cls ...    val-000000.tar: ...

A picture and its label share the name up to its first dot; `.cls` holds the class id as digits. With our
own manifest nothing is scanned. Without one the headers of each tar are read; then the classes are called
by their numbers, and a part is known by a word in the tar's path.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.decode import MAX_BYTES, SUFFIXES
from striate.data.formats import is_picture, other_files, part_in
from striate.data.manifest import (
    MANIFEST,
    PACKING,
    IndexRow,
    Manifest,
    Shard,
    ShardIndex,
    decoded,
    index_name,
    read_bytes,
    sha256,
)
from striate.data.tars import Member, TarStorage, list_members
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise"]

NAME = "shards"
ACCEPTS = "tar shards in the WebDataset layout (train-000000.tar with 1.jpg, 1.cls, ...), uncompressed"
PRECEDENCE = 0
TASK: Task = "classification"

_SUFFIX = ".tar"
_MAX_LABEL = 99_999
_MAX_LABEL_BYTES = 32
_AGAIN = "pack the data again, or copy it again"


@dataclass(slots=True)
class _Listing:
    """Pictures with where they lie, in order, as they are found."""

    tree: Tree
    tars: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, name: str, part: Part, label: int | None, offset: int, size: int) -> None:
        """A picture of the tar that was begun last."""
        self.items.append(Item(f"{self.tars[-1]}/{name}", part, label))
        self.places.append((len(self.tars) - 1, offset, size))

    def dataset(self, classes: tuple[str, ...], checksums: tuple[str, ...] = ()) -> Dataset:
        """The pictures as a dataset. Raises DataError if there is none."""
        if not self.items:
            raise DataError(self.tree.name, "no tar in it holds a picture", f"make it {ACCEPTS}")
        rows = {item.key: row for row, item in enumerate(self.items)}
        if len(rows) < len(self.items):
            raise DataError(self.tree.name, "its manifest or an index lists a picture twice", _AGAIN)
        storage = TarStorage(
            names=tuple(self.tars),
            paths=tuple(_path(self.tree, tar) for tar in self.tars),
            rows=rows,
            places=np.array(self.places, np.int64),
            checksums=checksums,
        )
        return Dataset(
            self.tree.name,
            NAME,
            "classification",
            classes,
            tuple(self.items),
            storage,
            findings=(*self.tree.findings, *self.findings),
        )


def recognise(tree: Tree) -> bool:
    """Whether there are tars, and beside them our own files or no pictures."""
    tars = [path for path in tree.files if path.endswith(_SUFFIX)]
    beside = {index_name(tar) for tar in tars}
    is_ours = MANIFEST in tree.files and not beside.isdisjoint(tree.files)
    return is_ours or (bool(tars or PACKING in tree.files) and not any(map(is_picture, tree.files)))


def read(tree: Tree) -> Dataset:
    """The pictures in the tars.

    Raises DataError naming a tar that is not as the manifest says, one that is cut off or damaged, and a
    packing that was interrupted.
    """
    if PACKING in tree.files:
        raise DataError(
            tree.name,
            "was not packed to the end",
            "run the same striate datasets pack ... --out command again",
        )
    manifest = _manifest(tree)
    return _foreign(tree) if manifest is None else _packed(tree, manifest)


def _path(tree: Tree, name: str) -> Path:
    content = tree.content(name)
    if not isinstance(content, Path):
        raise DataError(tree.name, "has tars inside a zip", "unpack the zip and give its folder")
    return content


# --- ours -------------------------------------------------------------------------------------------


def _manifest(tree: Tree) -> Manifest | None:
    """The manifest; None where there is none, or one of another program."""
    if MANIFEST not in tree.files:
        return None
    where = f"{tree.name}/{MANIFEST}"
    content = read_bytes(_path(tree, MANIFEST), where)
    return decoded(content, Manifest, where) if b"striate shards" in content else None


def _packed(tree: Tree, manifest: Manifest) -> Dataset:
    listing = _Listing(tree)
    for shard in manifest.shards:
        _add_shard(listing, shard, len(manifest.classes))
    if Counter(item.part for item in listing.items) != Counter(manifest.pictures):
        raise DataError(f"{tree.name}/{MANIFEST}", "counts other pictures than its shards hold", _AGAIN)
    known = {name for shard in manifest.shards for name in (shard.name, index_name(shard.name))} | {MANIFEST}
    listing.findings += _unlisted([path for path in tree.files if path not in known])
    return listing.dataset(manifest.classes, tuple(shard.sha256 for shard in manifest.shards))


def _add_shard(listing: _Listing, shard: Shard, classes: int) -> None:
    """The pictures of a shard as its index lists them."""
    tree = listing.tree
    where, beside = f"{tree.name}/{shard.name}", f"{tree.name}/{index_name(shard.name)}"
    if missing := {shard.name, index_name(shard.name)}.difference(tree.files):
        raise DataError(f"{tree.name}/{min(missing)}", "is in the manifest but not there", _AGAIN)
    size = _path(tree, shard.name).stat().st_size
    if size != shard.bytes:
        raise DataError(where, f"has {size:,} bytes, {shard.bytes:,} by the manifest", _AGAIN)
    content = read_bytes(_path(tree, index_name(shard.name)), beside)
    if sha256(content) != shard.index_sha256:
        raise DataError(beside, "is damaged: its SHA-256 is not the one in the manifest", _AGAIN)
    index = decoded(content, ShardIndex, beside)
    if len(index.samples) != shard.pictures or not all(
        _is_inside(row, size, classes) for row in index.samples
    ):
        raise DataError(beside, "does not fit its tar or the manifest", _AGAIN)
    listing.tars.append(shard.name)
    for row in index.samples:
        listing.add(row.name, shard.part, row.label, row.offset, row.size)


def _is_inside(row: IndexRow, size: int, classes: int) -> bool:
    is_sized = row.offset >= 0 and 0 <= row.size <= MAX_BYTES and row.offset + row.size <= size
    return is_sized and 0 <= row.label < classes


def _unlisted(paths: list[str]) -> list[Finding]:
    """A warning for each tar that the manifest does not know, a note for other files."""
    tars = [path for path in paths if path.endswith(_SUFFIX)]
    message, fix = "the manifest does not know it: left out", "remove it, or pack the data again"
    warnings = [Finding(path, "", "warning", "not-in-manifest", message, fix) for path in tars]
    return [*warnings, *other_files(path for path in paths if not path.endswith(_SUFFIX))]


# --- anybody's --------------------------------------------------------------------------------------


def _foreign(tree: Tree) -> Dataset:
    listing = _Listing(tree)
    for tar in (path for path in tree.files if path.endswith(_SUFFIX)):
        _add_tar(listing, tar)
    listing.findings += other_files(path for path in tree.files if not path.endswith(_SUFFIX))
    most = max((item.label for item in listing.items if item.label is not None), default=-1)
    return listing.dataset(tuple(map(str, range(most + 1))))


def _add_tar(listing: _Listing, tar: str) -> None:
    """The pictures of a tar as its headers list them, each with the label that shares its name."""
    path = _path(listing.tree, tar)
    where = f"{listing.tree.name}/{tar}"
    members, findings = list_members(path, where)
    listing.tars.append(tar)
    # As the keys do, they name the tar without the folder around it.
    prefix = f"{listing.tree.name}/"
    listing.findings += [replace(found, file=found.file.removeprefix(prefix)) for found in findings]
    pictures: dict[str, list[Member]] = defaultdict(list)
    labels: dict[str, Member] = {}
    others = []
    for member in members:
        key, extension = _split(member.name)
        if f".{extension}" in SUFFIXES:
            pictures[key].append(member)
        elif extension == "cls" and key not in labels:
            labels[key] = member
        else:
            others.append(f"{tar}/{member.name}")
    listing.findings += other_files(others)
    _add_samples(listing, path, pictures, labels)


def _split(name: str) -> tuple[str, str]:
    """The key of a member and its extension, which begins at the first dot of the last piece."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _add_samples(
    listing: _Listing, path: Path, pictures: dict[str, list[Member]], labels: dict[str, Member]
) -> None:
    tar = listing.tars[-1]
    part = part_in(tar)
    with path.open("rb") as file:
        for key, found in pictures.items():
            member, written = found[0], b""
            if key in labels:
                file.seek(labels[key].offset)
                written = file.read(min(labels[key].size, _MAX_LABEL_BYTES))
            label = _label(written)
            if problem := _problem(found, label is None and key in labels, written):
                listing.findings.append(_left_out(f"{tar}/{member.name}", *problem))
            else:
                # Without a label it stays in, and whoever uses it says so.
                listing.add(member.name, part, label, member.offset, member.size)
    for key in sorted(labels.keys() - pictures.keys()):
        listing.findings.append(
            _left_out(f"{tar}/{labels[key].name}", "no-picture", "no picture has its key")
        )


def _problem(pictures: list[Member], is_mislabelled: bool, written: bytes) -> tuple[str, str] | None:
    """Code and message of what is wrong with the pictures of one key, if anything is."""
    if len(pictures) > 1:
        return "two-pictures", f"{pictures[1].name} has its key too"
    if pictures[0].size > MAX_BYTES:
        return "size", "it has more than 100 MB"
    if is_mislabelled:
        shown = written.decode("ascii", "backslashreplace")
        return "label", f"its label is {shown!r}, no number of 0 to {_MAX_LABEL:,}"
    return None


def _label(content: bytes) -> int | None:
    digits = content.strip()
    is_number = digits.isdigit() and len(digits) < 10 and int(digits) <= _MAX_LABEL
    return int(digits) if is_number else None


def _left_out(file: str, code: str, message: str) -> Finding:
    return Finding(file, "", "error", code, message, "mend it where the tar was made, and make that again")
