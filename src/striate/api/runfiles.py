"""The files of a run folder beside its models."""

import csv
import io
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from striate.data.dataset import Dataset, Part
from striate.errors import DataError
from striate.files import atomic_write, write_all, write_error
from striate.training.events import EVENTS_FILE

if TYPE_CHECKING:
    from striate.training.events import Event

__all__ = [
    "CONFIG_FILE",
    "EVENTS_FILE",
    "METRICS_FILE",
    "SPLIT_FILE",
    "EventLog",
    "read_split",
    "write_split",
    "write_text",
]

CONFIG_FILE = "run.toml"  # every setting with its origin
METRICS_FILE = "metrics.json"  # the scores of the test part; there once a run is finished
SPLIT_FILE = "split.csv"  # which picture was in which part


class EventLog:
    """A run's events.jsonl from byte `position` on; what stood after it is cut off.

    Each event is handed to the system before the next thing happens, so a killed process loses none.
    Raises DiskFull where there is no room.
    """

    def __init__(self, folder: Path, position: int) -> None:
        self._path = folder / EVENTS_FILE
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            size = os.fstat(self._handle).st_size
            self.is_short = size < position  # rows from before `position` are missing
            kept = self._whole_lines(size) if self.is_short else position
            os.ftruncate(self._handle, kept)
            os.lseek(self._handle, kept, os.SEEK_SET)
        except OSError as error:
            raise write_error(self._path, error) from error

    def write(self, event: "Event") -> None:
        """Add a line: the event and the time in seconds since 1970."""
        line = json.dumps({"time": round(time.time(), 3), **event.to_dict()}) + "\n"
        try:
            write_all(self._handle, line.encode())
        except OSError as error:
            raise write_error(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def _whole_lines(self, size: int) -> int:
        return os.read(self._handle, size).rfind(b"\n") + 1


def write_split(folder: Path, dataset: Dataset) -> None:
    """Write which picture is in which part: the evidence that the test part was never trained on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "key"])
    writer.writerows((item.part, item.key) for item in dataset.items)
    write_text(folder / SPLIT_FILE, text.getvalue())


def read_split(folder: Path) -> dict[str, Part]:
    """The part of each picture by its key, in the order that the run had them."""
    path = folder / SPLIT_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["key"]: row["part"] for row in csv.DictReader(file)}  # type: ignore[misc]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", "use an intact copy of the run folder") from None


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
