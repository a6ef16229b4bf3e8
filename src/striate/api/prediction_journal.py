"""The journal of a prediction job: what job it is, and which of its pictures are done.

A file of JSON lines beside the output. The first says what decides the results; each further one tells of a
picture that has its result, or failed. It is only ever added to, after what it tells of was written, so that
a process that is killed at any moment leaves a journal that is true up to its last whole line.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from striate.errors import UsageError
from striate.files import write_all, write_error

__all__ = ["Journal", "Mark", "Progress", "journal_of", "partial_of"]

_PICTURE, _FAILED, _COMPLETE = "picture", "failed", "complete"
_DIGEST = 64  # letters of a SHA-256


class Mark(NamedTuple):
    """How far a file of rows was written: its size and the CRC-32 of all of it."""

    size: int = 0
    check: int = 0

    def behind(self, content: bytes) -> "Mark":
        """The mark behind `content`, where that is added."""
        return Mark(self.size + len(content), zlib.crc32(content, self.check))


@dataclass(slots=True)
class Progress:
    """What is done of a job."""

    next: int = 0  # number, from 0, of the first picture that was not tried
    failed: set[int] = field(default_factory=set)  # those before it without a result
    mark: Mark = Mark()  # of the rows behind the last result
    is_complete: bool = False  # only the output's name is wanting

    @property
    def worked(self) -> int:
        """How many pictures have a result."""
        return self.next - len(self.failed)

    def add(self, number: int, mark: Mark | None) -> None:
        """Picture `number` has a result, which ends at `mark`; None: it failed."""
        if mark is None:
            self.failed.add(number)
        else:
            self.mark = mark
            self.failed.discard(number)
        self.next = max(self.next, number + 1)


class Journal:
    """The journal at `path`, open to be added to."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @classmethod
    def begin(cls, path: Path, header: Mapping[str, Any]) -> Self:
        """A new one. `header` says what decides the results. Raises DiskFull, EnvironmentProblem."""
        try:
            journal = cls(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666))
        except OSError as error:
            raise write_error(path, error) from error
        journal._add(header)
        journal.sync()
        return journal

    @classmethod
    def go_on(cls, path: Path, header: Mapping[str, Any], partial: Path | None) -> tuple[Self, Progress]:
        """The one at `path`, and what it tells as far as `partial`, the file of rows, holds it.

        What it tells beyond is forgotten. Raises UsageError that says what differs, where it is of another
        job than that of `header`.
        """
        try:
            is_gone = partial is not None and not partial.exists()
            with ExitStack() as files:
                lines = files.enter_context(path.open("rb"))
                first = _entry(lines.readline())
                if first is not None:
                    _refuse_other(path, partial, first, header)
                rows = None if partial is None or is_gone else files.enter_context(partial.open("rb"))
                progress, end = _told(lines, _Rows(rows))
            if first is None or (is_gone and not progress.is_complete):
                return cls.begin(path, header), Progress()  # killed in its first moments, or without its rows
            os.truncate(path, end)
            return cls(path, os.open(path, os.O_WRONLY | os.O_APPEND)), progress
        except OSError as error:
            raise write_error(path, error) from error

    def add(self, number: int, mark: Mark | None) -> None:
        """Note that picture `number` has its result, which ends at `mark`; None: it failed."""
        if mark is None:
            self._add({_FAILED: number})
        else:
            self._add({_PICTURE: number, "bytes": mark.size, "crc32": mark.check})

    def complete(self) -> None:
        """Note that all pictures were tried."""
        self._add({_COMPLETE: True})
        self.sync()

    def sync(self) -> None:
        """Bring all of it to the disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Leave it as it is."""
        os.close(self._handle)

    def _add(self, entry: Mapping[str, Any]) -> None:
        line = (
            json.dumps(entry, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogateescape") + b"\n"
        )
        try:
            write_all(self._handle, line)
        except OSError as error:
            raise write_error(self.path, error) from error


def journal_of(out: Path) -> Path:
    """Where the journal of a job with the output `out` lies."""
    return out.with_name(f"{out.name}.journal")


def partial_of(out: Path) -> Path:
    """What the rows of `out` are called until all are there."""
    return out.with_name(f"{out.name}.partial")


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is torn."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _told(lines: IO[bytes], rows: "_Rows") -> tuple[Progress, int]:
    """What the lines behind the first tell, up to one that is torn or not as the rows are, and its place."""
    progress, end = Progress(), lines.tell()
    while (entry := _entry(lines.readline())) is not None:
        if _COMPLETE in entry:
            progress.is_complete = True
        elif isinstance(number := entry.get(_FAILED), int):
            progress.add(number, None)
        elif (mark := rows.mark(entry)) is not None:
            progress.add(entry[_PICTURE], mark)
        else:
            break
        end = lines.tell()
    return progress, end


class _Rows:
    """Reads a file of rows from its beginning, to tell whether it is as the journal says."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._mark = Mark()

    def mark(self, entry: Mapping[str, Any]) -> Mark | None:
        """Where the rows of the picture of `entry` end; None where they are not as they were written."""
        try:
            told = Mark(int(entry["bytes"]), int(entry["crc32"]))
        except (KeyError, TypeError, ValueError):
            return None
        if self._file is not None:
            self._mark = self._mark.behind(self._file.read(max(0, told.size - self._mark.size)))
        return told if self._file is None or self._mark == told else None


def _refuse_other(path: Path, partial: Path | None, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError where the journal at `path` is of another job."""
    differing = [name for name in now if then.get(name) != now[name]]
    if differing:
        told = ", ".join(_difference(name, then.get(name), now[name]) for name in differing)
        begun = " and ".join(str(file) for file in (path, partial) if file is not None)
        raise UsageError(
            "--resume", f"{path} is of another job: {told}", f"give the same again, or remove {begun}"
        )


def _difference(name: str, then: Any, now: Any) -> str:
    # Fingerprints tell nobody anything.
    if isinstance(now, str) and len(now) == _DIGEST:
        return f"another {name}"
    return f"{name} was {json.dumps(then, ensure_ascii=False)} and is {json.dumps(now, ensure_ascii=False)}"
