"""A training run from data to measured model: the plan, the events, the outcome."""

import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from striate import plugins, tasks
from striate.api.batch import OnTrial, asks_for_search, measured_lines, search_batch, without_search
from striate.api.checking import described_boxes, described_pictures
from striate.api.evaluation import evaluate_indices
from striate.api.runfiles import CONFIG_FILE, METRICS_FILE, EventLog, write_split, write_text
from striate.api.settings import RunConfig, data_settings, flat_settings, run_settings
from striate.api.starting_weights import (
    Begun,
    InitConfig,
    asked_backbone,
    asked_weights,
    begin_with,
    model_of_weights,
    starting_weights,
)
from striate.api.stopping import resumable
from striate.config import Layer, Resolved, Settings, to_toml
from striate.data.check import CheckReport, check
from striate.data.dataset import PARTS, Dataset, Part
from striate.data.open import open_dataset
from striate.data.split import complete
from striate.errors import DataError, EnvironmentProblem, UsageError
from striate.modelfile import MODEL_FILE
from striate.runtime.predictor import Predictor, load
from striate.tasks import Scores
from striate.training.events import NoteEvent
from striate.training.lock import locked

if TYPE_CHECKING:
    from striate.api.reporting import OnStage
    from striate.models.network import Network
    from striate.training.checkpoints import Checkpoint
    from striate.training.estimate import Setup
    from striate.training.events import Event
    from striate.training.layout import Layout
    from striate.training.loaders import Loaders

__all__ = [
    "Progress",
    "Resumption",
    "Run",
    "TrainingPlan",
    "begin",
    "circumstances_of",
    "make_network",
    "planned",
    "prepare",
    "refuse_unlike",
    "resume_command",
    "settle",
]

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are."""

_FOR_MASKS = "deeplab_v3plus_mobilenet_v2"  # where none is named
_FOR_BOXES = "ssdlite320_mobilenet_v2"
_SMALL = 96  # pixels; pictures up to this side train a small network where none is named


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A finished run: its folder, and how its best model does on pictures it never saw."""

    folder: Path
    scores: Scores  # of the test part; of the validation part where the data leaves no test part
    part: str  # which of them
    pictures: int  # that were measured
    seconds: float  # of training, wall clock
    made_by: str | None = None  # the function that makes its network, which its files may not say

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"Run({self.folder}: {self.part} {scores})"

    @property
    def model(self) -> Predictor:
        """Its best model: `run.model.predict("cat.jpg")`."""
        return load(self.folder, made_by=self.made_by)

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by name, fractions 0..1."""
        return dict(self.scores.values)

    def report(self, out: str | Path | None = None, progress: "OnStage | None" = None) -> Path:
        """Write all that is known of it as one HTML file, report.html in its folder if `out` is None.

        `progress` is called with the name of what is done and two counts.
        """
        from striate.api.reporting import REPORT_FILE, ReportRequest, write_report

        target = self.folder / REPORT_FILE if out is None else Path(out)
        return write_report(ReportRequest(self.folder, target, made_by=self.made_by, progress=progress))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `train --json` and the run's metrics.json."""
        return {
            "folder": str(self.folder),
            "part": self.part,
            "pictures": self.pictures,
            "seconds": round(self.seconds, 3),
            **self.scores.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run goes on."""

    checkpoint: "Checkpoint | None"  # None: it was stopped before its first one, and begins anew
    notes: tuple[str, ...] = ()  # what is not as it was, for the log and the reader

    @property
    def layout(self) -> "Layout | None":
        """In which the run's maps lie in memory; None where that is still to be chosen."""
        return None if self.checkpoint is None else self.checkpoint.state.progress.layout

    @property
    def position(self) -> int:
        """Bytes of the log that are still true."""
        return 0 if self.checkpoint is None else self.checkpoint.state.log_position

    def describe(self) -> str:
        """One phrase for people."""
        if self.checkpoint is None:
            return "stopped before its first checkpoint: from the beginning"
        progress = self.checkpoint.state.progress
        return f"goes on after step {progress.step:,}, {progress.epoch} epochs done"


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
    setup: "Setup"  # what a few steps told
    where: str  # "2 CPU threads, bf16 (AMX), memory kept"
    resumption: Resumption | None = None  # None: a new run
    begun: Begun | None = field(default=None, init=False)  # what became of the weights it begins with
    seconds: float = field(default=0.0, init=False)  # of training, those before an interruption included

    @property
    def config(self) -> RunConfig:
        """The settings without their origins."""
        return self.resolved.value

    @property
    def seconds_per_epoch(self) -> float:
        """An estimate, from timed steps."""
        return self.setup.seconds_per_step * len(self.loaders.train)

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
                *described_boxes(self.report.facts),
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
                *self._frozen(),
            ],
        )
        if self.begun is not None:
            yield "weights", self.begun.describe()
        changes = ", ".join(f"{name} {value}" for name, value in _active(config.augment)) or "none"
        yield (
            "training",
            [
                f"{training.epochs} epochs of {len(self.loaders.train)} steps, batch {training.batch_size}, "
                f"{training.optimiser}, learning rate {training.peak_rate:g} {training.schedule}",
                *self._stages(),
                *measured_lines(self.resolved),
                f"augmentation: {changes}",
            ],
        )
        yield (
            "device",
            [f"{self.where}, about {_spoken(self.seconds_per_epoch)} an epoch", *self._processes()],
        )
        yield "files", [f"{self.folder}/"]
        if self.resumption is not None:
            yield "resumed", [self.resumption.describe()]

    def _stages(self) -> Iterator[str]:
        from striate.training.stages import spans

        found = spans(self.network.training_stages, self.config.training)
        if len(found) > 1:
            parts = ", ".join(f"{span.stage.name} {span.config.epochs}" for span in found)
            yield f"in {len(found)} stages, epochs of each: {parts}"

    def _frozen(self) -> Iterator[str]:
        from striate.models.network import frozen_norms

        if self.config.training.freeze:
            frozen = [weight for weight in self.network.parameters() if not weight.requires_grad]
            norms = sum(1 for _ in frozen_norms(self.network))
            keep = f"; {norms} batch normalisations keep their statistics" if norms else ""
            count = sum(weight.numel() for weight in frozen)
            yield f"frozen: {count:,} weights in {len(frozen)} tensors{keep}"

    def _processes(self) -> Iterator[str]:
        from striate.training.processes import team

        count, training = team().count, self.config.training
        if count > 1:
            norm = "over all of them" if training.sync_bn else "of each alone (training.sync_bn to share)"
            yield (
                f"{count} processes, each {training.batch_size / count:g} pictures of a batch; "
                f"batch norm {norm}"
            )
        if self.setup.parts > training.accumulate:
            yield f"a batch goes in {self.setup.parts} parts, which is what fits the memory"

    def events(self) -> "Iterator[Event]":
        """Train, telling what happens; each event is also a line of the run's events.jsonl.

        Raises EnvironmentProblem where another process trains in the folder.
        """
        from striate.training.processes import team

        checkpoint = None if self.resumption is None else self.resumption.checkpoint
        self.seconds = 0.0 if checkpoint is None else checkpoint.state.progress.seconds
        began = time.monotonic() - self.seconds
        with _resumable(self.folder):
            if team().is_first:
                yield from self._written_events(checkpoint)
            else:
                yield from self._fit(checkpoint)
        self.seconds = time.monotonic() - began

    def _written_events(self, checkpoint: "Checkpoint | None") -> "Iterator[Event]":
        with locked(self.folder):
            self._refuse_taken()
            if self.resumption is None:
                # In this order: a folder with settings always has its split.
                write_split(self.folder, self.dataset)
                write_text(self.folder / CONFIG_FILE, to_toml(self.resolved))
            position = 0 if self.resumption is None else self.resumption.position
            with EventLog(self.folder, position) as log, closing(self._fit(checkpoint)) as events:
                told: set[str] = set()
                for event in chain(self._notes(log), events):
                    log.write(event)
                    yield event
                    for note in set(self.loaders.notes) - told:
                        told.add(note)
                        log.write(NoteEvent(note))
                        yield NoteEvent(note)

    def finish(self) -> Run:
        """Measure the best model on the test part and write the scores beside it; the first process does."""
        from striate.training.processes import team

        with _resumable(self.folder):
            return team().from_first(self._measured)

    def _measured(self) -> Run:
        from striate.models.foreign import is_code

        order: tuple[Part, ...] = ("test", "val", "train")
        part = next(part for part in order if self.counts[part])
        with locked(self.folder):
            made_by = self.config.model if is_code(self.config.model) else None
            predictor = load(self.folder, self.config.training.device, made_by)
            found = evaluate_indices(predictor, self.dataset, self.dataset.indices(part))
            run = Run(self.folder, found.scores, part, found.pictures, self.seconds, made_by)
            write_text(self.folder / METRICS_FILE, json.dumps(run.to_dict(), indent=1) + "\n")
        return run

    def _fit(self, checkpoint: "Checkpoint | None") -> "Generator[Event, None, None]":
        from striate.models import card_of
        from striate.training.fit import Start, fit

        fingerprint = self.report.facts.fingerprint
        data = {"source": self.config.data.source, "fingerprint": fingerprint, "pictures": self.counts}
        if self.config.init.weights is not None:
            data["init"] = msgspec.to_builtins(self.config.init)
        return fit(
            self.network,
            self.task,
            self.loaders,
            self.config.training,
            self.folder,
            card_of(self.network, data),
            Start(
                checkpoint,
                self.setup.layout,
                self.setup.parts,
                circumstances_of(self.network, self.config, fingerprint),
            ),
        )

    def _notes(self, log: EventLog) -> "Iterator[NoteEvent]":
        if self.resumption is not None:
            yield from map(NoteEvent, self.resumption.notes)
        if log.is_short:
            yield NoteEvent("the log lost rows from before the checkpoint")

    def _refuse_taken(self) -> None:
        """Raise UsageError where another process used the folder since this plan was made."""
        from striate.training.checkpoints import find_newest

        if self.resumption is None:
            taken = _has_run(self.folder)
        else:
            newest = find_newest(self.folder).checkpoint
            taken = (self.folder / METRICS_FILE).exists() or newest != self.resumption.checkpoint
        if taken:
            raise UsageError(self.folder, "another process trained there meanwhile", "run the command again")


def prepare(
    source: str,
    model: str | None = None,
    *,
    out: str | Path | None = None,
    layers: Sequence[Layer] = (),
    progress: Progress | None = None,
    on_trial: OnTrial | None = None,
) -> TrainingPlan:
    """The plan of a run: data looked over and split, settings resolved, network built, steps timed.

    Raises a StriateError naming what is in the way; nothing is written but an empty run folder.
    """
    from striate.training.processes import join

    members = join()
    resolved, dataset, report = settle(source, model, layers, progress, on_trial)
    refuse_unlike(report.facts.fingerprint)
    network = make_network(resolved.value, dataset)
    begun = begin(network, resolved.value, dataset)
    plan = planned(
        resolved,
        dataset,
        report,
        network,
        lambda: members.from_first(lambda: _run_folder(out, resolved.value)),
    )
    plan.begun = begun
    return plan


def refuse_unlike(fingerprint: str) -> None:
    """Raise DataError where the processes of this run do not see the same data."""
    from striate.training.processes import team

    found = team().gather(fingerprint)
    if len(set(found)) > 1:
        unlike = ", ".join(str(rank) for rank, other in enumerate(found) if other != found[0])
        raise DataError(
            f"process {unlike}", "it sees other data than process 0", "give all of them the same data"
        )


def make_network(config: RunConfig, dataset: Dataset) -> "Network":
    """The network of a run with drawn weights. Seeds torch's own generator."""
    import torch

    from striate import models
    from striate.training.freezing import freeze

    torch.manual_seed(config.training.seed)
    settings = {
        name: value for name, value in msgspec.to_builtins(config.network).items() if name != "classes"
    }
    network = models.create(config.model, dataset.classes, **settings)
    freeze(network, config.training.freeze)
    return network


def begin(network: "Network", config: RunConfig, dataset: Dataset) -> Begun | None:
    """Put the weights into `network` that a new run starts from: of its own pictures, and `config.init`'s.

    What became of each of the latter; None without any. Raises ModelError where they do not fit,
    EnvironmentProblem where they cannot be fetched.
    """
    from striate import models
    from striate.training.beginning import start_pictures

    start_from = getattr(models.family_of(config.model), "start_from", None)
    if start_from is not None:
        start_from(network, start_pictures(dataset, network.preprocess, config.training.seed))
    start = starting_weights(config.init, config.model, getattr(config.network, "backbone", None))
    return None if start is None else begin_with(network, start)


def planned(
    resolved: Resolved[RunConfig],
    dataset: Dataset,
    report: CheckReport,
    network: "Network",
    folder: Callable[[], Path],
    resumption: Resumption | None = None,
) -> TrainingPlan:
    """The plan for what is known already: makes the loaders and times a few steps, then asks for `folder`."""
    from striate.ops.device import choose_device
    from striate.training.device import choose_memory, choose_precision, choose_threads, describe
    from striate.training.estimate import try_steps
    from striate.training.loaders import make_loaders

    config = resolved.value
    task = plugins.load(tasks, dataset.task)
    loaders = make_loaders(dataset, network.preprocess, config.training, config.augment, config.cache)
    known = resumption.layout if resumption else None
    setup = try_steps(network, loaders.train, config.training, known)
    device = choose_device(config.training.device)
    threads = choose_threads(config.training.threads, network, config.training.batch_size)
    precision = choose_precision(config.training.precision, device)
    kept = choose_memory(config.training.keep_memory, device)
    return TrainingPlan(
        resolved=resolved,
        dataset=dataset,
        report=report,
        network=network,
        loaders=loaders,
        task=task,
        folder=folder(),
        setup=setup,
        where=describe(device, precision, threads, kept),
        resumption=resumption,
    )


def circumstances_of(network: "Network", config: RunConfig, fingerprint: str) -> dict[str, str]:
    """What the bits of a run depend on, by name: versions, hardware, data and settings ("settings.*")."""
    from striate.models import card_of
    from striate.training.circumstances import circumstances

    versions = card_of(network).versions
    return {
        **circumstances(network, config.training, versions),
        "data": fingerprint,
        **{f"settings.{path}": value for path, value in flat_settings(config).items()},
    }


def resume_command(folder: Path) -> str:
    """What to type to go on with the run in `folder`."""
    return f"striate train --resume {shlex.quote(str(folder))}"


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Within it, what stops a run says how to go on with it."""
    from striate.training.processes import is_lost_peer

    try:
        with resumable(folder, lambda: _way_on(folder)):
            yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise EnvironmentProblem(folder, "another process of this run ended", _way_on(folder)) from error


def _way_on(folder: Path) -> str:
    begun = (folder / CONFIG_FILE).is_file()
    return resume_command(folder) if begun else "run the command again"


def settle(
    source: str,
    model: str | None,
    layers: Sequence[Layer],
    progress: Progress | None = None,
    on_trial: OnTrial | None = None,
) -> tuple[Resolved[RunConfig], Dataset, CheckReport]:
    """The settings of a run, its usable pictures with their parts, and what the check found."""
    asked = Layer("--model", {"model": model}) if model else _asked_model(layers)
    layers = [*_task_of_model(asked), *layers]
    data = data_settings(source, layers).value
    found = open_dataset(data)
    report = check(found, progress=progress)
    usable = report.usable
    dataset = complete(found.only(usable), data.split, report.groups[usable])
    _refuse_untrainable(dataset)
    init = asked_weights(layers).value
    named = asked or _model_of(init, dataset) or _default_model(dataset, report)
    if named.is_file:
        _refuse_code(named)
    _refuse_other_task(named, dataset)
    start = starting_weights(init, named.values["model"], asked_backbone(layers))
    given = without_search(layers)
    resolved = run_settings(named, source, dataset, report.facts, given, start)
    if asks_for_search(layers):
        network = make_network(resolved.value, dataset)
        measured = search_batch(resolved, dataset, network, given, on_trial)
        resolved = run_settings(named, source, dataset, report.facts, [*given, *measured], start)
    return resolved, dataset, report


def _task_of_model(asked: Layer | None) -> list[Layer]:
    """What the data is to be read for, where the network says it: a folder may hold boxes and masks."""
    from striate import models
    from striate.models.foreign import is_code

    name = None if asked is None else asked.values["model"]
    if asked is None or not isinstance(name, str) or is_code(name):
        return []
    task = models.task_of(name)
    return [] if task == "classification" else [Layer(asked.origin, {"data": {"task": task}})]


def _refuse_untrainable(dataset: Dataset) -> None:
    if not len(dataset.indices("train")):
        raise DataError(
            dataset.name,
            "there is no picture to train on",
            "give a train part; `striate check` says what was found",
        )
    if dataset.task != "classification":
        return
    counts = Counter(item.label for item in dataset.items if item.part == "train")
    if len(counts) < 2:
        raise DataError(
            dataset.name,
            f"there are training pictures of {len(counts)} class{'es' * (len(counts) != 1)}",
            "give pictures of at least two classes; `striate check` says what was found",
        )


def _asked_model(layers: Sequence[Layer]) -> Layer | None:
    named = [layer for layer in layers if "model" in layer.values]
    return replace(named[-1], values={"model": named[-1].values["model"]}) if named else None


def _refuse_code(named: Layer) -> None:
    from striate.models.foreign import refuse_code

    refuse_code(str(named.values["model"]), named.origin)


def _default_model(dataset: Dataset, report: CheckReport) -> Layer:
    if dataset.task == "segmentation":
        return Layer("the data's masks", {"model": _FOR_MASKS})
    if dataset.task == "detection":
        return Layer("the data's boxes", {"model": _FOR_BOXES})
    facts = report.facts
    name = "simple_cnn" if max(facts.heights[1], facts.widths[1]) <= _SMALL else "resnet18"
    return Layer("size of the pictures", {"model": name})


def _model_of(init: InitConfig, dataset: Dataset) -> Layer | None:
    """The network of the starting weights, where it is for the task of the data."""
    from striate import models

    named = model_of_weights(init)
    if named is None or models.task_of(named.values["model"], dataset.task) != dataset.task:
        return None
    return named


def _refuse_other_task(named: Layer, dataset: Dataset) -> None:
    from striate import models

    name = named.values["model"]
    task = models.task_of(name, dataset.task)
    if task != dataset.task:
        raise UsageError(
            named.origin,
            f"{name} is for {task}, and {dataset.name} is data for {dataset.task}",
            "choose another network (`striate models`), or other data",
        )


def _run_folder(out: str | Path | None, config: RunConfig) -> Path:
    """The folder asked for, else the first free one of runs/NETWORK-DATA, -2, -3, ...; made if need be."""
    if out is not None:
        folder = Path(out)
        if _has_run(folder):
            raise UsageError(
                f"--out {out}", "there is a run in that folder already", "choose another, or delete it"
            )
    else:
        stem = Path(config.data.source).name.partition(".")[0] or "data"
        base = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{config.model}-{stem}")
        numbered = (Path("runs") / (base if n == 1 else f"{base}-{n}") for n in range(1, 100_000))
        folder = next(candidate for candidate in numbered if not candidate.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            folder, f"the folder cannot be made ({error.strerror})", "choose another with --out"
        ) from None
    return folder


def _has_run(folder: Path) -> bool:
    from striate.training.checkpoints import CHECKPOINTS

    return any((folder / name).exists() for name in (MODEL_FILE, CONFIG_FILE, CHECKPOINTS))


def _active(settings: Settings) -> Iterator[tuple[str, object]]:
    """The settings that were changed."""
    defaults = msgspec.structs.asdict(type(settings)())
    for name, value in msgspec.structs.asdict(settings).items():
        if value != defaults[name]:
            yield name, value


def _spoken(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
    )
