"""Where the files of a dataset lie: a folder or a zip, listed once, read alike, never unpacked.

A tree is also a `Storage`: its paths are the keys. Paths are POSIX, relative to the root, sorted by
code point (the order of torchvision's ImageFolder, the same on every machine).

What is not listed: names that start with a dot, `Thumbs.db`, `desktop.ini` and `__MACOSX` silently,
since file managers make those; special files, links that leave the root or run in circles,
unreadable folders and unsafe zip entries with a finding each.
"""

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from striate.data.dataset import Finding
from striate.data.unlisted import is_ignored, is_text, kind_of, link_finding, unreadable, unreadable_name
from striate.data.zips import open_zip
from striate.errors import DataError

__all__ = [
    "FolderTree",
    "Subtree",
    "Tree",
    "below",
    "bytes_of",
    "head_of",
    "listed_tree",
    "open_tree",
    "text_of",
]

MAX_TEXT_BYTES = 500_000_000  # of a label file; a row for each of ImageNet's pictures takes 80 MB


class Tree(Protocol):
    """The files of one dataset."""

    @property
    def name(self) -> str:
        """What messages call it: the path as the user gave it."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """Paths of all folders below the root, sorted; empty ones too."""
        ...

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was left out, and why."""
        ...

    def content(self, key: str) -> Path | bytes:
        """Where the file `key` can be opened, or its bytes. Raises DataError if they are damaged."""
        ...


def open_tree(path: Path) -> Tree:
    """The files below a folder or in a zip. Raises DataError naming `path` for anything else."""
    try:
        mode = path.stat().st_mode  # a link that the user names is followed
        if stat.S_ISDIR(mode):
            return _Walk(path).tree()
        if stat.S_ISREG(mode):
            return open_zip(path)
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror or error})", "check the path and its permissions"
        ) from None
    raise DataError(path, f"is a {kind_of(mode)}", "give a folder, a .zip or a .csv")


def text_of(tree: Tree, path: str) -> str:
    """The text of a label file, UTF-8 with or without a byte order mark.

    Raises DataError naming the file if it is unreadable, not UTF-8 or larger than 500 MB.
    """
    content = bytes_of(tree, path, MAX_TEXT_BYTES)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"{tree.name}/{path}:{line}"
        raise DataError(where, "is not UTF-8", "save it as text in UTF-8") from None


def bytes_of(tree: Tree, path: str, most: int) -> bytes:
    """The content of a label file. Raises DataError if it is unreadable or has more than `most` bytes."""
    where = f"{tree.name}/{path}"
    content = tree.content(path)
    try:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size > most:
            limit = f"{most / 1_000_000:g} MB"
            raise DataError(where, f"is larger than {limit}", "give a smaller label file")
        return content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise DataError(
            where, f"cannot be read ({error.strerror or error})", "check its permissions"
        ) from None


def head_of(tree: Tree, path: str, size: int) -> bytes:
    """The first `size` bytes of a file, to tell what it is; none where it cannot be read."""
    content = tree.content(path)
    if isinstance(content, bytes):
        return content[:size]
    try:
        with content.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


# --- folders ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FolderTree:
    """The files below a folder."""

    name: str
    root: Path
    files: tuple[str, ...] = field(repr=False)
    folders: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...]

    def content(self, key: str) -> Path:
        return self.root / key


class _Folder(NamedTuple):
    """A folder that is still to be listed."""

    path: str
    lineage: frozenset[tuple[int, int]]  # (device, inode) of it and of every folder above
    linked: bool  # whether a link was followed on the way


class _Walk:
    """One pass over a folder: a directory entry's type comes with its name, so files cost no stat."""

    def __init__(self, root: Path) -> None:
        self.name, self.root = str(root), os.path.realpath(root)
        self.files: list[str] = []
        self.folders: list[str] = []
        self.findings: list[Finding] = []

    def tree(self) -> FolderTree:
        pending = [_Folder("", frozenset({_identity(os.stat(self.root))}), linked=False)]
        while pending:
            folder = pending.pop()
            try:
                pending += self._list(folder)
            except OSError as error:
                if not folder.path:
                    raise
                self.findings.append(unreadable(folder.path, error))
        findings = sorted(self.findings, key=lambda finding: finding.file)
        return FolderTree(
            self.name,
            Path(self.root),
            tuple(sorted(self.files)),
            tuple(sorted(self.folders)),
            tuple(findings),
        )

    def _list(self, folder: _Folder) -> list[_Folder]:
        """The folders in `folder`; its files are filed."""
        below = []
        prefix = f"{folder.path}/" if folder.path else ""
        with os.scandir(os.path.join(self.root, folder.path)) as entries:
            for entry in entries:
                name = entry.name
                if is_ignored(name):
                    continue
                if not is_text(name):
                    self.findings.append(unreadable_name(prefix + name))
                elif entry.is_file(follow_symlinks=False):
                    self.files.append(prefix + name)
                elif entry.is_dir(follow_symlinks=False):
                    identity = _identity(entry.stat(follow_symlinks=False))
                    below.append(_Folder(prefix + name, folder.lineage | {identity}, folder.linked))
                else:
                    below += self._other(prefix + name, folder)
        self.folders += [child.path for child in below]
        return below

    def _other(self, path: str, folder: _Folder) -> list[_Folder]:
        """The folder that the link `path` leads to, if any; a linked file is filed."""
        status = _regular_or_folder(self.root, path)
        if isinstance(status, Finding):
            self.findings.append(status)
            return []
        if stat.S_ISREG(status.st_mode):
            self.files.append(path)
            return []
        identity = _identity(status)
        if identity in folder.lineage:
            self.findings.append(link_finding(path, "symlink-loop", "it is a link to a folder around it"))
            return []
        if folder.linked:
            # Folders full of links to each other would have more paths than atoms in the universe.
            self.findings.append(link_finding(path, "symlink", "it is a link inside a linked folder"))
            return []
        return [_Folder(path, folder.lineage | {identity}, linked=True)]


def listed_tree(root: Path, paths: Iterable[str]) -> FolderTree:
    """Those of `paths` that exist below `root`, without a walk: for a label file in a vast folder.

    The same rules as for `open_tree`; a path that does not exist is left out without a finding.
    """
    real_root = os.path.realpath(root)

    @cache
    def is_inside(folder: str) -> bool:
        return _is_below(real_root, os.path.realpath(os.path.join(real_root, folder)))

    files: list[str] = []
    findings: list[Finding] = []
    for path in dict.fromkeys(paths):
        if is_inside(os.path.dirname(path)) and _is_plain_file(real_root, path):
            files.append(path)
        elif os.path.lexists(os.path.join(real_root, path)):
            status = _regular_or_folder(real_root, path)
            if isinstance(status, Finding):
                findings.append(status)
            elif stat.S_ISREG(status.st_mode):
                files.append(path)
    return FolderTree(str(root), Path(real_root), tuple(sorted(files)), (), tuple(findings))


def _is_plain_file(root: str, path: str) -> bool:
    """Whether `path` is a regular file itself, no link to one."""
    try:
        return stat.S_ISREG(os.lstat(os.path.join(root, path)).st_mode)
    except OSError:
        return False


def _regular_or_folder(root: str, path: str) -> os.stat_result | Finding:
    """The status of what `path` is or links to, or why it is left out."""
    full = os.path.join(root, path)
    try:
        target = os.path.realpath(full, strict=True)
        status = os.stat(target)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return link_finding(path, "symlink-loop", "it is a link that runs in a circle")
        if error.errno == errno.ENOENT:
            return link_finding(path, "symlink", "it is a link to nothing")
        return unreadable(path, error)
    if not _is_below(root, target):
        return link_finding(path, "symlink", f"it is a link that leaves the dataset, to {target}")
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return status
    return Finding(path, "", "error", "special-file", f"it is a {kind_of(status.st_mode)}", "remove it")


def _is_below(root: str, target: str) -> bool:
    return os.path.commonpath((root, target)) == root


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


# --- part of a tree ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subtree:
    """One folder of a tree as a tree of its own."""

    base: Tree
    prefix: str  # ends with a slash
    files: tuple[str, ...] = field(repr=False)
    folders: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...]

    @property
    def name(self) -> str:
        return f"{self.base.name}/{self.prefix.rstrip('/')}"

    def content(self, key: str) -> Path | bytes:
        return self.base.content(self.prefix + key)


def below(tree: Tree, folder: str) -> Tree:
    """The tree that `folder` of `tree` is; `tree` itself for "". Findings from elsewhere stay."""
    if not folder:
        return tree
    prefix = f"{folder}/"
    cut = len(prefix)
    return Subtree(
        tree,
        prefix,
        tuple(path[cut:] for path in tree.files if path.startswith(prefix)),
        tuple(path[cut:] for path in tree.folders if path.startswith(prefix)),
        tuple(_moved(finding, prefix) for finding in tree.findings),
    )


def _moved(finding: Finding, prefix: str) -> Finding:
    file = finding.file.removeprefix(prefix)
    return Finding(file, finding.id, finding.level, finding.code, finding.message, finding.fix)
