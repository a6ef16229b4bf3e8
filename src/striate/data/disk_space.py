"""Room on a disk that caches share: each a folder; the least recently used give way, none that is in use.

Who uses a folder holds a shared lock (flock) on a file in it, which the system lets go when its process ends,
however it ends; who removes it needs the lock alone. Windows knows no such lock: there is no cache on its
disks.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from striate.errors import StriateError
from striate.files import TEMPORARY, remove_folder, remove_leftovers

if sys.platform != "win32":
    import fcntl

__all__ = ["DiskSpace", "hold", "lock_alone"]

_LOCK = "striate.lock"  # by it a cache is known from what else may lie there
_STEP = 256 << 20  # most bytes that are granted before the folders are measured again
_RESERVE = 2 << 30  # bytes of the disk that no cache takes: checkpoints need them


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A folder of caches and the bytes that they may take together."""

    root: Path
    limit: int

    def grant(self, count: int) -> int:
        """Bytes, at least `count`, that may be written now; fewer, or 0, where there is no room for them.

        Caches that nobody uses are removed for it, those first that were opened least recently.
        """
        wanted = max(count, min(_STEP, self.limit // 16))
        # What was killed in removing a cache.
        remove_leftovers(self.root)
        room = self._room()
        for folder in sorted(self._caches(), key=_last_use):
            if room >= wanted:
                break
            if _remove_unused(folder):
                room = self._room()
        return max(0, min(room, wanted))

    def _room(self) -> int:
        used = sum(map(_size, self._caches()))
        return min(self.limit - used, shutil.disk_usage(self.root).free - _RESERVE)

    def _caches(self) -> Iterator[Path]:
        for path in self.root.iterdir():
            if not path.name.startswith(TEMPORARY) and (path / _LOCK).is_file():
                yield path


def hold(folder: Path) -> int:
    """The open lock file of `folder`, made if need be, which nobody removes until that is closed.

    Marks the folder as used now. Raises OSError where it cannot be made or takes no lock.
    """
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(handle, alone=False)
            # It may have been removed, and even made anew, between the opening and the lock.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(folder / _LOCK)):
                    os.utime(folder / _LOCK)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def lock_alone(handle: int) -> bool:
    """Whether the open file `handle` could be locked for this user of it alone, until it is closed."""
    try:
        _lock(handle, alone=True)
    except BlockingIOError:
        return False
    return True


def _lock(handle: int, alone: bool) -> None:
    if sys.platform == "win32":
        raise OSError("this system has no flock")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)


def _remove_unused(folder: Path) -> bool:
    """Whether `folder` was removed: it is not while somebody holds it, or has just made it."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        if not lock_alone(handle):
            return False
        remove_folder(folder)
        return True
    except (OSError, StriateError):  # a full disk may have no room even for the renaming
        return False
    finally:
        os.close(handle)


def _last_use(folder: Path) -> int:
    try:
        return (folder / _LOCK).stat().st_mtime_ns
    except OSError:  # another process has just removed it
        return 0


def _size(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0
