"""In how many steps every network, at its full size, learns a few real pictures by heart.

Usage: python benchmarks/overfit.py PICTURES [--networks NAME ...] [--size 32] [--classes 4] [--each 3]
       [--steps 200] [--goal 0.1] [--most-gmacs 4.5] [--again] [--out benchmarks/results/overfit.json]

PICTURES is what `striate train` takes. The first --each training pictures of the first --classes classes are
one batch, prepared as the network's settings say and not varied; a network has an output for every class of
PICTURES. It starts from its own weights, drawn with seed 0, and takes the steps that `striate train` takes:
memory layout and precision as chosen there, AdamW with a constant rate and no weight decay, dropout as it
is. It stops at the first step whose loss is at most --goal times that of the first step.

All networks have the same two rates, RATES; they differ in which one comes first: the smaller one without
batch norm, for a deep network without it dies at the greater one. The second is tried, anew, only where the
first leaves the loss above the goal after --steps; the row lists both.

A network of more than --most-gmacs billion multiply-adds a picture is listed as not run where there is no
accelerator, with the seconds that a step of it would need, told from the largest one that did run. The
smallest go first. Every row is written as soon as it is there, and a second run goes on behind them;
--again does them anew. --size makes all networks that small, to try the script out.
About 6 minutes on one core.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rows import stored
from startup import machine
from torch import Tensor, nn

from striate import models
from striate.data.augment import AugmentConfig
from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset
from striate.explain.summary import summarise
from striate.models.network import Network
from striate.models.unweighted import unweighted
from striate.ops.device import choose_device
from striate.structures import Batch
from striate.training.config import TrainingConfig
from striate.training.device import choose_precision, choose_threads, describe, threads
from striate.training.estimate import Setup, try_steps
from striate.training.loaders import make_loaders
from striate.training.trial import trying

RATES = (1e-3, 1e-4)
NOT_RUN = "not_run"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Size:
    """What a network costs."""

    name: str
    input: tuple[int, int, int]
    parameters: int
    macs: int  # of one picture


@dataclass(frozen=True)
class Attempt:
    """A network trained from its first weights at one rate."""

    rate: float
    steps: int  # taken; the loss of the last is `last_loss`
    first_loss: float
    last_loss: float
    reached: bool
    seconds: float


def main() -> None:
    """Train and write."""
    options = arguments()
    dataset = chosen(open_dataset(DataConfig(options.pictures)), options.classes, options.each)
    settings = {
        "pictures": len(dataset),
        "source": Path(options.pictures).name,
        "classes_shown": options.classes,
        "outputs": len(dataset.classes),
        **{name: getattr(options, name) for name in ("steps", "goal", "size")},
        "optimiser": "adamw, constant rate, no weight decay",
        "rates": RATES,
    }
    found = stored(options.out, settings, options.again) or {"rows": {}}
    rows: dict[str, dict[str, Any]] = found["rows"]
    for size in sorted(sizes(options, dataset), key=lambda size: size.macs):
        is_known = size.name in rows and NOT_RUN not in rows[size.name]
        if is_known and not options.again:
            continue
        rows[size.name] = row = {**asdict(size), **trained_or_listed(options, dataset, size, rows)}
        del row["name"]
        write(options.out, settings, rows)
        print(f"{size.name:24}{told(row)}", flush=True)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pictures", help="what `striate train` takes")
    parser.add_argument("--networks", nargs="+", choices=classifiers(), metavar="NAME")
    parser.add_argument("--size", type=int, help="side of every input; each its own if left out")
    parser.add_argument("--classes", type=int, default=4, help="that the batch has")
    parser.add_argument("--each", type=int, default=3, help="pictures of each class")
    parser.add_argument("--steps", type=int, default=200, help="at most, at each rate")
    parser.add_argument("--goal", type=float, default=0.1, help="share of the first loss to come down to")
    parser.add_argument("--most-gmacs", type=float, default=4.5, help="a picture, where there is no GPU")
    parser.add_argument("--again", action="store_true", help="also what is in the file already")
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "overfit.json")
    return parser.parse_args()


def chosen(dataset: Dataset, classes: int, each: int) -> Dataset:
    """The first `each` training pictures of the first `classes` classes of `dataset`."""
    found: Counter[int | None] = Counter()
    items = []
    for item in dataset.items:
        label = item.label
        if item.part in ("train", "") and label in range(classes) and found[label] < each:
            found[label] += 1
            items.append(replace(item, part="train"))
    if len(items) < classes * each:
        raise SystemExit(
            f"{dataset.name}: there are not {each} training pictures of each of {classes} classes"
        )
    return replace(dataset, items=tuple(items))


def classifiers() -> list[str]:
    """The networks that this is about."""
    return [name for name in models.variants() if models.task_of(name) == "classification"]


def sizes(options: argparse.Namespace, dataset: Dataset) -> Iterator[Size]:
    """Every network that is asked for, no weight allocated."""
    for name in options.networks or classifiers():
        with unweighted():
            network = made(options, dataset, name)
        spec = network.preprocess
        shape = (spec.channels, *spec.size)
        found = summarise(network, shape)
        yield Size(name, shape, found.parameters, found.macs)


def made(options: argparse.Namespace, dataset: Dataset, name: str) -> Network:
    """The network `name` with the starting weights of seed 0."""
    torch.manual_seed(0)
    side = options.size
    small = {"size": (side, side), "fit": "stretch", "resize_to": None, "border": 0}
    changes = {} if side is None else {"preprocess": small}
    return models.create(name, dataset.classes, **changes)


def trained_or_listed(
    options: argparse.Namespace, dataset: Dataset, size: Size, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What became of one network, or why nothing did."""
    on_cpu = choose_device("auto").type == "cpu"
    if on_cpu and size.macs > 1e9 * options.most_gmacs:
        return {NOT_RUN: f"{size.macs / 1e9:.1f} GMACs a picture{needed(size, rows)}"}
    network = made(options, dataset, size.name)
    start_from = getattr(models.family_of(size.name), "start_from", None)
    loaders = make_loaders(dataset, network.preprocess, settings_of(len(dataset)), AugmentConfig())
    (batch,) = loaders.train.epoch(0)
    if start_from is not None:
        start_from(network, batch.images)
    setup = try_steps(network, loaders.train, settings_of(len(dataset)))
    attempts: list[Attempt] = []
    for rate in rates_for(network):
        attempts.append(attempt(options, network, batch, setup, rate))
        if attempts[-1].reached:
            break
    return {
        "device": where(network, len(batch)),
        "layout": setup.layout,
        **asdict(attempts[-1]),
        "attempts": [asdict(one) for one in attempts],
    }


def needed(size: Size, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """How long a step of `size` would take, told from the largest that ran on a CPU; empty without one."""
    ran = [row for row in rows.values() if NOT_RUN not in row and "CPU" in row["device"]]
    if not ran:
        return ""
    largest = max(ran, key=lambda row: row["macs"])
    seconds = largest["seconds"] / largest["steps"] * size.macs / largest["macs"]
    return f", about {seconds:.1f} s a step here"


def settings_of(pictures: int, rate: float = RATES[0], setup: Setup | None = None) -> TrainingConfig:
    """Training on all `pictures` at once, in the layout and the parts of `setup`."""
    return TrainingConfig(
        batch_size=pictures,
        optimiser="adamw",
        learning_rate=rate,
        weight_decay=0.0,
        schedule="constant",
        layout="auto" if setup is None else setup.layout,
        accumulate=1 if setup is None else setup.parts,
    )


def rates_for(network: nn.Module) -> tuple[float, ...]:
    """RATES in the order to try them in."""
    has_norm = any(isinstance(module, _NORMS) for module in network.modules())
    return RATES if has_norm else RATES[::-1]


def attempt(
    options: argparse.Namespace, network: Network, batch: Batch[Tensor], setup: Setup, rate: float
) -> Attempt:
    """A copy of `network` trained on `batch` until the goal is reached, or for --steps."""
    config = settings_of(len(batch), rate, setup)
    losses: list[float] = []
    with trying(network, config) as trial, threads(choose_threads(config.threads, network, len(batch))):
        started = time.perf_counter()
        for _ in range(options.steps):
            losses.append(trial.step(batch, rate))
            if losses[-1] <= options.goal * losses[0]:
                break
        seconds = time.perf_counter() - started
    return Attempt(
        rate=rate,
        steps=len(losses),
        first_loss=round(losses[0], 5),
        last_loss=round(losses[-1], 5),
        reached=losses[-1] <= options.goal * losses[0],
        seconds=round(seconds, 2),
    )


def where(network: Network, pictures: int) -> str:
    """On what a step was computed."""
    device = choose_device("auto")
    return describe(device, choose_precision("auto", device), choose_threads(None, network, pictures))


def write(path: Path, settings: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> None:
    """All that is known so far."""
    names = ("striate", "torch", "numpy", "pillow")
    ran = [row for row in rows.values() if NOT_RUN not in row]
    result = {
        "what": __doc__.partition("\n")[0],
        "machine": machine() | {"versions": {name: version(name) for name in names}},
        "load_average": os.getloadavg(),
        "settings": settings,
        "reached": f"{sum(row['reached'] for row in ran)} of {len(ran)} that ran, {len(rows)} in all",
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def told(row: Mapping[str, Any]) -> str:
    """A row for the terminal."""
    if NOT_RUN in row:
        return f"not run: {row[NOT_RUN]}"
    end = "reached" if row["reached"] else "NOT reached"
    return (
        f"{row['steps']:4} steps at {row['rate']:g}: loss {row['first_loss']:.3f} -> {row['last_loss']:.3f}, "
        f"{end}, {row['seconds']:.1f} s"
    )


if __name__ == "__main__":
    main()
