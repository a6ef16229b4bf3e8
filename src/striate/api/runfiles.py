"""The files of a run folder beside its models."""

import csv
import io
from pathlib import Path

from striate.data.dataset import Dataset
from striate.files import atomic_write

__all__ = ["CONFIG_FILE", "EVENTS_FILE", "METRICS_FILE", "SPLIT_FILE", "write_split", "write_text"]

CONFIG_FILE = "run.toml"  # every setting with its origin
EVENTS_FILE = "events.jsonl"  # what happened, one typed event a line
METRICS_FILE = "metrics.json"  # the scores of the test part
SPLIT_FILE = "split.csv"  # which picture was in which part


def write_split(folder: Path, dataset: Dataset) -> None:
    """Write which picture is in which part: the evidence that the test part was never trained on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "key"])
    writer.writerows((item.part, item.key) for item in dataset.items)
    write_text(folder / SPLIT_FILE, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
