"""Writing that cannot leave half a file, and the fingerprint of a file."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from striate.errors import DiskFull, EnvironmentProblem

__all__ = ["atomic_write", "sha256_of"]

TEMPORARY = ".striate-tmp-"
"""Prefix of a file that is being written; one that outlives its process is garbage."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` only when the block ends well.

    Temporary file in the same folder -> fsync -> rename -> fsync of the folder. On any error the
    temporary file is removed and what `path` held before is intact. Raises DiskFull when there is
    no room, EnvironmentProblem when the folder cannot be written to.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600; the file should be as readable as one that open() makes.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder's own entry is on disk. Windows cannot open a folder.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_error(path: Path, error: OSError) -> DiskFull | EnvironmentProblem:
    if DiskFull.is_cause(error):
        return DiskFull(
            path, f"no space left to write it ({error.strerror})", "free some room and run it again"
        )
    return EnvironmentProblem(
        path, f"cannot be written ({error.strerror or error})", "choose another place with --out"
    )
