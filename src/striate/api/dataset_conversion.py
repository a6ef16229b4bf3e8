"""A dataset with boxes, written in another format."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from striate import plugins
from striate.data import formats
from striate.data.dataset import PARTS, Dataset, Finding
from striate.data.open import DataConfig, open_dataset
from striate.data.tree import open_tree
from striate.errors import UnknownName, UsageError

__all__ = ["TARGETS", "DatasetConversion", "convert_data"]

TARGETS = {"coco": "coco_boxes", "pascal": "pascal_boxes", "voc": "voc_boxes", "yolo": "yolo_boxes"}
"""What a dataset with boxes can be written as, and the format that reads it."""


@dataclass(frozen=True, slots=True)
class DatasetConversion:
    """A folder that was written, counted as it is read again, and what it does not hold."""

    folder: str
    format: str  # "COCO boxes"
    source_format: str
    pictures: dict[str, int]  # by part, "" for those of none
    boxes: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]  # how the source was read
    left_out: tuple[Finding, ...]  # what of the source cannot be used
    lost: tuple[str, ...]  # what the format has no place for, a sentence each

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `convert --json`."""
        return asdict(self) | {"left_out": [finding.to_dict() for finding in self.left_out]}


def convert_data(
    source: str,
    to: str,
    out: Path,
    form: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetConversion:
    """Write the dataset with boxes that `source` means to the folder `out` as one of TARGETS.

    Raises UnknownName for another target, UsageError where something is in `out` or the source has no boxes,
    DataError for a class whose name the target cannot hold, DiskFull where there is no room.
    """
    if to not in TARGETS:
        raise UnknownName("--to", to, TARGETS)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}", "there is something there already", "choose a new folder")
    dataset = open_dataset(DataConfig(source=source, format=form, task="detection"))
    target = plugins.load(formats, TARGETS[to])
    lost: tuple[str, ...] = target.write(dataset, out, progress)
    return _report(dataset, target.read(open_tree(out)), lost)


def _report(source: Dataset, written: Dataset, lost: tuple[str, ...]) -> DatasetConversion:
    counts = Counter(item.part for item in written.items)
    return DatasetConversion(
        folder=written.name,
        format=written.format,
        source_format=source.format,
        pictures={part: counts[part] for part in (*PARTS, "") if counts[part]},
        boxes=sum(len(item.objects) for item in written.items if item.objects is not None),
        classes=written.classes,
        notes=source.notes,
        left_out=tuple(finding for finding in source.findings if finding.level == "error"),
        lost=lost,
    )
