"""The training loop: a stream of events, and the only code that changes weights."""

import os
import shlex
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from striate.errors import Interrupted, UsageError
from striate.modelfile import MODEL_FILE, ModelCard
from striate.models.network import Network
from striate.ops.device import choose_device
from striate.structures import Batch
from striate.training.checkpoints import Checkpoint, Checkpoints, Progress, State, log_position
from striate.training.config import TrainingConfig
from striate.training.device import autocast, choose_memory, choose_precision, choose_threads, threads
from striate.training.ema import MovingAverage
from striate.training.evaluate import Evaluation, evaluate
from striate.training.events import CheckpointEvent, EvalEvent, Event, StepEvent, StopEvent
from striate.training.interruption import Stop, catch_signals
from striate.training.ledger import Ledger, StepRecord
from striate.training.loaders import Loaders
from striate.training.optimisers import make_optimiser
from striate.training.saving import save
from striate.training.schedules import learning_rate
from striate.training.snapshot import Parts

__all__ = ["LAST_FILE", "Step", "fit"]

LAST_FILE = "last.safetensors"

_STEPS_PER_EVENT = 20  # on an accelerator, which has to finish its queue for each loss it tells


def fit(
    network: Network,
    task: ModuleType,
    data: Loaders,
    config: TrainingConfig,
    folder: Path,
    card: ModelCard,
    resume: Checkpoint | None = None,
    circumstances: Mapping[str, str] | None = None,
) -> Generator[Event, None, None]:
    """Train `network` in place, telling what happens; `folder` gets the best and the last model file.

    `model.safetensors` holds the weights with the best `task.SCORE` on the val part (at equal score the
    lower loss, then the later), `last.safetensors` the newest; with `config.ema` both hold the averaged
    weights, which are also those measured. `last.safetensors` is there from the start, so that a folder
    that cannot be written is found at once. Without val pictures the best is the last.

    After each epoch, and every `config.checkpoint_minutes`, a checkpoint is written too, which `resume`
    takes: the run goes on with the very next batch and ends with the bits it would have ended with.
    `circumstances`, kept in it, is for whoever wants to know whether that holds where it is resumed.

    SIGINT and SIGTERM end it after the step in hand: a checkpoint and both files are written, then
    Interrupted is raised with exit code 130 or 143; a second Ctrl-C raises KeyboardInterrupt at once.
    Closing the generator writes the files too. Raises NotFiniteError where a loss or weight is NaN or
    infinite, the files from before untouched; DataError naming a file that cannot be decoded; DiskFull,
    the last checkpoint intact.

    Seeds torch's own generator with `config.seed`. On a CPU, equal settings give equal bits.
    """
    count = choose_threads(config.threads, network, config.batch_size)
    with _reproducible(config), threads(count), catch_signals() as stop:
        run = _Run(network, task, data, config, folder, card)
        run.begin(resume, dict(circumstances or {}))
        yield from run.events(stop)


class Step(nn.Module):
    """A network and its loss as one module: what is cast, compiled and distributed as a whole."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        """The terms of the loss of `batch`, each a scalar."""
        return self.network.loss(self.network(batch.images, **batch.extras), batch.targets)


class _Run:
    def __init__(
        self,
        network: Network,
        task: ModuleType,
        data: Loaders,
        config: TrainingConfig,
        folder: Path,
        card: ModelCard,
    ) -> None:
        if config.patience is not None and not len(data.val):
            raise UsageError(
                "training.patience", "there is no val part to be patient with", "set data.split.val_fraction"
            )
        self.task, self.data, self.config, self.folder, self.card = task, data, config, folder, card
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.precision, self.device)
        choose_memory(config.keep_memory, self.device)
        # 1.1 to 1.7 times as fast as contiguous on CPUs (LeNet, ResNet, MobileNet), and batches come so.
        self.network = network.to(self.device).to(memory_format=torch.channels_last).train()
        self.stepper = Step(self.network)
        self.optimiser = make_optimiser(self.network, config)
        self.average = MovingAverage(self.network, config.ema) if config.ema else None
        self.trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.progress = Progress()

    def begin(self, resume: Checkpoint | None, circumstances: dict[str, str]) -> None:
        """Take the state of `resume`, or start anew."""
        self.circumstances = circumstances
        self.checkpoints = Checkpoints(self.folder, resume)
        self.parts = Parts(self.network, self.optimiser, self.average, self.device)
        self.is_new = resume is None
        if resume is not None:
            self.parts.restore(resume.tensors(), resume.path)
            # A copy: the checkpoint stays what it is on disk.
            self.progress = replace(resume.state.progress)
            if self.average is not None:
                self.average.updates = resume.state.average_updates
        self.began = time.monotonic() - self.progress.seconds
        self.saved_at = time.monotonic()

    def events(self, stop: Stop) -> Iterator[Event]:
        try:
            if self.is_new:
                yield self._save(LAST_FILE)
            while self.progress.epoch < self.config.epochs and not self._is_out_of_patience():
                yield from self._train_epoch(stop)
                if not stop:
                    yield from self._finish_epoch(stop)
                self._checkpoint()
                if stop:
                    yield from self._leave_usable()
                    raise self._interrupted(stop)
            reason: Literal["patience", "finished"] = "patience" if self._is_out_of_patience() else "finished"
            yield StopEvent(reason, self.progress.epoch)
        except GeneratorExit:
            for _ in self._leave_usable():
                pass
            raise

    def _train_epoch(self, stop: Stop) -> Iterator[StepEvent]:
        """Train on the batches of this epoch that are still to come."""
        steps, epoch, done = len(self.data.train), self.progress.epoch, self.progress.batches
        every = 1 if self.device.type == "cpu" else _STEPS_PER_EVENT
        ledger = Ledger(epoch + 1, steps)
        with closing(self.data.train.epoch(epoch, skip=done)) as batches:
            for number, batch in enumerate(batches, done + 1):
                if stop:  # it came while the batch was loading
                    break
                rate = learning_rate(self.config, self.progress.step, steps)
                losses = self._update(batch, rate)
                self.progress.step += 1
                self.progress.batches = number
                ledger.add(StepRecord(self.progress.step, rate, batch.keys, losses))
                if number % every == 0 or number == steps:
                    yield ledger.drain()
                    self._checkpoint_if_due()
                if stop:
                    break
        if ledger:
            yield ledger.drain()

    def _checkpoint_if_due(self) -> None:
        # Only where all steps are told of, so that the log has the same rows with and without it.
        minutes = self.config.checkpoint_minutes
        if minutes and time.monotonic() - self.saved_at >= 60 * minutes:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Write everything that the rest of the run depends on."""
        state = State(
            progress=replace(self.progress, seconds=time.monotonic() - self.began),
            average_updates=0 if self.average is None else self.average.updates,
            log_position=log_position(self.folder),
            circumstances=self.circumstances,
        )
        self.checkpoints.save(state, self.parts.arrays(self.folder))
        self.saved_at = time.monotonic()

    def _update(self, batch: Batch[Tensor], rate: float) -> dict[str, Tensor]:
        """Take one optimiser step on `batch`; the terms of its loss."""
        self.progress.measured = None
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        whole = batch.map(lambda tensor: tensor.to(self.device, non_blocking=True))
        for part, share in _parts(whole, self.config.accumulate):
            with autocast(self.device, self.precision):
                terms = self.stepper(part)
            (sum(terms.values()) * share).backward()
            for name, term in terms.items():
                losses[name] = losses.get(name, 0) + term.detach() * share
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.config.clip_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.network)
        return losses

    def _finish_epoch(self, stop: Stop) -> Iterator[Event]:
        """Measure where it is time to, and write the files."""
        done = self.progress.epoch + 1
        due = done % self.config.eval_every == 0 or done == self.config.epochs
        if not due or not len(self.data.val):
            self._count_epoch()
            yield self._save(LAST_FILE)
            if due:
                yield self._save(MODEL_FILE)
            return
        measured = evaluate(self._kept, self.task, self.data.val, self.device, stop, f"epoch {done}")
        if measured is None:
            return
        self._count_epoch()
        self.progress.measured = measured
        is_best = self._judge(measured)
        yield EvalEvent(done, measured.metrics, measured.loss, measured.seconds, is_best)
        yield self._save(LAST_FILE)
        if is_best:
            yield self._save(MODEL_FILE)

    def _count_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.batches = 0

    @property
    def _kept(self) -> Network:
        """The network that is measured and written."""
        return self.network if self.average is None else self.average.network

    def _judge(self, measured: Evaluation) -> bool:
        """Whether these are the best weights so far."""
        rank = (measured.metrics[self.task.SCORE], -measured.loss)
        if self.progress.best is not None and rank < self.progress.best:
            return False
        self.progress.best, self.progress.best_epoch = rank, self.progress.epoch
        return True

    def _is_out_of_patience(self) -> bool:
        patience = self.config.patience
        waited = self.progress.epoch - self.progress.best_epoch
        return patience is not None and waited >= patience and self.progress.epoch < self.config.epochs

    def _save(self, name: str) -> CheckpointEvent:
        measured = self.progress.measured
        metrics = {} if measured is None else {**measured.metrics, "loss": measured.loss}
        save(self.folder / name, self._kept, replace(self.card, metrics=metrics))
        self.progress.has_best_file |= name == MODEL_FILE
        return CheckpointEvent(self.folder / name, self.progress.epoch, best=name == MODEL_FILE)

    def _leave_usable(self) -> Iterator[CheckpointEvent]:
        """Write the weights as they are; as the best too, where this run has none yet."""
        yield self._save(LAST_FILE)
        if not self.progress.has_best_file:
            yield self._save(MODEL_FILE)

    def _interrupted(self, stop: Stop) -> Interrupted:
        return Interrupted(
            self.folder,
            f"{stop.reason} stopped training after step {self.progress.step}, "
            f"with {self.progress.epoch} of {self.config.epochs} epochs done",
            f"striate train --resume {shlex.quote(str(self.folder))}",
            stop.exit_code,
        )


def _parts(batch: Batch[Tensor], count: int) -> Iterator[tuple[Batch[Tensor], Tensor | float]]:
    """`batch` in at most `count` parts of at least two pictures, each with its share of the weight."""
    count = max(1, min(count, len(batch) // 2))
    if count == 1:
        yield batch, 1.0
        return
    bounds = [len(batch) * number // count for number in range(count + 1)]
    total = batch.targets.weight.sum()
    for start, end in pairwise(bounds):
        part = replace(
            batch.map(lambda tensor, rows=slice(start, end): tensor[rows]),  # type: ignore[misc]
            keys=batch.keys[start:end],
            geometry=batch.geometry[start:end],
        )
        yield part, part.targets.weight.sum() / total


@contextmanager
def _reproducible(config: TrainingConfig) -> Iterator[None]:
    """Torch seeded, and held to deterministic algorithms if asked; its switches are put back after."""
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    torch.manual_seed(config.seed)
    if config.deterministic:
        # cuBLAS reads it when its first handle is made; without it torch refuses matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not config.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
