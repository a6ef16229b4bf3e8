"""What is in a dataset and what is wrong with it; reads each picture once and changes nothing."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from striate.data.dataset import Dataset, Finding
from striate.data.facts import DataFacts, Ints, Measured, facts_of
from striate.data.findings import (
    class_findings,
    doubted_items,
    group_findings,
    is_labelled,
    near_findings,
    picture_findings,
)
from striate.errors import DataError, UsageError

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
        """The findings whose pictures are left out."""
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
    """Decode every picture once and report what `dataset` holds and what is wrong with it.

    An item is usable if it decodes and has a label (or objects); pictures with equal pixels and
    different labels are left out of training but stay in a stated val or test part.

    `workers` threads decode (default: one per CPU, 8 at most); what comes out does not depend on
    their number. `progress(done, total)` is called from this thread. Holds one picture per thread and
    less than 500 bytes per item. Ctrl-C stops after the pictures being decoded. Raises UsageError for
    workers < 1.
    """
    measured = Measured(len(dataset), near_duplicates)
    _decode_all(dataset, measured, workers, progress)
    groups = measured.groups()
    labelled = np.array([is_labelled(item) for item in dataset.items], np.bool_)
    readable = np.flatnonzero(labelled & measured.readable)
    doubted = doubted_items(dataset, groups)
    usable = np.setdiff1d(readable, doubted)
    findings = (
        *dataset.findings,
        *picture_findings(dataset, measured),
        *group_findings(dataset, groups, doubted),
        *(near_findings(dataset, measured, groups) if near_duplicates else ()),
        *class_findings(dataset, usable),
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
            try:
                # Not named: a name would keep the picture while the next one is decoded.
                measured.record(index, dataset.sample(index).image)
            except DataError as error:
                measured.failures[index] = error.what, error.fix
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
