"""The objects found in many pictures as files: COCO, YOLO, CSV, JSON lines, and pictures to look at."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from PIL import Image as PillowImage

from striate.api.inputs import Pictures
from striate.api.result_files import names_below, refuse_filled, spreadsheet_safe
from striate.data.decode import decode_image
from striate.errors import DataError, UsageError
from striate.files import atomic_write
from striate.structures import Detections
from striate.tasks.detection import draw

__all__ = [
    "BoxFolder",
    "CocoIds",
    "CocoResults",
    "CsvRows",
    "DetectionWriter",
    "Form",
    "JsonLines",
    "YoloFolder",
    "detection_writer",
    "write_coco",
]

Form: TypeAlias = Literal["coco", "yolo", "csv", "jsonl", "pictures"]

LABELS, PICTURES, CLASSES = "labels", "pictures", "classes.txt"


class DetectionWriter(Protocol):
    """What takes results one after the other."""

    def write(self, result: Detections) -> None:
        """Write the objects of one picture."""
        ...


@contextmanager
def detection_writer(
    form: Form, out: Path, pictures: Pictures, ids: "CocoIds | None" = None
) -> Iterator[DetectionWriter]:
    """A writer of results of `pictures` to `out`, a folder or a file, which appears when the block ends well.

    `ids` are for COCO alone. Raises UsageError where a folder has anything in it, DiskFull,
    EnvironmentProblem.
    """
    if form == "yolo":
        yield YoloFolder(out, pictures)
    elif form == "pictures":
        yield BoxFolder(out, pictures)
    elif form == "coco":
        with CocoResults(out, ids or CocoIds.of(pictures.keys)) as results:
            yield results
    else:
        with atomic_write(out) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            yield CsvRows(text) if form == "csv" else JsonLines(text)
            text.detach()


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A row for each object, written to `stream`; a picture in which nothing was found has none.

    Columns: file, class, score, and the box x0 y0 x1 y1 in pixels of the picture, x1 and y1 exclusive.
    """

    stream: IO[str]

    def __post_init__(self) -> None:
        self._rows().writerow(("file", "class", "score", "x0", "y0", "x1", "y1"))

    def write(self, result: Detections) -> None:
        """Write the rows of one picture, the surest first."""
        key = spreadsheet_safe(result.key)
        columns = (result.labels.tolist(), result.scores.tolist(), result.boxes.tolist())
        self._rows().writerows(
            (key, spreadsheet_safe(result.classes[label]), f"{score:.6f}", *(f"{side:.2f}" for side in box))
            for label, score, box in zip(*columns, strict=True)
        )

    def _rows(self) -> Any:
        return csv.writer(self.stream, lineterminator="\n")


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A line for each picture, written to `stream`: `Detections.to_dict`, so nothing is lost."""

    stream: IO[str]

    def write(self, result: Detections) -> None:
        """Write the line of one picture."""
        self.stream.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class CocoIds:
    """The numbers that a COCO file has for pictures and classes."""

    images: Mapping[str, int]  # by key
    categories: Mapping[str, int] | None = None  # by class name; None: from 1 in the classes' order

    @classmethod
    def of(cls, keys: Sequence[str]) -> Self:
        """Numbers for the pictures `keys`: those that all file names are (000000000139.jpg is 139) and no two
        share, else their places among `keys` from 1."""
        known = list(dict.fromkeys(keys))
        stems = [PurePath(key).stem for key in known]
        numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
        if len(set(numbers)) != len(known):
            numbers = list(range(1, len(known) + 1))
        return cls(dict(zip(known, numbers, strict=True)))


@dataclass(slots=True)
class CocoResults:
    """`path` as `write_coco` writes it, of results given one by one in a `with` block that ends well."""

    path: Path
    ids: CocoIds
    _results: list[Detections] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            write_coco(self.path, lambda: self._results, self.ids)

    def write(self, result: Detections) -> None:
        """Keep the objects of one picture until the block ends."""
        self._results.append(result)


def write_coco(path: Path, results: Callable[[], Iterable[Detections]], ids: CocoIds) -> None:
    """Write `results` to `path` as COCO's list of results, and beside it what its ids mean.

    `found.json` is `[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}]`, as COCO's server
    and `loadRes` of pycocotools take it. `found.images.json` is `{"images", "categories"}`: ids with names
    and sizes, to load as the dataset where there is no other. `results` is called several times, so that they
    need not be in memory; of a picture that is there several times, the first counts. Raises DataError for a
    picture or class without a number, DiskFull, EnvironmentProblem.
    """
    classes = next((result.classes for result in results()), ())
    categories = _category_ids(classes, ids)
    _write_json(
        path.with_suffix(".images.json"),
        {
            "images": [
                {"id": number, "file_name": result.key, "height": result.size[0], "width": result.size[1]}
                for number, result in _numbered(results(), ids)
            ],
            "categories": [
                {"id": number, "name": name} for number, name in zip(categories, classes, strict=True)
            ],
        },
    )
    with atomic_write(path) as file:
        file.write(b"[")
        separator = ""
        for number, result in _numbered(results(), ids):
            for row in _coco_rows(result, number, categories):
                file.write(f"{separator}{json.dumps(row)}".encode())
                separator = ", "
        file.write(b"]")


def _numbered(results: Iterable[Detections], ids: CocoIds) -> Iterator[tuple[int, Detections]]:
    """Each picture once, behind its number."""
    seen = set()
    for result in results:
        number = _known(ids.images, result.key, "picture")
        if number not in seen:
            seen.add(number)
            yield number, result


def _category_ids(classes: tuple[str, ...], ids: CocoIds) -> list[int]:
    if ids.categories is None:
        return list(range(1, len(classes) + 1))
    return [_known(ids.categories, name, "class") for name in classes]


def _known(ids: Mapping[str, int], name: str, kind: str) -> int:
    if name not in ids:
        raise DataError(
            name, f"this {kind} has no number in the COCO file", "predict on that file's pictures"
        )
    return ids[name]


def _coco_rows(result: Detections, image: int, categories: list[int]) -> Iterator[dict[str, Any]]:
    corners = result.boxes.astype(np.float64)
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1).round(4).tolist()
    for box, score, label in zip(boxes, result.scores, result.labels.tolist(), strict=True):
        # The shortest decimal that is this float32: rounded scores could be equal that are not.
        yield {"image_id": image, "category_id": categories[label], "bbox": box, "score": float(str(score))}


def _write_json(path: Path, content: object) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class YoloFolder:
    """A folder that gets `labels/NAME.txt` for each of `pictures`, and the classes' names in `classes.txt`.

    A line is an object: class id from 0, centre x and y, width and height as shares of the picture's, score.
    A picture in which nothing was found has an empty file. Names are those of the pictures below the folder
    that all of them share. Raises UsageError where the folder is there already with anything in it, unless it
    `is_begun`.
    """

    folder: Path
    pictures: Pictures
    is_begun: bool = False
    names: dict[str, str] = field(init=False)  # of each picture's key, without a suffix

    def __post_init__(self) -> None:
        if not self.is_begun:
            refuse_filled(self.folder)
        object.__setattr__(self, "names", names_below(self.pictures.keys))

    def write(self, result: Detections) -> None:
        """Write the file of one picture. Raises DiskFull, EnvironmentProblem."""
        if not (self.folder / CLASSES).exists():
            self._write_classes(result.classes)
        (height, width), corners = result.size, result.boxes.astype(np.float64)
        low, high = corners[:, :2], corners[:, 2:]
        shares = np.concatenate(((low + high) / 2, high - low), 1) / (width, height, width, height)
        rows = zip(result.labels.tolist(), shares.tolist(), result.scores.tolist(), strict=True)
        lines = [
            f"{label} {' '.join(f'{share:.6f}' for share in box)} {score:.6f}\n" for label, box, score in rows
        ]
        with atomic_write(self.folder / LABELS / f"{self.names[result.key]}.txt") as file:
            file.write("".join(lines).encode())

    def _write_classes(self, classes: tuple[str, ...]) -> None:
        broken = [name for name in classes if len(name.splitlines()) > 1]
        if broken:
            raise UsageError("classes", f"the name {broken[0]!r} has two lines", "write another format")
        with atomic_write(self.folder / CLASSES) as file:
            file.write("".join(f"{name}\n" for name in classes).encode())


@dataclass(frozen=True, slots=True)
class BoxFolder:
    """A folder that gets `pictures/NAME.jpg` with the boxes drawn, and what `YoloFolder` writes.

    Raises UsageError where the folder is there already with anything in it, unless it `is_begun`.
    """

    folder: Path
    pictures: Pictures
    is_begun: bool = False
    labels: YoloFolder = field(init=False)
    numbers: dict[str, int] = field(init=False)  # of each picture's key, its place among them

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", YoloFolder(self.folder, self.pictures, self.is_begun))
        numbers = {key: number for number, (key, _, _) in enumerate(self.pictures.places)}
        object.__setattr__(self, "numbers", numbers)

    def write(self, result: Detections) -> None:
        """Write the two files of one picture. Raises DiskFull, EnvironmentProblem."""
        self.labels.write(result)
        image = decode_image(self.pictures.content(self.numbers[result.key]), name=result.key)
        with atomic_write(self.folder / PICTURES / f"{self.labels.names[result.key]}.jpg") as file:
            PillowImage.fromarray(draw(image, result)).save(file, "JPEG", quality=90)
