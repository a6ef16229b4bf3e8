"""One run a folder: a lock file that says which process writes there."""

import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from striate.errors import EnvironmentProblem
from striate.files import TEMPORARY, write_all, write_error

__all__ = ["LOCK_FILE", "locked"]

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path, name: str = LOCK_FILE) -> Iterator[None]:
    """Within it no other process trains in `folder`; with another `name`, none does what that stands for.

    The lock of a process that is dead is taken over. Raises EnvironmentProblem naming the process that
    is not, or that is another machine's, of which nobody here can tell.
    """
    path, mine = folder / name, _own_entry()
    try:
        _take(path, mine)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        # The folder may be gone, or the lock somebody else's who was told that we are dead.
        if _read(path) == mine:
            with suppress(OSError):
                path.unlink()


def _own_entry() -> dict[str, object]:
    pid = os.getpid()
    return {"pid": pid, "host": platform.node(), "started": _start_of(pid)}


def _take(path: Path, mine: dict[str, object]) -> None:
    while not _create(path, mine):
        held = _read(path)
        if held is None:
            continue  # it was given back meanwhile
        if _is_held(held):
            raise _refusal(path, held)
        _remove_stale(path, held)


def _create(path: Path, entry: dict[str, object]) -> bool:
    """Whether `path` could be made; it appears with its content, so nobody ever reads half of it."""
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        try:
            write_all(handle, json.dumps(entry).encode())
        finally:
            os.close(handle)
        return _link(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _link(name: str, path: Path) -> bool:
    try:
        os.link(name, path)
    except (FileExistsError, FileNotFoundError):  # who holds the lock also clears temporary files away
        return False
    except OSError:
        # A file system without links, such as a memory card's: nearly as good.
        if path.exists():
            return False
        os.replace(name, path)
    return True


def _read(path: Path) -> dict[str, object] | None:
    """Who holds the lock; None where there is none. A file that is no lock of ours has no entries."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _remove_stale(path: Path, judged: dict[str, object]) -> None:
    """Remove the lock that was `judged` stale, and no other that took its place since."""
    aside = path.with_name(f"{TEMPORARY}lock-{os.getpid()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside) != judged:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _is_held(entry: dict[str, object]) -> bool:
    pid = entry.get("pid")
    if entry.get("host") != platform.node() or not isinstance(pid, int):
        return True
    return _is_alive(pid) and entry.get("started") == _start_of(pid)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # where signal 0 is no question but a Ctrl-C
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's, and alive
    return True


def _start_of(pid: int) -> str:
    """When process `pid` began, so that a number given out again is told apart; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # The name in parentheses may hold anything; field 22, the start in clock ticks, is 20th after it.
        ticks = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {ticks}"


def _refusal(path: Path, entry: dict[str, object]) -> EnvironmentProblem:
    if not entry:
        return EnvironmentProblem(path, "it is damaged", "delete it if nothing works in that folder")
    who = f"process {entry.get('pid')} on {entry.get('host')}"
    here = entry.get("host") == platform.node()
    fix = "wait for it or stop it" if here else f"wait for it; if it is gone, delete {path}"
    if path.name != LOCK_FILE:
        return EnvironmentProblem(path, f"{who} holds it", fix)
    return EnvironmentProblem(path.parent, f"{who} works in this folder", fix)
