"""Writing that cannot leave half a file or folder, and the fingerprint of a file."""

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from striate.errors import DiskFull, EnvironmentProblem

__all__ = [
    "TEMPORARY",
    "atomic_write",
    "new_folder",
    "remove_folder",
    "remove_leftovers",
    "rename_durably",
    "sha256_of",
    "staged",
    "write_all",
    "write_error",
    "write_folder",
]

TEMPORARY = ".striate-tmp-"
"""Prefix of a file or folder that is being written; one that outlives its process is garbage."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` only when the block ends well.

    Temporary file in the same folder -> fsync -> rename -> fsync of the folder. On any error the
    temporary file is removed and what `path` held before is intact. Raises DiskFull when there is
    no room, EnvironmentProblem when the folder cannot be written to.
    """
    with _appearing(path) as temporary, temporary.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Make the folder `path`, which must not exist, with these files: all of them or nothing.

    Each file and then the folder around them is on disk before the name `path` appears. On any error the
    temporary folder is removed. Raises DiskFull when there is no room, EnvironmentProblem when the place
    cannot be written to.
    """
    with _appearing(path) as temporary:
        temporary.mkdir()
        for name, content in contents.items():
            _write_synced(temporary / name, content)
        _sync_folder(temporary)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` only when the block ends well.

    `path` must not exist, or be an empty folder. All that the block wrote is on disk before the name appears;
    on any error nothing stays. Raises DiskFull when there is no room, EnvironmentProblem when the place
    cannot be written to.
    """
    with _appearing(path) as temporary:
        temporary.mkdir()
        yield temporary
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _sync_file(Path(folder, name))
            _sync_folder(Path(folder))


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder of its own, to write `path` and what belongs to it there.

    When the block ends well, all files of that folder get their places beside `path`, and it its own as the
    last; folders in it are scratch. On any error nothing stays, and what was there before is intact. Raises
    DiskFull when there is no room, EnvironmentProblem when the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield folder / path.name
        try:
            _place(folder, path)
        except OSError as error:
            raise write_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place(folder: Path, path: Path) -> None:
    """Move the files of `folder` beside `path`, the one that bears its name last."""
    files = sorted(
        (file for file in folder.iterdir() if file.is_file()), key=lambda file: file.name == path.name
    )
    for file in files:
        _sync_file(file)
    if len(files) > 1:
        # Halfway through there is none, rather than one whose companions are another's.
        path.unlink(missing_ok=True)
    for file in files:
        file.replace(path.parent / file.name)
    _sync_folder(path.parent)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A free name beside `path`: what the block makes there gets the name `path` if it ends well.

    Else it is removed. Errors of the system are told as those of writing `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            _remove(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _remove(temporary: Path) -> None:
    """Remove a temporary file or folder as far as the system allows."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    with suppress(OSError):
        temporary.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder so that no half of it ever bears its name. Raises EnvironmentProblem if it stays."""
    try:
        # One that another process removed meanwhile is gone as wished.
        with suppress(FileNotFoundError):
            garbage = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
            os.replace(path, garbage)
            shutil.rmtree(garbage)
    except OSError as error:
        raise write_error(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` that a killed process left.

    Raises EnvironmentProblem if one stays.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(path, error) from error


def rename_durably(source: Path, path: Path) -> None:
    """Give `source`, a file beside `path` that is on disk already, that name."""
    source.replace(path)
    _sync_folder(path.parent)


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to the open file `handle`, however many calls that takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    # O_BINARY is Windows' alone: without it a newline there would become two bytes.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_file(path: Path) -> None:
    # Windows syncs only what is open for writing.
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder's own entry is on disk. Windows cannot open a folder.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_error(path: Path, error: OSError) -> DiskFull | EnvironmentProblem:
    """What to raise for an `error` of the system in writing `path`."""
    if DiskFull.is_cause(error):
        return DiskFull(
            path, f"no space left to write it ({error.strerror})", "free some room and run it again"
        )
    return EnvironmentProblem(
        path, f"cannot be written ({error.strerror or error})", "choose another place with --out"
    )
