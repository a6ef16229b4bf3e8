"""Seconds that an epoch over photos takes, from files to new weights: striate, torchvision's way, timm's way.

Usage: python benchmarks/epoch.py [--photos 1000] [--size 128] [--rounds 2] [--out FILE]

ResNet-18 in batches of 40 on made photos of 500x375 in ten folders, one a class: everyone decodes, takes a
random resized crop, mirrors half of the pictures, steps and once an epoch writes weights and optimiser. Each
contender is a process, all are there from the start and take turns of one epoch; files are in the page cache
for all of them. The first epoch is told apart; the `rounds` after it make the ratios, which are torchvision's
way in float32 / contender, so above 1 is faster. About five minutes on two cores.

striate: what `striate train` does, with the files that a run writes; from the second epoch on its pictures
come from its cache. The check of the data and the steps that are timed beforehand are `seconds_before`, as
is what the others do before their first epoch.
torchvision: ImageFolder, RandomResizedCrop, a DataLoader with two workers and the plain loop, as its
references have it. timm: its dataset, loader with two workers, SGD and label smoothing, without the change
of colours that it makes by default.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pipeline import make_photos
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from striate.api import prepare
from striate.config import Layer
from striate.structures import Preprocess
from striate.training.events import StepEvent
from training import (
    AS_CHOSEN,
    OURS,
    RATE,
    SMOOTHING,
    Field,
    Turns,
    facts_of,
    laid_out,
    lead,
    machine,
    memory_format,
    serve,
    spread,
    this_script,
)

CLASSES, WORKERS = 10, 2
BATCH = 40  # 1000 photos are 25 whole ones: timm leaves out what is left over
SCALE = (0.08, 1.0)  # torchvision's default
BASE = "torchvision fp32"
LEAST_LEAD = 1.0  # of striate over each peer of its precision, from the second epoch on


@dataclass(frozen=True)
class Task:
    """What each contender gets."""

    photos: Path  # a folder for each class
    size: int
    epochs: int


def main() -> None:
    """Measure and write; with --contender, be one process of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1000, help="how many are made")
    parser.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    parser.add_argument("--rounds", type=int, default=2, help="epochs of each contender after the first")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "epoch.json")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    epochs = 1 + options.rounds
    if options.contender:
        serve(partial(CONTENDERS[options.contender], Task(options.folder, options.size, epochs)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        task = Task(photos_in_classes(Path(scratch) / "photos", options.photos), options.size, epochs)
        before = os.getloadavg()[0]
        contenders, not_run = measure(task)
    result = {
        "what": __doc__.splitlines()[0],
        "machine": machine(),
        "load_average_before": before,
        "load_average_after": os.getloadavg()[0],  # this benchmark's own work is in it
        "photos": options.photos,
        "task": {**asdict(task), "photos": "made", "batch": BATCH},
        "contenders": contenders,
        "not_run": not_run,
        "goals": judged(contenders),
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def photos_in_classes(folder: Path, count: int) -> Path:
    """A folder of made photos, `count` in CLASSES folders."""
    for number, photo in enumerate(sorted(make_photos(folder, count).iterdir())):
        home = folder / f"class{number % CLASSES}"
        home.mkdir(exist_ok=True)
        photo.rename(home / photo.name)
    return folder


def measure(task: Task) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """A row for each contender, and why some have none."""
    place = ["--size", str(task.size), "--rounds", str(task.epochs - 1), "--folder", str(task.photos)]
    field = Field(
        {name: this_script(__file__, name, place) for name in CONTENDERS}, needed=(BASE, OURS, AS_CHOSEN)
    )
    try:
        rounds = [field.round(backwards=bool(number % 2)) for number in range(task.epochs)]
        facts = field.facts()
    finally:
        field.end()
    rows = {name: row_of(name, found["precision"], rounds) | found for name, found in facts.items()}
    for name, row in rows.items():
        print(
            f"{name:28}{row['first']:7.1f} s, then {row['seconds']:7.1f} s   x {row['ratio']:.2f}", flush=True
        )
    return rows, field.not_run


def row_of(name: str, precision: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Seconds of the first epoch and of those after it, beside the base's and striate's."""
    later = rounds[1:]
    found = {
        "first": round(rounds[0][name], 2),
        "first_ratio": round(rounds[0][BASE] / rounds[0][name], 3),
        **spread("seconds", [row[name] for row in later], 2),
        **spread("ratio", [row[BASE] / row[name] for row in later], 3),
    }
    return found | lead(name, precision, later)


def judged(rows: dict[str, dict[str, Any]]) -> dict[str, float | bool]:
    """The goal beside what was reached."""
    least = min(row["lead"] for row in rows.values() if "lead" in row)
    return {"least lead over a peer": LEAST_LEAD, "reached": least, "is_met": least >= LEAST_LEAD}


def striate_turns(task: Task, precision: str = "auto") -> Turns:
    """`striate train`. A turn writes the files of the epoch before it; the first one those of the start."""
    scratch = Path(tempfile.mkdtemp())
    os.environ["STRIATE_CACHE"] = str(scratch / "cache")
    settings = {
        "data": {"split": {"val_fraction": 0.0, "test_fraction": 0.0}},
        "network": {"preprocess": {"size": task.size}},
        "augment": {"flip": 0.5, "scale": list(SCALE)},
        "training": {"epochs": task.epochs + 1, "batch_size": BATCH, "precision": precision, **RATE},
    }
    started = time.perf_counter()
    layers = [Layer("benchmark", settings)]
    plan = prepare(str(task.photos), "resnet18", out=scratch / "run", layers=layers)
    facts = {
        "layout": plan.setup.layout,
        "precision": "bf16" if "bf16" in plan.where else "fp32",
        "device": plan.where,
        "seconds_before": round(time.perf_counter() - started, 2),
    }
    steps = (event for event in plan.events() if isinstance(event, StepEvent))
    return facts, timed(lambda: next(step for step in steps if step.step == step.epoch * step.steps_in_epoch))


def torchvision_turns(task: Task, precision: str = "fp32") -> Turns:
    """Torchvision's references by hand."""
    started = time.perf_counter()
    spec = Preprocess()
    changes = [
        v2.RandomResizedCrop(task.size, SCALE),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(spec.mean, spec.std),
    ]
    loader = DataLoader(
        ImageFolder(str(task.photos), v2.Compose(changes)), BATCH, shuffle=True, num_workers=WORKERS
    )
    model = resnet18(num_classes=CLASSES).train()
    optimiser = torch.optim.SGD(
        model.parameters(), RATE["learning_rate"], RATE["momentum"], weight_decay=RATE["weight_decay"]
    )
    epoch = Epoch(loader, model, optimiser, nn.CrossEntropyLoss(), "contiguous", precision)
    before = {"seconds_before": round(time.perf_counter() - started, 2)}
    return facts_of("contiguous", precision) | before, timed(epoch.run)


def timm_turns(task: Task, precision: str = "fp32") -> Turns:
    """Timm's training script by hand, with --channels-last."""
    timm, data, losses, optimisers = map(import_module, ("timm", "timm.data", "timm.loss", "timm.optim"))
    started = time.perf_counter()
    photos = data.create_dataset("", root=str(task.photos), split="train", is_training=True)
    loader = data.create_loader(
        photos,
        (3, task.size, task.size),
        BATCH,
        is_training=True,
        scale=SCALE,
        color_jitter=None,
        num_workers=WORKERS,
        device=torch.device("cpu"),
    )
    model = laid_out(timm.create_model("resnet18", num_classes=CLASSES), "channels_last")
    optimiser = optimisers.create_optimizer_v2(
        model, "sgd", RATE["learning_rate"], RATE["weight_decay"], RATE["momentum"]
    )
    criterion = losses.LabelSmoothingCrossEntropy(SMOOTHING)
    epoch = Epoch(loader, model, optimiser, criterion, "channels_last", precision)
    before = {"seconds_before": round(time.perf_counter() - started, 2)}
    return facts_of("channels_last", precision) | before, timed(epoch.run)


@dataclass
class Epoch:
    """A pass over a loader with a plain loop, and the file at its end."""

    loader: Iterable[tuple[Tensor, Tensor]]
    model: nn.Module
    optimiser: torch.optim.Optimizer
    criterion: nn.Module
    layout: str
    precision: str

    def run(self) -> None:
        """Train on every picture that the loader gives, and write weights and optimiser."""
        for images, labels in self.loader:
            placed = images.contiguous(memory_format=memory_format(self.layout))
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                loss = self.criterion(self.model(placed), labels)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss.item()
        with tempfile.TemporaryFile() as file:
            torch.save({"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}, file)


def timed(run: Callable[[], object]) -> Iterator[float]:
    """Seconds that `run` takes in each turn."""
    while True:
        started = time.perf_counter()
        run()
        yield time.perf_counter() - started


CONTENDERS: dict[str, Callable[[Task], Turns]] = {
    AS_CHOSEN: striate_turns,
    OURS: partial(striate_turns, precision="fp32"),
    BASE: torchvision_turns,
    "torchvision bf16": partial(torchvision_turns, precision="bf16"),
    "timm fp32 channels_last": timm_turns,
    "timm bf16 channels_last": partial(timm_turns, precision="bf16"),
}


if __name__ == "__main__":
    main()
