"""Predictions as lines, files or folders, with progress and the bad files reported."""

import csv
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from striate import api
from striate.api.detection_files import BoxFolder, CocoIds, CsvRows, YoloFolder
from striate.api.inputs import Pictures
from striate.api.mask_files import MaskFolder
from striate.api.prediction_job import JobDone, PredictionJob, hashes_of, job_header
from striate.api.prediction_output import (
    CocoOutput,
    FolderOutput,
    Output,
    RowsOutput,
    StreamOutput,
    Write,
)
from striate.api.result_files import spreadsheet_safe
from striate.api.shards import Shard
from striate.cli.prediction_view import PredictionView
from striate.cli.terminal import percent
from striate.errors import UsageError, printable
from striate.modelfile import find_model_file
from striate.structures import Classification, Detections, Result, Segmentation

__all__ = ["VIEWS", "Going", "Looking", "Writer", "write_predictions"]

FOLDER = "folder"  # of masks and overlays, or of pictures with boxes and their labels
FORMS = {
    "classification": ("table", "csv", "jsonl"),
    "detection": ("table", "csv", "jsonl", "coco", "yolo", FOLDER),
    "segmentation": ("table", "jsonl", FOLDER),
}
"""How results of each task can be written."""

_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".txt": "table"}
_IN_FILES = ("coco", "yolo", FOLDER)  # which stdout is no place for

VIEWS = ("tile", "scales", "flip", "crf")
"""Flags that ask for several looks at a picture."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Where and how results are written."""

    form: str
    out: Path | None
    top: int

    def asked(self) -> dict[str, Any]:
        """What decides how results are written: the flags and their values."""
        return {"--format": self.form, "--top": self.top}

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

    def sharded(self, shard: Shard | None) -> "Writer":
        """The same for one of several parts, whose files have names of their own."""
        return self if self.out is None or shard is None else replace(self, out=shard.named(self.out))

    def output(self, task: str, pictures: Pictures, is_begun: bool) -> Output:
        """What takes the results of `task`; a folder must be new, unless it `is_begun`."""
        if self.out is None:
            return StreamOutput(sys.stdout, partial(self._lines, task=task))
        if self.form == FOLDER and task == "segmentation":
            return FolderOutput(self.out, MaskFolder(self.out, pictures, is_begun).write)
        if self.form == FOLDER:
            return FolderOutput(self.out, BoxFolder(self.out, pictures, is_begun).write)
        if self.form == "yolo":
            return FolderOutput(self.out, YoloFolder(self.out, pictures, is_begun).write)
        if self.form == "coco":
            return CocoOutput(self.out, CocoIds.of(pictures.keys))
        return RowsOutput(self.out, partial(self._lines, task=task))

    def _lines(self, stream: IO[str], task: str) -> Write:
        if self.form == "csv" and task == "detection":
            return CsvRows(stream).write
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
    batch_size: int | None  # None: the fastest
    device: str
    made_by: str | None = None
    engine: str = "auto"
    card: str | None = None  # the file that says what an export of another tool is for
    views: dict[str, Any] = field(default_factory=dict)  # what was asked of `Predictor.viewing`
    score: float | None = None  # below which a box is nothing; None: as the model was measured

    def asked(self) -> dict[str, Any]:
        """What decides the results, beside the model: the flags and their values."""
        views = {f"--{name}": self.views.get(name) for name in VIEWS}
        # Text, as a journal has it: a tuple would come back as a list.
        return {"--model": self.made_by, "--score": self.score, **{k: v and str(v) for k, v in views.items()}}

    def predictor(self) -> Any:
        """The model, ready."""
        predictor = api.load(self.model, self.device, self.made_by, engine=self.engine, card=self.card)
        if self.score is not None:
            predictor = predictor.at(self.score)
        return predictor.viewing(**self.views) if self.views else predictor

    def hashes(self) -> list[str]:
        """Of the model's files."""
        return hashes_of(find_model_file(Path(self.model)))


@dataclass(frozen=True, slots=True)
class Going:
    """Which pictures are looked at, and whether that was begun before."""

    inputs: Sequence[str]
    shard: Shard | None = None
    resume: bool = False
    way_on: str = "run the command again"  # after it was stopped


def write_predictions(looking: Looking, going: Going, writer: Writer) -> JobDone:
    """Write a result for each picture that can be read, report the others on stderr."""
    with ThreadPoolExecutor(2, "striate-load") as threads:
        # A model is opened on one core; on the others all else that has to be known is found out.
        loading = threads.submit(looking.predictor)
        hashing = None if writer.out is None else threads.submit(looking.hashes)
        given = api.pictures(going.inputs)
    predictor = loading.result()
    writer.refuse_unfit(predictor.task)
    writer = writer.sharded(going.shard)
    pictures = given if going.shard is None else given.shard(going.shard)
    output = partial(writer.output, predictor.task, pictures, going.resume)
    job = PredictionJob(pictures, output, writer.out, way_on=going.way_on)
    if hashing is not None:
        asked = {**looking.asked(), **writer.asked(), "--shard": str(going.shard)}
        job = replace(job, header=job_header(hashing.result(), predictor, pictures, asked))
    with PredictionView(writer.out, len(given), going.shard) as view:
        view.begin(pictures)
        do = job.resume if going.resume else job.run
        done = do(predictor, view, looking.batch_size)
        view.outcome(done)
    return done
