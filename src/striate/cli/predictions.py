"""Predictions as a table, CSV or JSON lines, with progress and the bad files reported."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from striate import api
from striate.cli.terminal import message_console, percent
from striate.errors import DataError, UsageError, printable
from striate.files import atomic_write
from striate.structures import Classification, Result, Segmentation

__all__ = ["Counts", "Looking", "Writer", "write_predictions"]

FOLDER = "folder"  # of masks and overlays
_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".txt": "table"}


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
        """The asked form, else the one of the file's suffix, else a table; no suffix is a folder of masks."""
        path = None if out is None else Path(out)
        if form is None and path is not None:
            if not path.suffix:
                return cls(FOLDER, path, top)
            if path.suffix.lower() not in _BY_SUFFIX:
                raise UsageError(
                    f"--out {out}",
                    f"{path.suffix} is no format",
                    "use .csv, .jsonl or .txt, --format, or a folder for masks",
                )
            form = _BY_SUFFIX[path.suffix.lower()]
        return cls(form or "table", path, top)

    @contextmanager
    def opened(self) -> Iterator[IO[str]]:
        """A text stream: stdout, or a file that appears when all is written."""
        if self.out is None or self.form == FOLDER:
            yield sys.stdout
            return
        with atomic_write(self.out) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            yield text
            text.detach()

    def refuse_unfit(self, task: str) -> None:
        """Raise UsageError where results of `task` cannot be written so."""
        if task == "segmentation" and self.form == "csv":
            raise UsageError("predict", "a mask is no row of a table", "use jsonl, or a folder: --out masks")
        if task != "segmentation" and self.form == FOLDER:
            raise UsageError(
                f"--out {self.out}", "no suffix is no format", "use .csv, .jsonl or .txt, or --format"
            )

    def head(self, stream: IO[str]) -> None:
        """What stands before the first result."""
        if self.form == "csv":
            columns = [f"{kind}{rank}" for rank in range(2, self.top + 1) for kind in ("label", "confidence")]
            csv.writer(stream, lineterminator="\n").writerow(["file", "label", "confidence", *columns])

    def line(self, stream: IO[str], result: Result) -> None:
        """One result."""
        if self.form == "jsonl":
            stream.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
        elif self.form == "csv" and isinstance(result, Classification):
            csv.writer(stream, lineterminator="\n").writerow(self._cells(result))
        else:
            named = "  ".join(f"{printable(name)} {percent(p):>7}" for name, p in self._first(result))
            stream.write(f"{printable(result.key)}  {named}\n")

    def _first(self, result: Result) -> Sequence[tuple[str, float]]:
        """The likeliest classes, or those with most pixels."""
        if isinstance(result, Classification):
            return result.top(self.top)
        return list(result.shares.items())[: self.top]

    def _cells(self, result: Classification) -> Sequence[Any]:
        top = result.top(self.top)
        cells = [cell for name, p in top for cell in (_spreadsheet_safe(name), f"{p:.6f}")]
        return [_spreadsheet_safe(result.key), *cells, *[""] * (2 * (self.top - len(top)))]


def _spreadsheet_safe(text: str) -> str:
    """A name that begins like a formula is quoted, or a spreadsheet would run it."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@dataclass(frozen=True, slots=True)
class Looking:
    """With what model pictures are looked at, and how."""

    model: str
    batch_size: int
    device: str
    made_by: str | None = None
    views: dict[str, Any] = field(default_factory=dict)  # what was asked of `Predictor.viewing`

    def predictor(self) -> Any:
        """The model, ready."""
        predictor = api.load(self.model, self.device, self.made_by)
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
    masks = api.mask_folder(writer.out, paths) if writer.out and writer.form == FOLDER else None
    results = predictor.stream(paths, looking.batch_size, on_error=report)
    with writer.opened() as stream, _progress(console, len(paths), bool(writer.out)) as advance:
        writer.head(stream)
        for result in results:
            if masks is not None and isinstance(result, Segmentation):
                masks.write(result)
            else:
                writer.line(stream, result)
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
