"""How well a network does that trains on the picture cache, against one that trains on the whole photos.

Usage: python benchmarks/cache_accuracy.py PHOTOS [--network resnet18] [--weights FILE] [--size 96]
       [--epochs 12] [--rate 0.05] [--seeds 3] [--out benchmarks/results/cache_accuracy.json]

PHOTOS is a folder that states its parts: train, and validation or test or both; pictures of the last two are
what accuracy is measured on. The two ways take turns with one seed after the other: equal weights to begin
with, equal order, equal random resized crops and mirroring. With FILE, the weights of a trained network
(PyTorch, or all but its last layer, tensor by tensor in the order of the network's own) they are fine-tuned,
by which the accuracies of seeds are closer together.

cached: as `striate train` does it. A photo is shrunk to a shorter side of twice the input's, by torch's
filter where the processor allows, and the cuts are taken from that.
uncached: cuts are taken from the whole photo by preprocessing's own filter, which is Pillow's. The photos are
kept in memory all the same, for that changes no pixel and saves the time to decode them in every epoch.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch
from startup import machine

from striate import models
from striate.data.augment import AugmentConfig
from striate.data.cache import Budget, CacheConfig, Pictures
from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset
from striate.data.preprocess import apply
from striate.models.convert import convert_state_dict
from striate.models.network import Network
from striate.structures import Preprocess
from striate.tasks import classification
from striate.training.config import TrainingConfig
from striate.training.events import EvalEvent
from striate.training.fit import fit
from striate.training.loaders import Loaders, make_loaders

AUGMENT = AugmentConfig(scale=(0.08, 1.0), flip=0.5)  # torchvision's default cuts
BATCH = 32
GOAL = 0.5  # points that the cache may cost


def main() -> None:
    """Train and write."""
    options = arguments()
    dataset = measured_on_what_is_left(open_dataset(DataConfig(str(options.photos))))
    rows = []
    for seed in range(options.seeds):
        row: dict[str, float] = {"seed": seed}
        for way in ("cached", "uncached"):
            row |= trained(options, dataset, seed, way)
        rows.append(row)
        print(json.dumps(row), flush=True)
    names = ("striate", "torch", "pillow")
    result = {
        "what": __doc__.splitlines()[0],
        "machine": machine() | {"versions": {name: version(name) for name in names}},
        "load_average": os.getloadavg(),
        "photos": {
            "source": options.photos.name,
            "train": len(dataset.indices("train")),
            "measured": len(dataset.indices("val")),
            "classes": len(dataset.classes),
        },
        "settings": {name: getattr(options, name) for name in ("network", "size", "epochs", "rate")}
        | {"batch": BATCH, "begins_with": options.weights.name if options.weights else "random weights"},
        "runs": rows,
        "accuracy": {way: described([row[way] for row in rows]) for way in ("cached", "uncached")},
        "cached_minus_uncached": compared(rows),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("accuracy", "cached_minus_uncached")}, indent=1))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "cache_accuracy.json")
    return parser.parse_args()


def measured_on_what_is_left(dataset: Dataset) -> Dataset:
    """`dataset` with all that is not for training in its val part."""
    items = (item if item.part == "train" else replace(item, part="val") for item in dataset.items)
    return replace(dataset, items=tuple(items))


def trained(options: argparse.Namespace, dataset: Dataset, seed: int, way: str) -> dict[str, float]:
    """Percent of the measured pictures that a network trained in that way gets right, and its seconds."""
    config = TrainingConfig(
        epochs=options.epochs,
        batch_size=BATCH,
        learning_rate=options.rate,
        seed=seed,
        eval_every=options.epochs,
        checkpoint_minutes=60.0,
        layout="channels_last",  # not timed, so that both ways have the same
    )
    network = begun(options, dataset, seed)
    data = loaders(dataset, network.preprocess, config, way)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, filter_of(way):
        events = list(fit(network, classification, data, config, Path(folder), models.card_of(network)))
    (measured,) = (event for event in events if isinstance(event, EvalEvent))
    return {
        way: round(100 * measured.metrics[classification.SCORE], 3),
        f"{way}_seconds": round(time.perf_counter() - started, 1),
    }


def begun(options: argparse.Namespace, dataset: Dataset, seed: int) -> Network:
    """The network before training, the same for both ways."""
    torch.manual_seed(seed)
    size = {"size": (options.size, options.size), "resize_to": None}
    network = models.create(options.network, dataset.classes, preprocess=size)
    if options.weights:
        weights = torch.load(options.weights, weights_only=True)
        count = len(dataset.classes)
        network.load_state_dict(convert_state_dict(weights, options.network, classes=count, match="order"))
    return network


def loaders(dataset: Dataset, spec: Preprocess, config: TrainingConfig, way: str) -> Loaders:
    """Those of `striate train`; without the cache, cuts are taken from whole photos."""
    made = make_loaders(dataset, spec, config, AUGMENT, CacheConfig(mode="memory"))
    if way == "cached":
        return made
    whole = Pictures(dataset, partial(apply, replace(spec, fit="none", resize_to=None)), Budget())
    return replace(made, train=replace(made.train, source=replace(made.train.source, pictures=whole)))


def filter_of(way: str) -> AbstractContextManager[object]:
    """Meanwhile cuts are resized by preprocessing's own filter if the way is uncached."""
    return (
        nullcontext() if way == "cached" else mock.patch("striate.data.resample.resampler", return_value=None)
    )


def described(accuracies: Sequence[float]) -> dict[str, float]:
    """Mean and spread, in percent."""
    return {
        "mean": round(statistics.fmean(accuracies), 3),
        "min": min(accuracies),
        "max": max(accuracies),
        "standard_deviation": round(spread(accuracies), 3),
    }


def compared(rows: Sequence[dict[str, float]]) -> dict[str, float | bool]:
    """The difference of the means in points, and how sure it is: what chance alone gives."""
    differences = [row["cached"] - row["uncached"] for row in rows]
    mean = statistics.fmean(differences)
    return {
        "points": round(mean, 3),
        "standard_error": round(spread(differences) / len(differences) ** 0.5, 3),
        "goal": -GOAL,
        "is_met": mean >= -GOAL,
    }


def spread(values: Sequence[float]) -> float:
    """The standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
