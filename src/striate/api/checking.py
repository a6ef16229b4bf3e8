"""`check` on data by name: the report, and how to tell it to people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from striate.data.check import CheckReport, DataFacts, check
from striate.data.dataset import Dataset, Finding
from striate.data.open import DataConfig, open_dataset
from striate.data.tars import TarStorage

__all__ = ["Checked", "check_data", "described_pictures"]


@dataclass(frozen=True, slots=True, repr=False)
class Checked:
    """A dataset and what `check` found in it."""

    dataset: Dataset
    report: CheckReport

    def __repr__(self) -> str:
        lines = [line for _, lines in self.describe() for line in lines]
        found = [f"{finding.level}: {finding.file}: {finding.message}" for finding in self.report.findings]
        return "\n".join([*lines, *found])

    @property
    def part_names(self) -> tuple[str, ...]:
        """Columns of counts: the parts that the data states; ("pictures",) where it states none."""
        there = [part for part in ("train", "val", "test", "") if any(self._counts(part))]
        return tuple(part or ("pictures" if there == [""] else "no part") for part in there)

    def class_rows(self) -> list[tuple[str, ...]]:
        """Each class with its usable pictures per part."""
        parts = [part for part in ("train", "val", "test", "") if any(self._counts(part))]
        counts = self.report.facts.counts
        return [(name, *(f"{row.get(part, 0):,}" for part in parts)) for name, row in counts.items()]

    def _counts(self, part: str) -> list[int]:
        return [row.get(part, 0) for row in self.report.facts.counts.values()]

    def describe(self) -> Iterator[tuple[str, list[str]]]:
        """Headings with their lines: what the data is."""
        dataset, facts = self.dataset, self.report.facts
        yield (
            "data",
            [
                f"{dataset.name}: {dataset.format}, {len(dataset):,} pictures",
                f"{len(dataset.classes)} classes",
                *dataset.notes,
            ],
        )
        yield "pictures", [f"{len(self.report.usable):,} usable, {described_pictures(facts)}"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `check --json`."""
        return {
            "data": self.dataset.name,
            "format": self.dataset.format,
            "classes": list(self.dataset.classes),
            "notes": list(self.dataset.notes),
            **self.report.to_dict(),
        }


def described_pictures(facts: DataFacts) -> str:
    """The size, height x width, and colour: "of 28x28, gray", "of 120x200 to 480x640 (median 300x400)"."""
    low, middle, high = (f"{h}x{w}" for h, w in zip(facts.heights, facts.widths, strict=True))
    sizes = middle if facts.uniform else f"{low} to {high} (median {middle})"
    return f"of {sizes}{', gray' if facts.gray else ''}"


def check_data(
    source: str,
    form: str | None,
    near: bool,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> Checked:
    """Read and check `source`; `form` forces a format."""
    dataset = open_dataset(DataConfig(source=source, format=form))
    if isinstance(dataset.storage, TarStorage):
        dataset = replace(dataset, findings=(*dataset.findings, *_damage(dataset.storage, progress)))
    return Checked(dataset, check(dataset, near_duplicates=near, workers=workers, progress=progress))


def _damage(storage: TarStorage, progress: Callable[[int, int], None] | None) -> Iterator[Finding]:
    """A finding for each tar whose checksum is wrong."""
    done = 0
    for pictures, finding in storage.damage():
        done += pictures
        if progress is not None:
            progress(done, len(storage.rows))
        if finding is not None:
            yield finding
