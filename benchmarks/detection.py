"""Every line of detectors trained for as long, beside torchvision's in the same trainer.

Usage: python benchmarks/detection.py BCCD [--minutes 20] [--networks NAME ...] [--init MOBILENET] [--again]
       [--out benchmarks/results/detection.json] [--page docs/boxes.md]
   or: python benchmarks/detection.py --page-only

BCCD is any data with boxes and a test part. Each row is `striate.train(BCCD, model=NAME, epochs=...)`, seed
0, with the recipe of the network's family and as many epochs as fill the minutes by the plan's own estimate;
measuring comes on top. Its scores are those of the test part. A network of torchvision is trained by the same
trainer with the recipe, the size and the batches of ours beside it; its last weights are measured, of ours
those that were best on the val part. With --init, a model file of a MobileNet v2, the networks built on one
begin with it. Networks of the papers' size are too slow for two cores: theirs is a smaller backbone.

Every row is written as soon as it is there, and a second run goes on behind them; --again does them anew.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from rows import add_row, known, page_options, parsed
from tables import measured_on, table
from torchvision_detectors import MAKERS, TorchvisionDetector

import striate
from striate import api
from striate.config import Layer
from striate.data.batches import Caches
from striate.data.batches.detection import for_measuring
from striate.data.cache import CacheConfig
from striate.data.loader import EvalLoader
from striate.models import card_of
from striate.training.evaluate import Place, evaluate
from striate.training.fit import Start, fit
from striate.training.interruption import Stop

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A network to train."""

    network: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the run, beside the recipe
    beside: str | None = None  # ours whose recipe and batches it takes; None: it is ours
    takes_weights: bool = False  # whether it is built on the MobileNet of --init


ENTRIES = (
    Entry("rcnn_mobilenet_v2", takes_weights=True),
    Entry("fast_rcnn_mobilenet_v2", takes_weights=True),
    Entry("faster_rcnn_mobilenet_v2_fpn", takes_weights=True),
    Entry("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", beside="faster_rcnn_mobilenet_v2_fpn"),
    Entry("fast_yolo"),
    Entry("yolo_v2_mobilenet_v2", takes_weights=True),
    Entry("tiny_yolo_v3"),
    Entry("yolox_nano"),
    Entry("ssdlite320_mobilenet_v2", takes_weights=True),
    Entry("ssdlite320_mobilenet_v3"),
    Entry("torchvision:ssdlite320_mobilenet_v3_large", beside="ssdlite320_mobilenet_v3"),
)


def main() -> None:
    """Train and write."""
    options = arguments()
    found = known(options, __doc__, minutes=options.minutes)
    if not options.page_only:
        for entry in ENTRIES:
            if options.networks is None or entry.network in options.networks:
                train_row(found, entry, options)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(page(found))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", help="what `striate train` takes")
    parser.add_argument("--minutes", type=float, default=20, help="of training, for each")
    parser.add_argument("--init", type=Path, help="model file or folder of a mobilenet_v2")
    names = [entry.network for entry in ENTRIES]
    parser.add_argument("--networks", nargs="+", choices=names, metavar="NAME")
    page_options(parser, "detection", "boxes.md")
    return parsed(parser, "BCCD: what to train on")


def train_row(found: dict[str, Any], entry: Entry, options: argparse.Namespace) -> None:
    """Train one network and add its row to `found` and to the file; nothing where it has one."""
    if row := add_row(found, {"network": entry.network}, partial(trained, entry, options), options):
        print("  ".join(cells(row)), flush=True)


def trained(entry: Entry, options: argparse.Namespace) -> Row:
    """What came of one network."""
    weights = options.init if entry.takes_weights else None
    with tempfile.TemporaryDirectory() as folder:
        prepared = partial(plan_of, entry, options.data, Path(folder), weights)
        epochs = max(2, round(60 * options.minutes / prepared(1).seconds_per_epoch))
        plan = prepared(epochs)
        started = time.perf_counter()
        if entry.beside is None:
            for _ in plan.events():
                pass
            seconds = time.perf_counter() - started
            metrics = plan.finish().metrics
        else:
            theirs = TorchvisionDetector(plan.network.config, MAKERS[entry.network])
            plan.network = theirs
            run = fit(theirs, plan.task, plan.loaders, plan.config.training, plan.folder, card(plan), START)
            for _ in run:
                pass
            seconds = time.perf_counter() - started
            metrics = measured(plan)
        cost = None if entry.beside else striate.summary(plan.network)
    return {
        "input": list(plan.network.preprocess.size),
        "weights": None if weights is None else "ImageNet",
        "epochs": epochs,
        **{name: round(metrics[name], 4) for name in ("ap50", "ap", "ap75", "ar100", "voc07_ap50")},
        "parameters": sum(parameter.numel() for parameter in plan.network.parameters()),
        "macs": None if cost is None else cost.macs,
        "seconds": round(seconds),
        "device": plan.where,
    }


START = Start()


def plan_of(entry: Entry, data: str, folder: Path, weights: Path | None, epochs: int) -> Any:
    """The plan of a run of `entry`, of `epochs` epochs, each few of which are measured."""
    training = {"epochs": epochs, "eval_every": max(1, epochs // 5), "seed": 0}
    layers = [
        Layer("benchmark", {"training": training}),
        Layer("benchmark", entry.settings),
        *([] if weights is None else [Layer("--init", {"init": {"weights": str(weights)}})]),
    ]
    return api.prepare(data, entry.beside or entry.network, out=folder / f"{epochs}", layers=layers)


def card(plan: Any) -> Any:
    """A card for files that nobody reads."""
    ours = striate.create(plan.config.model, plan.dataset.classes)
    return card_of(ours)


def measured(plan: Any) -> dict[str, float]:
    """The scores of the network of `plan`, as it is, on the test part."""
    indices = plan.dataset.indices("test")
    source = for_measuring(plan.dataset, indices, plan.network.preprocess, Caches(CacheConfig().budget()))
    targets = partial(plan.task.targets, options=plan.task.TargetOptions(len(plan.dataset.classes)))
    loader = EvalLoader(source, indices, targets, 8, 2)
    found = evaluate(
        plan.network, plan.task, loader, Place(torch.device("cpu"), "contiguous"), Stop(), "test"
    )
    assert found is not None
    return found.metrics


HEAD = ("network", "input", "epochs", "AP50", "AP", "AR100", "VOC07", "parameters", "MMACs", "minutes")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    return (
        row["network"] + (f", {row['weights']} weights" if row["weights"] else ""),
        "x".join(map(str, row["input"])),
        str(row["epochs"]),
        *(f"{100 * row[name]:.1f} %" for name in ("ap50", "ap", "ar100", "voc07_ap50")),
        f"{row['parameters']:,}",
        "–" if row["macs"] is None else f"{row['macs'] / 1e6:,.0f}",
        f"{row['seconds'] / 60:.0f}",
    )


def page(found: Mapping[str, Any]) -> str:
    """The page about the detectors, every figure from the JSON file."""
    settings, order = found["settings"], [entry.network for entry in ENTRIES]
    rows = sorted(found["rows"], key=lambda row: order.index(row["network"]))
    lines = [
        "# Networks for boxes compared",
        "",
        "Written by `benchmarks/detection.py`; do not edit. How each figure is measured is told there.",
        "",
        f"Every line of detectors on {settings['data']}, each with its family's recipe and as many epochs as "
        f"{settings['minutes']:g} minutes hold, one seed; scores of the test part. So short a time "
        "favours small networks and those that begin with something: it does not tell how good one gets. The "
        "last column is what the clock said, and a machine that had other work needed longer than planned.",
        "",
        *table(HEAD, [cells(row) for row in rows]),
        "",
        *measured_on(found, itemgetter("network")),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
