"""A training run from data to measured model: the plan, the events, the outcome."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from striate import plugins, tasks
from striate.api.checking import described_pictures
from striate.api.evaluation import evaluate_indices
from striate.api.runfiles import CONFIG_FILE, EVENTS_FILE, METRICS_FILE, write_split, write_text
from striate.api.settings import RunConfig, data_settings, run_settings
from striate.config import Layer, Resolved, Settings, to_toml
from striate.data.check import CheckReport, check
from striate.data.dataset import PARTS, Dataset, Part
from striate.data.open import open_dataset
from striate.data.split import complete
from striate.errors import DataError, UsageError
from striate.modelfile import MODEL_FILE
from striate.runtime.predictor import Predictor, load
from striate.tasks.classification import Scores

if TYPE_CHECKING:
    from striate.models.network import Network
    from striate.training.events import Event
    from striate.training.loaders import Loaders

__all__ = ["Progress", "Run", "TrainingPlan", "prepare", "settle"]

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are."""

_SMALL = 96  # pixels; pictures up to this side train a small network where none is named


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, and how its best model does on pictures it never saw."""

    folder: Path
    scores: Scores  # of the test part; of the validation part where the data leaves no test part
    part: str  # which of them
    seconds: float  # of training, wall clock

    @property
    def model(self) -> Predictor:
        """Its best model: `run.model.predict("cat.jpg")`."""
        return load(self.folder)

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by name, fractions 0..1."""
        return dict(self.scores.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `train --json` and the run's metrics.json."""
        return {
            "folder": str(self.folder),
            "part": self.part,
            "seconds": round(self.seconds, 3),
            **self.scores.to_dict(),
        }


@dataclass(slots=True)
class TrainingPlan:
    """Everything about a run before its first step; `events` carries it out."""

    resolved: Resolved[RunConfig]
    dataset: Dataset  # usable pictures only, each with its part
    report: CheckReport  # of the data as it was found
    network: "Network"
    loaders: "Loaders"
    task: ModuleType
    folder: Path
    seconds_per_epoch: float  # estimated from timed steps
    where: str  # "2 CPU cores, bf16 (AMX)"
    seconds: float = field(default=0.0, init=False)

    @property
    def config(self) -> RunConfig:
        """The settings without their origins."""
        return self.resolved.value

    @property
    def counts(self) -> dict[str, int]:
        """Pictures in each part."""
        found = Counter(item.part for item in self.dataset.items)
        return {part: found[part] for part in PARTS}

    def describe(self) -> Iterator[tuple[str, list[str]]]:
        """Headings with their lines: the plan for people."""
        config, dataset, training = self.config, self.dataset, self.config.training
        parts = "   ".join(f"{part} {count:,}" for part, count in self.counts.items())
        yield (
            "data",
            [
                f"{dataset.name}: {len(dataset):,} pictures {described_pictures(self.report.facts)}, "
                f"{len(dataset.classes)} classes",
                parts,
                *dataset.notes,
            ],
        )
        spec = self.network.preprocess
        weights = sum(weight.numel() for weight in self.network.parameters() if weight.requires_grad)
        channels = "gray" if spec.channels == 1 else spec.color
        mean, std = (" ".join(f"{value:.3g}" for value in values) for values in (spec.mean, spec.std))
        yield (
            "model",
            [
                f"{config.model}: {weights:,} weights",
                f"input {spec.size[0]}x{spec.size[1]} {channels} ({spec.fit})   mean {mean}   std {std}",
            ],
        )
        changes = ", ".join(f"{name} {value}" for name, value in _active(config.augment)) or "none"
        yield (
            "training",
            [
                f"{training.epochs} epochs of {len(self.loaders.train)} steps, batch {training.batch_size}, "
                f"{training.optimiser}, learning rate {training.peak_rate:g} {training.schedule}",
                f"augmentation: {changes}",
            ],
        )
        yield "device", [f"{self.where}, about {_spoken(self.seconds_per_epoch)} an epoch"]
        yield "files", [f"{self.folder}/"]

    def events(self) -> "Iterator[Event]":
        """Train, telling what happens; each event is also a line of the run's events.jsonl."""
        from striate.models import card_of
        from striate.training.fit import fit

        write_text(self.folder / CONFIG_FILE, to_toml(self.resolved))
        write_split(self.folder, self.dataset)
        data = {
            "source": self.config.data.source,
            "fingerprint": self.report.facts.fingerprint,
            "pictures": self.counts,
        }
        card, started = card_of(self.network, data), time.monotonic()
        with (self.folder / EVENTS_FILE).open("a", encoding="utf-8") as log:
            for event in fit(self.network, self.task, self.loaders, self.config.training, self.folder, card):
                log.write(json.dumps({"time": round(time.time(), 3), **event.to_dict()}) + "\n")
                log.flush()
                yield event
        self.seconds = time.monotonic() - started

    def finish(self) -> Run:
        """Measure the best model on the test part and write the scores beside it."""
        order: tuple[Part, ...] = ("test", "val", "train")
        part = next(part for part in order if self.counts[part])
        predictor = load(self.folder, self.config.training.device)
        found = evaluate_indices(predictor, self.dataset, self.dataset.indices(part))
        run = Run(self.folder, found.scores, part, self.seconds)
        write_text(self.folder / METRICS_FILE, json.dumps(run.to_dict(), indent=1) + "\n")
        return run


def prepare(
    source: str,
    model: str | None = None,
    *,
    out: str | Path | None = None,
    layers: Sequence[Layer] = (),
    progress: Progress | None = None,
) -> TrainingPlan:
    """The plan of a run: data looked over and split, settings resolved, network built, steps timed.

    Raises a StriateError naming what is in the way; nothing is written but an empty run folder.
    """
    import torch

    from striate import models
    from striate.ops.device import choose_device
    from striate.training.device import choose_precision, choose_threads, describe
    from striate.training.estimate import seconds_per_step
    from striate.training.loaders import make_loaders

    resolved, dataset, report = settle(source, model, layers, progress)
    config = resolved.value
    task = plugins.load(tasks, dataset.task)
    torch.manual_seed(config.training.seed)
    settings = {
        name: value for name, value in msgspec.to_builtins(config.network).items() if name != "classes"
    }
    network = models.create(config.model, dataset.classes, **settings)
    loaders = make_loaders(dataset, network.preprocess, task, config.training, config.augment)
    seconds = seconds_per_step(network, loaders.train, config.training) * len(loaders.train)
    device = choose_device(config.training.device)
    threads = choose_threads(config.training.threads, network, config.training.batch_size)
    where = describe(device, choose_precision(config.training.precision, device), threads)
    folder = _run_folder(out, config)
    return TrainingPlan(resolved, dataset, report, network, loaders, task, folder, seconds, where)


def settle(
    source: str, model: str | None, layers: Sequence[Layer], progress: Progress | None = None
) -> tuple[Resolved[RunConfig], Dataset, CheckReport]:
    """The settings of a run, its usable pictures with their parts, and what the check found."""
    data = data_settings(source, layers).value
    found = open_dataset(data)
    report = check(found, progress=progress)
    usable = report.usable
    dataset = complete(found.only(usable), data.split, report.groups[usable])
    _refuse_untrainable(dataset)
    name = model or _asked_model(layers) or _default_model(report)
    resolved = run_settings(name, source, dataset.classes, report.facts, layers)
    return resolved, dataset, report


def _refuse_untrainable(dataset: Dataset) -> None:
    counts = Counter(item.label for item in dataset.items if item.part == "train")
    if len(counts) < 2:
        raise DataError(
            dataset.name,
            f"there are training pictures of {len(counts)} class{'es' * (len(counts) != 1)}",
            "give pictures of at least two classes; `striate check` says what was found",
        )


def _asked_model(layers: Sequence[Layer]) -> str | None:
    names = [layer.values["model"] for layer in layers if "model" in layer.values]
    return names[-1] if names else None


def _default_model(report: CheckReport) -> str:
    facts = report.facts
    return "simple_cnn" if max(facts.heights[1], facts.widths[1]) <= _SMALL else "resnet18"


def _run_folder(out: str | Path | None, config: RunConfig) -> Path:
    """The folder asked for, else the first free one of runs/NETWORK-DATA, -2, -3, ...; made if need be."""
    if out is not None:
        folder = Path(out)
        if (folder / MODEL_FILE).exists() or (folder / CONFIG_FILE).exists():
            raise UsageError(
                f"--out {out}", "there is a run in that folder already", "choose another, or delete it"
            )
    else:
        stem = Path(config.data.source).name.partition(".")[0] or "data"
        base = f"{config.model}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem)}"
        numbered = (Path("runs") / (base if n == 1 else f"{base}-{n}") for n in range(1, 100_000))
        folder = next(candidate for candidate in numbered if not candidate.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            folder, f"the folder cannot be made ({error.strerror})", "choose another with --out"
        ) from None
    return folder


def _active(settings: Settings) -> Iterator[tuple[str, object]]:
    """The settings that differ from doing nothing."""
    for name, value in msgspec.structs.asdict(settings).items():
        if value:
            yield name, value


def _spoken(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
    )
