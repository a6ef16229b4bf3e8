"""Layouts that a dataset can have on disk. Each is one file in this folder; nothing is registered.

A format is a module that offers

    NAME: str                        what reports call it: "class folders"
    ACCEPTS: str                     one line for messages: what such a folder looks like
    PRECEDENCE: int                  where several recognise a folder, the lowest reads it
    TASK: Task                       what its labels are for
    recognise(tree: Tree) -> bool    cheap: by names, and at most the first line of a label file
    read(tree: Tree) -> Dataset      raises DataError naming file and line where nothing can be made of it;
                                     what is left out is a Finding each, and items without a stated
                                     part have part ""
    write(dataset, folder, progress) -> tuple[str, ...]     formats of boxes: what is lost, a sentence each

Here is what several of them need.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence

from striate.data.dataset import Finding, Part
from striate.data.decode import SUFFIXES

__all__ = ["is_picture", "other_files", "part_in", "part_of", "shown", "unlisted"]

_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_UNREAD_PICTURES = frozenset(
    (".avif", ".cr2", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".raw", ".svg", ".tga")
)


def part_of(name: str) -> Part | None:
    """The part that a folder, file or cell of this name means (`valid` is "val"); None for other names."""
    return _PARTS.get(name.strip().lower())


def part_in(path: str) -> Part:
    """The part that a word in the path means; "" where none does, or two differ."""
    parts = {part for word in re.split(r"[^A-Za-z]+", path) if (part := part_of(word))}
    return parts.pop() if len(parts) == 1 else ""


def is_picture(path: str) -> bool:
    """Whether the suffix is one of a picture that can be decoded."""
    return path[path.rfind(".") :].lower() in SUFFIXES


def shown(names: Sequence[str], count: int = 3) -> str:
    """The first few names for a message: "a, b, c and 7 more"."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest:,} more" if rest > 0 else "")


def unlisted(pictures: Iterable[str], listed: Container[str], where: str) -> list[Finding]:
    """A note of the `pictures` that are not `listed`; `where` says in what."""
    rest = sorted(path for path in pictures if path not in listed)
    if not rest:
        return []
    message = f"{len(rest):,} pictures {where} left out: {shown(rest)}"
    return [Finding(rest[0], "", "note", "unlisted", message, "list them if they belong here")]


def other_files(paths: Iterable[str]) -> list[Finding]:
    """One finding per kind of file that is no picture, however many there are of it."""
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_suffix[posixpath.splitext(path)[1].lower()].append(path)
    findings = []
    for suffix, files in sorted(by_suffix.items()):
        kind = f"{len(files):,} {suffix or 'suffixless'} file{'s' * (len(files) > 1)}"
        message = f"{kind} left out: {shown(files)}"
        if suffix in _UNREAD_PICTURES:
            fix = "convert them to PNG or JPEG"
            findings.append(Finding(files[0], "", "warning", "unread-format", message, fix))
        else:
            fix = "nothing to do if they are no pictures"
            findings.append(Finding(files[0], "", "note", "not-a-picture", message, fix))
    return findings
