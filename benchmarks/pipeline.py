"""Pictures a second from JPEG photos to training batches: striate's loader against torchvision's way.

Usage: python benchmarks/pipeline.py [--photos FOLDER] [--rounds 7] [--wait 8] [--out FILE]

Everyone decodes, takes a random resized crop to 224, mirrors half of the pictures and gives batches of 64.
Without --photos the script makes 600 photos of 500x375: smooth noise with a little grain, JPEG quality 90.
The ways take turns, so that a busy moment of the machine hits all of them. A ratio is the median over the
rounds of a way / torchvision v2 in one process.

torchvision: Pillow, RandomResizedCrop and RandomHorizontalFlip; v2 gives uint8 as striate does (PILToTensor),
v1 float32 (ToTensor). Its DataLoader workers live from round to round and have an epoch behind them.
striate: `first` decodes every photo, shrinks it to a shorter side of 256 and keeps it in memory; `second` is
the epoch after it. `disk, later run`: a new run finds the pictures on disk, in the system's page cache, and
compares their checksums; `disk, second` is the epoch after it.
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
from torchvision import transforms as v1
from torchvision.transforms import v2

from striate.data.augment import Augmentation, AugmentConfig
from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset, Item
from striate.data.decode import SUFFIXES
from striate.data.disk_space import DiskSpace
from striate.data.loader import TrainLoader
from striate.data.tree import open_tree
from striate.structures import Preprocess
from striate.tasks import classification

PHOTOS, WIDTH, HEIGHT, QUALITY = 600, 500, 375, 90
SIDE, BATCH = 224, 64
SCALE = (0.08, 1.0)  # torchvision's default
WORKERS = (0, 1, 2)
BASE = "torchvision v2, 1 process"
GOALS = {"images_per_second": 1300, "ratio": 5.0}  # of the second epoch, best number of workers


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
    result["goals"] = judged(result["ways"])
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("ways", "goals")}, indent=1))


def make_photos(folder: Path) -> Path:
    """PHOTOS pictures with the low frequencies, the grain and about the file size of photos."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(PHOTOS):
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
        self.torchvision = {}
        for name, ways, last in (("v2", v2, v2.PILToTensor()), ("v1", v1, v1.ToTensor())):
            transform = ways.Compose([ways.RandomResizedCrop(SIDE, SCALE), ways.RandomHorizontalFlip(), last])
            for workers, label in ((0, "1 process"), (2, "2 workers")):
                self.torchvision[f"torchvision {name}, {label}"] = DataLoader(
                    Photos(paths, transform),
                    BATCH,
                    shuffle=True,
                    num_workers=workers,
                    persistent_workers=workers > 0,
                )

    def round(self) -> dict[str, float]:
        """Pictures a second of each."""
        found = {name: self._rate(loader) for name, loader in self.torchvision.items()}
        for workers in WORKERS:
            loader = self._loader(workers, Budget(), None)
            for number, name in enumerate(("first", "second")):
                found[f"striate {name} epoch, {workers} workers"] = self._rate(loader.epoch(number))
        for workers in WORKERS:
            loader = self._loader(workers, Budget(0), self.space)
            for number, name in enumerate(("later run", "second")):
                found[f"striate disk, {name}, {workers} workers"] = self._rate(loader.epoch(number))
        return found

    def _loader(self, workers: int, budget: Budget, space: DiskSpace | None) -> TrainLoader:
        spec = Preprocess(size=(SIDE, SIDE))
        return TrainLoader(
            Pictures.for_cutting(self.dataset, spec, budget, space),
            self.dataset.indices("train"),
            partial(classification.targets, options=classification.TargetOptions(1)),
            Augmentation(AugmentConfig(flip=0.5, scale=SCALE), spec),
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


def rows(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Pictures a second (median, minimum, maximum) and the ratio to the base, for each way."""
    found = {}
    for name in rounds[0]:
        rates = [row[name] for row in rounds]
        found[name] = {
            "median": round(statistics.median(rates)),
            "min": round(min(rates)),
            "max": round(max(rates)),
            "ratio_median": round(statistics.median(row[name] / row[BASE] for row in rounds), 2),
        }
    return found


def judged(ways: dict[str, dict[str, float]]) -> dict[str, dict[str, float | bool]]:
    """The goals of the second epoch beside what was reached."""
    second = [row for name, row in ways.items() if name.startswith("striate second")]
    reached = {
        "images_per_second": max(row["median"] for row in second),
        "ratio": max(row["ratio_median"] for row in second),
    }
    return {
        name: {"goal": goal, "reached": reached[name], "is_met": reached[name] >= goal}
        for name, goal in GOALS.items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)  # nobody here computes with torch; its pool would only disturb
    main()
