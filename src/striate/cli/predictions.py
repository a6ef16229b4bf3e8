"""Predictions as lines, files or folders, with progress and the bad files reported."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from striate import api
from striate.api.inputs import Pictures
from striate.api.result_files import spreadsheet_safe
from striate.cli.terminal import message_console, percent
from striate.errors import DataError, UsageError, printable
from striate.files import atomic_write
from striate.structures import Classification, Detections, Result, Segmentation

__all__ = ["Counts", "Looking", "Writer", "write_predictions"]

FOLDER = "folder"  # of masks and overlays, or of pictures with boxes and their labels
FORMS = {
    "classification": ("table", "csv", "jsonl"),
    "detection": ("table", "csv", "jsonl", "coco", "yolo", FOLDER),
    "segmentation": ("table", "jsonl", FOLDER),
}
"""How results of each task can be written."""

_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".txt": "table"}
_IN_FILES = ("coco", "yolo", FOLDER)  # which stdout is no place for

Write = Callable[[Any], None]


@dataclass(slots=True)
class Counts:
    """How many pictures gave a result and how many could not be read."""

    worked: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Writer:
    """Where and how results are written."""

    form: str
    out: Path | None
    top: int

    @classmethod
    def choose(cls, form: str | None, out: str | None, top: int) -> "Writer":
        """The asked form, else the one of the file's suffix, else a table; no suffix is a folder."""
        path = None if out is None else Path(out)
        if form is None and path is not None:
            if not path.suffix:
                return cls(FOLDER, path, top)
            if path.suffix.lower() not in _BY_SUFFIX:
                raise UsageError(
                    f"--out {out}",
                    f"{path.suffix} is no format",
                    "use .csv, .jsonl or .txt, --format, or a folder for masks and boxes",
                )
            form = _BY_SUFFIX[path.suffix.lower()]
        if form in _IN_FILES and path is None:
            raise UsageError(f"--format {form}", "it is no single stream of lines", "name a place: --out")
        return cls(form or "table", path, top)

    def refuse_unfit(self, task: str) -> None:
        """Raise UsageError where results of `task` cannot be written so."""
        if self.form in FORMS[task]:
            return
        if self.form == FOLDER:
            raise UsageError(
                f"--out {self.out}", "no suffix is no format", "use .csv, .jsonl or .txt, or --format"
            )
        if self.form in _IN_FILES:
            raise UsageError("predict", f"{self.form} is a format for boxes", f"use {', '.join(FORMS[task])}")
        raise UsageError("predict", "a mask is no row of a table", "use jsonl, or a folder: --out masks")

    @contextmanager
    def opened(self, task: str, pictures: Pictures) -> Iterator[Write]:
        """What writes one result of `task`: to stdout, or to what appears when all is written."""
        if self.out is not None and self.form == FOLDER and task == "segmentation":
            yield api.mask_folder(self.out, pictures).write
        elif self.out is not None and self.form != "table" and task == "detection":
            form: Any = "pictures" if self.form == FOLDER else self.form
            with api.detection_writer(form, self.out, pictures) as writer:
                yield writer.write
        else:
            with self._stream() as stream:
                yield self._lines(stream, task)

    @contextmanager
    def _stream(self) -> Iterator[IO[str]]:
        """A text stream: stdout, or a file that appears when all is written."""
        if self.out is None:
            yield sys.stdout
            return
        with atomic_write(self.out) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            yield text
            text.detach()

    def _lines(self, stream: IO[str], task: str) -> Write:
        if self.form == "csv" and task == "detection":
            return api.detection_rows(stream)
        if self.form == "csv":
            rows = csv.writer(stream, lineterminator="\n")
            columns = [f"{kind}{rank}" for rank in range(2, self.top + 1) for kind in ("label", "confidence")]
            rows.writerow(["file", "label", "confidence", *columns])
            return lambda result: rows.writerow(self._cells(result))
        line = _json_line if self.form == "jsonl" else self._line

        def write(result: Result) -> None:
            stream.write(line(result) + "\n")

        return write

    def _line(self, result: Result) -> str:
        if isinstance(result, Detections):
            return printable(str(result))
        named = "  ".join(f"{printable(name)} {percent(p):>7}" for name, p in self._first(result))
        return f"{printable(result.key)}  {named}"

    def _first(self, result: Classification | Segmentation) -> Sequence[tuple[str, float]]:
        """The likeliest classes, or those with most pixels."""
        if isinstance(result, Classification):
            return result.top(self.top)
        return list(result.shares.items())[: self.top]

    def _cells(self, result: Classification) -> Sequence[Any]:
        top = result.top(self.top)
        cells = [cell for name, p in top for cell in (spreadsheet_safe(name), f"{p:.6f}")]
        return [spreadsheet_safe(result.key), *cells, *[""] * (2 * (self.top - len(top)))]


def _json_line(result: Result) -> str:
    return json.dumps(result.to_dict(), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Looking:
    """With what model pictures are looked at, and how."""

    model: str
    batch_size: int
    device: str
    made_by: str | None = None
    views: dict[str, Any] = field(default_factory=dict)  # what was asked of `Predictor.viewing`
    score: float | None = None  # below which a box is nothing; None: as the model was measured

    def predictor(self) -> Any:
        """The model, ready."""
        predictor = api.load(self.model, self.device, self.made_by)
        if self.score is not None:
            predictor = predictor.at(self.score)
        return predictor.viewing(**self.views) if self.views else predictor


def write_predictions(looking: Looking, inputs: Sequence[str], writer: Writer) -> Counts:
    """Write a result for each picture of `inputs` that can be read, report the others on stderr."""
    counts, console = Counts(), message_console()

    def report(_: str, error: DataError) -> None:
        counts.failed += 1
        console.print(f"error: {error}", markup=False, soft_wrap=True)

    predictor = looking.predictor()
    writer.refuse_unfit(predictor.task)
    paths = api.pictures(inputs)
    for finding in paths.findings:
        report(finding.file, DataError(finding.file, finding.message, finding.fix))
    results = predictor.stream(paths, looking.batch_size, on_error=report)
    opened = writer.opened(predictor.task, paths)
    with opened as write, _progress(console, len(paths), bool(writer.out)) as advance:
        for result in results:
            write(result)
            counts.worked += 1
            advance(counts.worked + counts.failed)
    failed = f", {counts.failed} could not be read" if counts.failed else ""
    if counts.failed or writer.out:
        where = f" -> {writer.out}" if writer.out else ""
        console.print(f"{counts.worked} pictures{failed}{where}", markup=False)
    return counts


@contextmanager
def _progress(console: Any, total: int, to_file: bool) -> Iterator[Any]:
    """A bar on a terminal while results go to a file; silence where the results themselves show it."""
    if not (to_file and console.is_terminal):
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("predicting", total=total)
        yield lambda done: progress.update(task, completed=done)
