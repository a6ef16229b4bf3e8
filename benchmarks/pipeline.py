"""Pictures a second from JPEG photos to training batches: striate's loader against torchvision's way.

Usage: python benchmarks/pipeline.py [--photos FOLDER] [--rounds 7] [--wait 8] [--out FILE]

Everyone decodes, takes a random resized crop to 224, mirrors half of the pictures and gives batches of 64.
Without --photos the script makes 600 photos of 500x375: smooth noise with a little grain, JPEG quality 90.
The ways take turns, so that a busy moment of the machine hits all of them. A ratio is the median over the
rounds of a way / torchvision's way in one process that does the same work, which `against` names.

torchvision v2: Pillow, RandomResizedCrop, RandomHorizontalFlip and PILToTensor, so uint8 as striate gives it;
`preset` goes on to float32 and Normalize, as torchvision's own training does. DataLoader workers are
processes, live from round to round and have an epoch behind them.
striate: `first` decodes every photo, shrinks it to a shorter side of 448 where that is longer, and keeps it
in memory; `second` is the epoch after it; `normalised` is one more, whose batches also pass the first layer
of a network, which makes normalised float32 of them where they are consumed. `disk, later run`: a new run
finds the pictures on disk, in the page cache, and compares their checksums; `disk, second` is the epoch after
it.

As in `striate train`, freed memory stays with the process; torchvision's ways are in the same process, or
forked from it, and gain by that too. torch has one thread everywhere.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from startup import machine
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from striate.data.augment import AugmentConfig
from striate.data.batches import Caches
from striate.data.batches.classification import for_training
from striate.data.cache import Budget
from striate.data.dataset import Dataset, Item
from striate.data.decode import SUFFIXES
from striate.data.disk_space import DiskSpace
from striate.data.loader import TrainLoader
from striate.data.tree import open_tree
from striate.layers.normalize import Normalize
from striate.structures import Preprocess
from striate.tasks import classification
from striate.training.allocator import keep_freed_memory

PHOTOS, WIDTH, HEIGHT, QUALITY = 600, 500, 375, 90
SIDE, BATCH = 224, 64
SCALE = (0.08, 1.0)  # torchvision's default
WORKERS = (0, 1, 2)
BASE, FLOAT_BASE = "torchvision v2, 1 process", "torchvision v2 preset, 1 process"
GOALS = {
    # Of the second epoch, best number of workers.
    "images_per_second": 1300,
    "ratio": 5.0,
    "ratio_normalised": 5.0,
    # The first epoch / torchvision, uint8, with as many workers.
    "first_epoch_alone": 1.0,
    "first_epoch_2_workers": 1.0,
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of pictures, at any depth")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wait", type=float, default=8, help="minutes to wait for a quiet machine at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pipeline.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.photos or make_photos(Path(scratch) / "photos")
        ways = Ways(dataset_of(folder), DiskSpace(Path(scratch) / "cache", 10**11))
        ways.round()  # does not count: workers start, files come into the page cache, the disk is filled
        quiet(60 * options.wait)
        before = os.getloadavg()
        rounds = [ways.round() for _ in range(options.rounds)]
        result = {
            "what": __doc__.splitlines()[0],
            "machine": machine()
            | {"versions": {name: version(name) for name in ("striate", "torch", "torchvision", "pillow")}},
            "load_average": {"before": before, "after": os.getloadavg()},
            "photos": describe(ways.dataset, given=options.photos is not None),
            "rounds": options.rounds,
            "ways": rows(rounds),
        }
    result["goals"] = judged(rounds)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("ways", "goals")}, indent=1))


def make_photos(folder: Path, count: int = PHOTOS) -> Path:
    """`count` pictures with the low frequencies, the grain and about the file size of photos."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        coarse, fine = (
            PIL.Image.fromarray(chance.integers(0, 256, (*tiles, 3), np.uint8)).resize(
                (WIDTH, HEIGHT), PIL.Image.Resampling.BICUBIC
            )
            for tiles in ((6, 8), (60, 80))
        )
        grain = chance.normal(0, 4, (HEIGHT, WIDTH, 1))
        values = np.asarray(PIL.Image.blend(coarse, fine, 0.25)) + grain
        picture = PIL.Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        picture.save(folder / f"{number:04d}.jpg", quality=QUALITY)
    return folder


def dataset_of(folder: Path) -> Dataset:
    """Every picture below `folder`, all of one class."""
    tree = open_tree(folder)
    names = [name for name in tree.files if Path(name).suffix.lower() in SUFFIXES]
    items = tuple(Item(name, "train", 0) for name in names)
    return Dataset(str(folder), "files", "classification", ("photo",), items, tree)


def quiet(seconds: float) -> None:
    """Wait until the load average is below 0.5, for `seconds` at most."""
    until = time.monotonic() + seconds
    while os.getloadavg()[0] >= 0.5 and time.monotonic() < until:
        time.sleep(5)


class Photos(TorchDataset[tuple[Tensor, int]]):
    """A dataset as torchvision's tutorials write it."""

    def __init__(self, paths: list[Path], transform: Callable[[PIL.Image.Image], Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with PIL.Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), 0


@dataclass
class Ways:
    """All contenders over one dataset."""

    dataset: Dataset
    space: DiskSpace

    def __post_init__(self) -> None:
        paths = [Path(str(self.dataset.storage.content(item.key))) for item in self.dataset.items]
        vary = [v2.RandomResizedCrop(SIDE, SCALE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        spec = Preprocess(size=(SIDE, SIDE))
        normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)]
        self.normalize = Normalize(spec)
        self.torchvision = {
            f"torchvision {name}, {label}": DataLoader(
                Photos(paths, v2.Compose(transforms)),
                BATCH,
                shuffle=True,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            for name, transforms in (("v2", vary), ("v2 preset", vary + normalise))
            for workers, label in ((0, "1 process"), (2, "2 workers"))
        }

    def round(self) -> dict[str, float]:
        """Pictures a second of each."""
        found = {name: self._rate(loader) for name, loader in self.torchvision.items()}
        for workers in WORKERS:
            loader = self._loader(workers, Budget(), None)
            for number, name in enumerate(("first", "second")):
                found[f"striate {name} epoch, {workers} workers"] = self._rate(loader.epoch(number))
            found[f"striate second epoch, normalised, {workers} workers"] = self._rate(
                self.normalize(batch.images) for batch in loader.epoch(2)
            )
        for workers in WORKERS:
            loader = self._loader(workers, Budget(0), self.space)
            for number, name in enumerate(("later run", "second")):
                found[f"striate disk, {name}, {workers} workers"] = self._rate(loader.epoch(number))
        return found

    def _loader(self, workers: int, budget: Budget, space: DiskSpace | None) -> TrainLoader:
        spec, indices = Preprocess(size=(SIDE, SIDE)), self.dataset.indices("train")
        augment = AugmentConfig(flip=0.5, scale=SCALE)
        return TrainLoader(
            for_training(self.dataset, indices, spec, augment, Caches(budget, space)),
            indices,
            partial(classification.targets, options=classification.TargetOptions(1)),
            BATCH,
            seed=0,
            workers=workers,
        )

    def _rate(self, batches: Iterable[Any]) -> float:
        started = time.perf_counter()
        for _ in batches:
            pass
        return len(self.dataset) / (time.perf_counter() - started)


def describe(dataset: Dataset, given: bool) -> dict[str, object]:
    """How many photos there were, and how large."""
    sizes = [Path(str(dataset.storage.content(item.key))).stat().st_size for item in dataset.items]
    source = "given" if given else f"made: {WIDTH}x{HEIGHT}, JPEG quality {QUALITY}"
    return {
        "source": source,
        "count": len(dataset),
        "kilobytes_median": round(statistics.median(sizes) / 1e3),
    }


def rows(rounds: list[dict[str, float]]) -> dict[str, dict[str, float | str]]:
    """Pictures a second (median, minimum, maximum) and the ratio to the base, for each way."""
    found: dict[str, dict[str, float | str]] = {}
    for name in rounds[0]:
        rates = [row[name] for row in rounds]
        base = FLOAT_BASE if "preset" in name or "normalised" in name else BASE
        found[name] = {
            "median": round(statistics.median(rates)),
            "min": round(min(rates)),
            "max": round(max(rates)),
            "ratio_median": ratio(rounds, name, base),
            "against": base,
        }
    return found


def ratio(rounds: list[dict[str, float]], name: str, base: str) -> float:
    """The median over the rounds of the way `name` / `base`."""
    return round(statistics.median(row[name] / row[base] for row in rounds), 2)


def judged(rounds: list[dict[str, float]]) -> dict[str, dict[str, float | bool]]:
    """The goals beside what was reached."""
    second = [f"striate second epoch, {workers} workers" for workers in WORKERS]
    normalised = [f"striate second epoch, normalised, {workers} workers" for workers in WORKERS]
    reached = {
        "images_per_second": max(round(statistics.median(row[name] for row in rounds)) for name in second),
        "ratio": max(ratio(rounds, name, BASE) for name in second),
        "ratio_normalised": max(ratio(rounds, name, FLOAT_BASE) for name in normalised),
        "first_epoch_alone": ratio(rounds, "striate first epoch, 0 workers", BASE),
        "first_epoch_2_workers": ratio(rounds, "striate first epoch, 2 workers", "torchvision v2, 2 workers"),
    }
    return {
        name: {"goal": goal, "reached": reached[name], "is_met": reached[name] >= goal}
        for name, goal in GOALS.items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)  # a second one would take from whoever prepares pictures
    keep_freed_memory()
    main()
