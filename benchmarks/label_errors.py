"""How many planted wrong labels are among the first tenth of what `striate.label_errors` doubts.

Usage: python benchmarks/label_errors.py NAME=DATA ... [--epochs 5] [--folds 5] [--seeds 0 1 2] [--limit N]
       [--out benchmarks/results/label_errors.json]

For example: python benchmarks/label_errors.py digits=digits cifar10-12k=CIFAR.zip. Of each dataset 5 % of the
pictures, drawn by the seed, get the label of another class, drawn evenly; the pictures are then written in
class folders and asked about as anybody's would be. `found` is the share of the planted among the most
doubtful tenth of all pictures, `precision` the share of the planted among all that are doubted. The goal is
to find half. `--limit` takes that many pictures of each dataset, evenly spread, to try it out.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from rows import PACKAGES
from startup import machine

import striate
from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset

SHARE = 0.05  # of the labels that are made wrong
GOAL = 0.5
VERSIONED = [package for package in PACKAGES if package != "timm"]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "label_errors.json")
    options = parser.parse_args()
    rows = []
    for text in options.data:
        name, _, source = text.partition("=")
        dataset = reduced(open_dataset(DataConfig(source=source)), options.limit)
        rows += [measured(name, dataset, seed, options) for seed in options.seeds]
    settings = {"model": "simple_cnn", "epochs": options.epochs, "folds": options.folds, "share": SHARE}
    found = {
        "what": (__doc__ or "").partition("\n")[0],
        "settings": settings | {"limit": options.limit, "goal": GOAL},
        "machine": machine() | {"versions": {package: version_of(package) for package in VERSIONED}},
        "rows": rows,
        "median_found": {
            name: statistics.median(row["found"] for row in rows if row["data"] == name)
            for name in dict.fromkeys(row["data"] for row in rows)
        },
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def version_of(package: str) -> str:
    """The version that is used; of striate itself, which may run from the tree, its own word."""
    from importlib.metadata import version

    return striate.__version__ if package == "striate" else version(package)


def reduced(dataset: Dataset, limit: int | None) -> Dataset:
    """`limit` pictures of `dataset`, evenly spread; all for None."""
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.only(np.linspace(0, len(dataset) - 1, limit).round().astype(int).tolist())


def measured(name: str, dataset: Dataset, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what is found of the labels planted by `seed`."""
    with TemporaryDirectory(prefix="striate-planted-") as folder:
        wrong = plant(dataset, Path(folder), seed)
        begun = time.perf_counter()
        settings = {"epochs": options.epochs, "folds": options.folds, "seed": seed}
        found = striate.label_errors(folder, "simple_cnn", **settings)
        seconds = time.perf_counter() - begun
    keys = [suspect.key for suspect in found.suspects]
    first = set(keys[: found.pictures // 10])
    row = {
        "data": name,
        "seed": seed,
        "pictures": found.pictures,
        "planted": len(wrong),
        "doubted": len(keys),
        "found": round(len(first & wrong) / len(wrong), 4),
        "precision": round(len(set(keys) & wrong) / max(len(keys), 1), 4),
        "accuracy": round(found.accuracy, 4),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(row), flush=True)
    return row


def plant(dataset: Dataset, folder: Path, seed: int) -> set[str]:
    """Write the pictures in class folders below `folder`, some in a wrong one; the keys of those."""
    chance = np.random.default_rng(seed)
    count, classes = len(dataset), len(dataset.classes)
    chosen = set(chance.choice(count, round(SHARE * count), replace=False).tolist())
    wrong = set()
    for index, item in enumerate(dataset.items):
        label = item.label
        if label is None:
            raise SystemExit(f"{item.key} has no label")
        if index in chosen:
            label = (label + int(chance.integers(1, classes))) % classes
        key = f"{label:02}-{dataset.classes[label]}/{index:06}.png"
        (folder / key).parent.mkdir(exist_ok=True)
        Image.fromarray(dataset.image(index).squeeze()).save(folder / key)
        if index in chosen:
            wrong.add(key)
    return wrong


if __name__ == "__main__":
    main()
