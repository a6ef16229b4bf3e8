"""Where the results of a prediction job go: rows of a file, COCO's files, a folder, or a stream."""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from striate.api.detection_files import CocoIds, JsonLines, write_coco
from striate.api.prediction_journal import Mark, partial_of
from striate.files import TEMPORARY, remove_leftovers, rename_durably, write_all, write_error
from striate.structures import Detections, Result

__all__ = ["CocoOutput", "FolderOutput", "Output", "RowsOutput", "StreamOutput", "Write"]

Write: TypeAlias = Callable[[Any], None]
"""Writes one result."""

RowsOf: TypeAlias = Callable[[IO[str]], Write]
"""What writes results as rows to a stream; it may write headings at once."""


class Output(Protocol):
    """Takes results one by one, in order; a process may be killed at any moment."""

    @property
    def partial(self) -> Path | None:
        """The file of rows that wait for the last one; None where there is none."""
        ...

    def open(self, mark: Mark) -> None:
        """Begin, or go on behind `mark`; what lies there is forgotten."""
        ...

    def write(self, result: Result) -> Mark:
        """Write `result`; where what was written ends now."""
        ...

    def sync(self) -> None:
        """Bring what was written to the disk."""
        ...

    def finish(self) -> None:
        """All is written: give it its name. Again, it does nothing."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


class RowsOutput:
    """A file of rows, `path` in the end and until then `path` and .partial: always of whole rows.

    `rows` writes results to a stream. Methods raise DiskFull, EnvironmentProblem.
    """

    def __init__(self, path: Path, rows: RowsOf) -> None:
        self.path: Path = path
        self.partial: Path = partial_of(path)
        self._rows = rows
        self._mark = Mark()
        self._handle = -1

    def open(self, mark: Mark) -> None:
        """Cut the file behind `mark`. A new one gets its headings."""
        self._mark, self._buffer = mark, io.StringIO()
        with self._writing():
            self._handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            os.truncate(self._handle, mark.size)
            os.lseek(self._handle, 0, os.SEEK_END)
        self._write = self._rows(self._buffer)
        if mark.size:
            _taken(self._buffer)
        self._append(_taken(self._buffer))

    def write(self, result: Result) -> Mark:
        """Append the rows of `result` in one piece."""
        self._write(result)
        self._append(_taken(self._buffer))
        return self._mark

    def sync(self) -> None:
        """Bring the rows to the disk."""
        with self._writing():
            os.fsync(self._handle)

    def finish(self) -> None:
        """Give the rows their own name, in place of what had it."""
        with self._writing():
            if self.partial.exists():
                rename_durably(self.partial, self.path)

    def close(self) -> None:
        """Leave the rows as they are."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _append(self, text: str) -> None:
        content = text.encode("utf-8", "surrogateescape")
        with self._writing():
            try:
                write_all(self._handle, content)
            except OSError:
                with suppress(OSError):
                    os.truncate(self._handle, self._mark.size)  # no half of a row where the disk is full
                raise
        self._mark = self._mark.behind(content)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self.path, error) from error


class CocoOutput(RowsOutput):
    """COCO's list of results and what its ids mean, made in the end of rows of JSON."""

    def __init__(self, path: Path, ids: CocoIds) -> None:
        super().__init__(path, lambda stream: JsonLines(stream).write)
        self._ids = ids

    def finish(self) -> None:
        """Write the two files, each whole or not at all, and remove the rows."""
        if not self.partial.exists():
            return
        write_coco(self.path, self._read, self._ids)
        with self._writing():
            self.partial.unlink()

    def _read(self) -> Iterator[Detections]:
        with self.partial.open("rb") as lines:
            for line in lines:
                # A file's name need not be UTF-8.
                yield Detections.from_dict(json.loads(line.decode("utf-8", "surrogateescape")))


class FolderOutput:
    """A folder that gets files of each picture, each of them whole or not at all."""

    partial = None

    def __init__(self, path: Path, write: Write) -> None:
        self.path: Path = path
        self._write = write

    def open(self, mark: Mark) -> None:  # noqa: ARG002 - files have no end to go on behind
        """Clear away what a killed process was writing."""
        for folder in {path.parent for path in self.path.rglob(f"{TEMPORARY}*")}:
            remove_leftovers(folder)

    def write(self, result: Result) -> Mark:
        """Write the files of `result`."""
        self._write(result)
        return Mark()

    def sync(self) -> None:
        """Each file is on the disk when it gets its name."""

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is open."""


class StreamOutput:
    """Rows to a stream that is somebody else's, such as stdout, each of them at once."""

    partial = None

    def __init__(self, stream: IO[str], rows: RowsOf) -> None:
        self._stream = stream
        self._rows = rows

    def open(self, mark: Mark) -> None:  # noqa: ARG002 - a stream has no way back
        """Write the headings."""
        self._write = self._rows(self._stream)

    def write(self, result: Result) -> Mark:
        """Write the rows of `result`, and let the reader have them."""
        self._write(result)
        self._stream.flush()
        return Mark()

    def sync(self) -> None:
        """A stream is nowhere."""

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """The stream stays open."""


def _taken(buffer: io.StringIO) -> str:
    """What `buffer` holds, which is empty then."""
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
