"""What is in a dataset and what is wrong with it; reads each picture once and changes nothing."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from striate.data.box_findings import table_of
from striate.data.dataset import Dataset, Finding
from striate.data.facts import DataFacts, Failure, Ints, Measured, facts_of
from striate.data.findings import (
    class_findings,
    doubted_items,
    group_findings,
    is_labelled,
    label_ids,
    near_findings,
    picture_findings,
)
from striate.errors import DataError, LabelError, UsageError
from striate.structures import IGNORE

__all__ = ["CheckReport", "DataFacts", "check"]

_CHUNK = 32  # pictures a thread takes at a time
_MOST_THREADS = 8  # a picture of 64 megapixels takes 200 MB while it is decoded


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of `check`."""

    facts: DataFacts
    findings: tuple[Finding, ...]  # the reader's first, then by picture, then by group, then of the whole
    usable: Ints  # indices of the items to train and measure on, ascending
    groups: Ints  # (items,): index of the first item with the same pixels; -1 for one of its own

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings whose pictures, or whose boxes in them, are left out."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "facts": self.facts.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "pictures": len(self.groups),
            "usable": len(self.usable),
        }


def check(
    dataset: Dataset,
    *,
    near_duplicates: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode every picture and mask once and report what `dataset` holds and what is wrong with it.

    An item is usable if it decodes and has a label (or objects, drawn on a picture of its size, or a mask of
    its size and its classes); pictures with equal pixels and different labels are left out of training but
    stay in a stated val or test part. Of objects `usable_objects` says what is used.

    `workers` threads decode (default: one per CPU, 8 at most); what comes out does not depend on
    their number. `progress(done, total)` is called from this thread. Holds one picture per thread and
    less than 500 bytes per item, 4 more for each class of a mask and 100 for each box. Ctrl-C stops after
    the pictures being decoded. Raises UsageError for workers < 1.
    """
    classes = len(dataset.classes) if dataset.task == "segmentation" else 0
    measured = Measured(len(dataset), near_duplicates, classes)
    _decode_all(dataset, measured, workers, progress)
    measured.boxes = table_of(dataset, measured.shapes, measured.sound)
    groups, labels = measured.groups(), label_ids(dataset, measured)
    labelled = np.array([is_labelled(item) for item in dataset.items], np.bool_)
    sound = np.flatnonzero(labelled & measured.sound)
    doubted = doubted_items(dataset, groups, labels)
    usable = np.setdiff1d(sound, doubted)
    findings = (
        *dataset.findings,
        *picture_findings(dataset, measured),
        *group_findings(dataset, groups, labels, doubted),
        *(near_findings(dataset, measured, groups) if near_duplicates else ()),
        *class_findings(dataset, measured, usable),
    )
    return CheckReport(facts_of(dataset, measured, usable), findings, usable, groups)


def _decode_all(
    dataset: Dataset,
    measured: Measured,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fill `measured` from every picture of `dataset`."""
    if workers is not None and workers < 1:
        raise UsageError("workers", f"{workers} threads cannot decode", "give 1 or more")
    stop = Event()

    def decode(indices: range) -> int:
        for index in indices:
            if stop.is_set():
                break
            if failure := _decode(dataset, index, measured):
                measured.failures[index] = failure
        return indices.stop

    total = len(dataset)
    chunks = [range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        try:
            for done in pool.map(decode, chunks):
                if progress is not None:
                    progress(done, total)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _decode(dataset: Dataset, index: int, measured: Measured) -> Failure | None:
    """Fill `measured` from item `index`; why it cannot be used, if it cannot."""
    item = dataset.items[index]
    try:
        # Not named: a name would keep the picture while the next one is decoded.
        measured.record(index, dataset.image(index))
    except DataError as error:
        return Failure(item.key, "unreadable", error.what, error.fix)
    height, width, _ = measured.shapes[index].tolist()
    stated = (dataset.stated_sizes or {}).get(item.key, (height, width))
    if stated != (height, width):
        return _wrong_size(item.key, stated, (height, width))
    try:
        mask = dataset.mask(index)
    except DataError as error:
        code = "mask-label" if isinstance(error, LabelError) else "mask-unreadable"
        return Failure(error.where, code, error.what, error.fix)
    if mask is None:
        return None
    where = item.mask or item.key
    if mask.shape != (height, width):
        what = f"the mask has {mask.shape[1]}x{mask.shape[0]} pixels, its picture {width}x{height}"
        return Failure(where, "mask-size", what, "give the mask of this very picture, at its size")
    outside = mask[(mask >= len(dataset.classes)) & (mask != IGNORE)]
    if outside.size:
        what = f"the mask has class id {outside[0]}, and there are {len(dataset.classes)} classes"
        return Failure(where, "mask-label", what, "correct the mask, or name that class")
    measured.record_mask(index, mask)
    return None


def _wrong_size(key: str, stated: tuple[int, int], own: tuple[int, int]) -> Failure:
    """What is told of boxes drawn on a picture of another size than the one that is there."""
    sizes = f"its labels are for {stated[1]}x{stated[0]} pixels, and it has {own[1]}x{own[0]}"
    if stated == own[::-1]:
        what = f"{sizes}: they may have been drawn before its EXIF rotation was applied"
        return Failure(key, "size-stated", what, "label it as it is shown, or remove the rotation")
    return Failure(key, "size-stated", sizes, "label this very picture, or correct the stated size")
