"""`check` on data by name: the report, and how to tell it to people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from striate.data.check import CheckReport, DataFacts, check
from striate.data.dataset import Dataset, Finding
from striate.data.open import DataConfig, open_dataset
from striate.data.tars import TarStorage

__all__ = ["Checked", "check_data", "described_boxes", "described_pictures"]


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
    def columns(self) -> tuple[str, ...]:
        """What `class_rows` tell of a class in each stated part: its pictures, and its pixels or boxes."""
        parts, more = self._parts, self._measure
        if parts == [""]:
            return ("pictures", more)[: 1 + bool(more)]
        names = [part or "no part" for part in parts]
        return *names, *(f"{name} {more}" for name in names if more)

    def class_rows(self) -> list[tuple[str, ...]]:
        """Each class with its usable pictures per part, and its boxes or its share of the part's pixels."""
        facts, parts = self.report.facts, self._parts
        totals = {part: sum(row.get(part, 0) for row in facts.pixels.values()) for part in parts}
        rows = []
        for name, counts in facts.counts.items():
            pictures = [f"{counts.get(part, 0):,}" for part in parts]
            pixels = facts.pixels.get(name, {})
            shares = [_percent(pixels.get(part, 0), totals[part]) for part in parts if facts.pixels]
            boxes = [f"{facts.boxes[name].get(part, 0):,}" for part in parts if facts.boxes]
            rows.append((name, *pictures, *shares, *boxes))
        return rows

    @property
    def _measure(self) -> str:
        """What counts in a class beside its pictures; empty where that is all."""
        facts = self.report.facts
        return "pixels" if facts.pixels else "boxes" if facts.boxes else ""

    @property
    def _parts(self) -> list[str]:
        """The parts that have usable pictures; "" for no stated part."""
        counts = self.report.facts.counts.values()
        return [part for part in ("train", "val", "test", "") if any(row.get(part, 0) for row in counts)]

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
        if boxes := described_boxes(facts):
            yield "boxes", boxes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `check --json`."""
        return {
            "data": self.dataset.name,
            "format": self.dataset.format,
            "classes": list(self.dataset.classes),
            "notes": list(self.dataset.notes),
            **self.report.to_dict(),
        }


def _percent(count: float, total: float) -> str:
    """The share in percent; "<0.01 %" rather than a zero that is none."""
    share = 100 * count / max(total, 1)
    return "<0.01 %" if 0 < share < 0.01 else f"{share:.2f} %" if share < 1 else f"{share:.1f} %"


def described_pictures(facts: DataFacts) -> str:
    """The size, height x width, and colour: "of 28x28, gray", "of 120x200 to 480x640 (median 300x400)"."""
    low, middle, high = (f"{h}x{w}" for h, w in zip(facts.heights, facts.widths, strict=True))
    sizes = middle if facts.uniform else f"{low} to {high} (median {middle})"
    return f"of {sizes}{', gray' if facts.gray else ''}"


def described_boxes(facts: DataFacts) -> list[str]:
    """How many a picture has and how large they are; empty for data of another task."""
    if not facts.boxes:
        return []
    total = sum(sum(counts.values()) for counts in facts.boxes.values())
    low, middle, high = facts.boxes_each
    smallest, usual, largest = (_percent(side, 1) for side in facts.box_sides)
    # The side of a square of the box's area, seen against that of a square of the picture's.
    return [
        f"{total:,} boxes, {low:,} to {high:,} a picture (median {middle:,})",
        f"their sides {smallest} to {largest} of the picture's (median {usual})",
    ]


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
