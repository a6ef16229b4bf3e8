"""What a report shows of the data: its classes, its health, and what its pictures look like."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from striate.api.checking import described_boxes, described_pictures
from striate.api.evidence._overlays import legend_of, sample_image
from striate.api.runfiles import CONFIG_FILE, SPLIT_FILE, read_split
from striate.api.settings import recorded_settings
from striate.api.thumbnails import SMALL, thumbnail
from striate.data.check import CheckReport, DataFacts, check
from striate.data.dataset import PARTS, Dataset
from striate.data.findings import is_labelled
from striate.data.open import open_dataset
from striate.reports.evidence import Column, Data, Finding, Gallery, Picture, Table, Value

__all__ = ["data_evidence", "has_own_data", "whole_data"]

_FINDINGS = 40  # that are listed
_SAMPLES = 40  # pictures
_LEVELS = ("error", "warning", "note")


def whole_data(folder: Path) -> Dataset:
    """The data of the run in `folder` as it is found now, with that run's parts; "" where it took none."""
    opened = open_dataset(recorded_settings(folder / CONFIG_FILE).value.data)
    parts = read_split(folder)
    return replace(opened, items=tuple(replace(item, part=parts.get(item.key, "")) for item in opened.items))


def has_own_data(folder: Path) -> bool:
    """Whether the run in `folder` says which pictures it was trained on."""
    return (folder / CONFIG_FILE).is_file() and (folder / SPLIT_FILE).is_file()


def data_evidence(dataset: Dataset, progress: Callable[[int, int], None] | None) -> Data:
    """The data looked over: every picture is decoded once."""
    report = check(dataset, progress=progress)
    findings = sorted(report.findings, key=lambda finding: _LEVELS.index(finding.level))
    return Data(
        lines=tuple(_lines(dataset, report)),
        classes=_classes(report.facts),
        findings=tuple(
            Finding(each.level, each.file, each.message, each.fix) for each in findings[:_FINDINGS]
        ),
        findings_left_out=max(0, len(findings) - _FINDINGS),
        samples=_samples(dataset, report),
    )


def _lines(dataset: Dataset, report: CheckReport) -> Iterator[str]:
    facts = report.facts
    yield (
        f"{dataset.name}: {dataset.format}, {len(dataset):,} pictures, {facts.pictures:,} of them usable, "
        f"{described_pictures(facts)}; {len(dataset.classes):,} classes."
    )
    if boxes := described_boxes(facts):
        yield f"{'; '.join(boxes)}."
    yield from dataset.notes


def _classes(facts: DataFacts) -> Table:
    """Each class with its pictures in each part, and with its boxes or its share of the pixels."""
    there = {part for counts in facts.counts.values() for part, count in counts.items() if count}
    parts = [part for part in (*PARTS, "") if part in there]
    named = [part or ("pictures" if parts == [""] else "no part") for part in parts]
    more, unit = (facts.pixels, "pixels") if facts.pixels else (facts.boxes, "boxes")
    totals = {part: sum(row.get(part, 0) for row in more.values()) or 1 for part in parts}
    rows = []
    for name, counts in facts.counts.items():
        row: list[Value] = [name, *(counts.get(part, 0) for part in parts)]
        own = more.get(name, {})
        if facts.pixels:
            row += [own.get(part, 0) / totals[part] for part in parts]
        elif facts.boxes:
            row += [own.get(part, 0) for part in parts]
        rows.append(tuple(row))
    headings = [*named, *(f"{name}, {unit}" for name in named)] if more else named
    columns = (Column("class", is_number=False), *map(Column, headings))
    return Table("Pictures that show each class", columns, tuple(rows))


def _samples(dataset: Dataset, report: CheckReport) -> Gallery:
    chosen = list(_chosen(dataset, report))
    shown = tuple(_sample(dataset, index) for index in chosen)
    text = "One of each class in turn, from the pictures to train on where there are any."
    if dataset.task != "classification":
        text = "Pictures to train on, where there are any, with what is marked in them."
    left_out = max(0, len(report.usable) - len(chosen))
    return Gallery("Sample pictures", text, shown, legend_of(dataset), left_out)


def _chosen(dataset: Dataset, report: CheckReport) -> Iterator[int]:
    """Usable items, class after class in turn, in an order that is the same each time."""
    usable = [index for index in report.usable.tolist() if is_labelled(dataset.items[index])]
    training = [index for index in usable if dataset.items[index].part == "train"] or usable
    shuffled = np.random.default_rng(0).permutation(training).tolist()
    seen: dict[int | None, int] = {}
    ranked = []
    for index in shuffled:
        label = dataset.items[index].label
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], -1 if label is None else label, index))
    most = _SAMPLES if dataset.task == "classification" else 12
    yield from (index for _, _, index in sorted(ranked)[:most])


def _sample(dataset: Dataset, index: int) -> Picture:
    item = dataset.items[index]
    if item.label is not None and dataset.task == "classification":
        name = dataset.classes[item.label]
        return Picture(item.key, (thumbnail(dataset.image(index), name, SMALL),), (name,))
    return Picture(item.key, (sample_image(dataset, index),))
