"""The training loop: a stream of events, and the only code that changes weights."""

import os
import shlex
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from striate.errors import Interrupted, UsageError
from striate.layers.sync_batch_norm import synchronised
from striate.modelfile import MODEL_FILE, ModelCard
from striate.models.network import Network
from striate.ops.device import choose_device, exact_float32
from striate.structures import Batch
from striate.training.checkpoints import Checkpoint, Checkpoints, Progress, State, log_position
from striate.training.config import TrainingConfig
from striate.training.device import choose_memory, choose_threads, threads
from striate.training.ema import MovingAverage
from striate.training.evaluate import Evaluation, Place, evaluate
from striate.training.events import CheckpointEvent, EvalEvent, Event, NoteEvent, StopEvent
from striate.training.interruption import Stop, catch_signals
from striate.training.layout import Layout, lay_out, moved
from striate.training.ledger import Ledger, StepRecord
from striate.training.loaders import Loaders
from striate.training.optimisers import make_optimiser
from striate.training.processes import team
from striate.training.saving import save
from striate.training.schedules import learning_rate
from striate.training.snapshot import Parts
from striate.training.stages import spans, train_only
from striate.training.step import LEAST_WEIGHT, Updates

__all__ = ["LAST_FILE", "Start", "fit", "reproducible"]

LAST_FILE = "last.safetensors"

_STEPS_PER_EVENT = 20  # on an accelerator, which has to finish its queue for each loss it tells


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins: anew, or with what a stopped one had saved."""

    checkpoint: Checkpoint | None = None  # its layout and parts count, not those below
    layout: Layout = "channels_last"
    parts: int = 1  # a batch goes through the network in; at least `accumulate`
    circumstances: Mapping[str, str] = field(default_factory=dict)  # kept for whoever resumes


_ANEW = Start()


def fit(
    network: Network,
    task: ModuleType,
    data: Loaders,
    config: TrainingConfig,
    folder: Path,
    card: ModelCard,
    start: Start = _ANEW,
) -> Generator[Event, None, None]:
    """Train `network` in place, telling what happens; `folder` gets the best and the last model file.

    `model.safetensors` holds the weights with the best `task.SCORE` on the val part (at equal score the
    lower loss, then the later), `last.safetensors` the newest; with `config.ema` both hold the averaged
    weights, which are also those measured. `last.safetensors` is there from the start, so that a folder
    that cannot be written is found at once. Without val pictures the best is the last.

    Before the first step, after each epoch and every `config.checkpoint_minutes` a checkpoint is written
    too, which `start` takes: the run goes on with the very next batch and ends with the bits it would have
    ended with.

    In several processes (`processes.join`), each of which calls it with its own share of the data, all
    give the same events, and the first one writes the files.

    SIGINT and SIGTERM end it after the step in hand: a checkpoint and both files are written, then
    Interrupted is raised with exit code 130 or 143; a second Ctrl-C raises KeyboardInterrupt at once.
    Closing the generator writes the files too. Raises NotFiniteError where a loss or weight is NaN or
    infinite, the files from before untouched; DataError naming a file that cannot be decoded; DiskFull,
    the last checkpoint intact.

    Where a step does not fit the memory, batches go through the network in twice as many parts, and a
    NoteEvent says so; EnvironmentProblem if two pictures at a time are too many.

    Seeds torch's own generator with `config.seed`. On a CPU, equal settings give equal bits.
    """
    count = choose_threads(config.threads, network, config.batch_size)
    with reproducible(config), threads(count), catch_signals() as stop:
        run = _Run(network, task, data, config, folder, card)
        run.begin(start)
        yield from run.events(stop)


class _Stopped(Exception):
    """Somebody stopped the run."""


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
        choose_memory(config.keep_memory, self.device)
        self.network = network.train()
        self.frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
        self.spans = spans(network.training_stages, config)
        self.progress = Progress()
        self.team = team()

    def begin(self, start: Start) -> None:
        """Take the state of `start`."""
        self.is_new, self.circumstances = start.checkpoint is None, dict(start.circumstances)
        if start.checkpoint is None:
            self.progress.layout = start.layout
            self.progress.parts = max(start.parts, self.config.accumulate)
        else:
            # A copy: the checkpoint stays what it is on disk.
            self.progress = replace(start.checkpoint.state.progress)
        lay_out(self.network, self.device, self.progress.layout)
        if self.config.sync_bn and self.team.count > 1:
            synchronised(self.network)
        self.average = MovingAverage(self.network, self.config.ema) if self.config.ema else None
        self._enter_stage()
        if self.team.is_first:
            self.checkpoints = Checkpoints(self.folder, start.checkpoint)
        if start.checkpoint is not None:
            self.parts.restore(start.checkpoint.tensors(), start.checkpoint.path)
            if self._is_between_stages():
                self._enter_stage()  # what the last stage's optimiser remembered is no matter
            if self.average is not None:
                self.average.updates = start.checkpoint.state.average_updates
        self.began = time.monotonic() - self.progress.seconds
        self.saved_at = time.monotonic()

    def _enter_stage(self) -> None:
        """What a step needs beside the network, in the stage that the epoch in hand belongs to."""
        self.span = next((span for span in self.spans if self.progress.epoch < span.end), self.spans[-1])
        train_only(self.network, self.span.stage.trainable, self.frozen)
        self.network.train()  # norms whose weights are frozen keep their statistics
        optimiser = make_optimiser(self.network, self.config)
        self.parts = Parts(self.network, optimiser, self.average, self.device)
        self.updates = Updates(
            self.network,
            optimiser,
            self.config,
            self.device,
            self.progress,
            self.team,
            self.span.stage.terms,
        )

    def _is_between_stages(self) -> bool:
        """Whether the next step is the first of a further stage."""
        begins = [span.first for span in self.spans[1:]]
        return not self.progress.batches and self.progress.epoch in begins

    def events(self, stop: Stop) -> Iterator[Event]:
        try:
            if self.is_new:
                yield self._save(LAST_FILE)
                self._checkpoint()
            while self.progress.epoch < self.config.epochs and not self._is_out_of_patience():
                if self._is_between_stages():
                    self._enter_stage()
                is_stopped = yield from self._train_epoch(stop)
                if not is_stopped:
                    yield from self._finish_epoch(stop)
                self._checkpoint()
                if is_stopped or stop.agree(self.team):
                    yield from self._leave_usable()
                    raise self._interrupted(stop)
            reason: Literal["patience", "finished"] = "patience" if self._is_out_of_patience() else "finished"
            yield StopEvent(reason, self.progress.epoch)
        except GeneratorExit:
            for _ in self._leave_usable():
                pass
            raise

    def _train_epoch(self, stop: Stop) -> Generator[Event, None, bool]:
        """Train on the batches of this epoch that are still to come; whether somebody stopped it."""
        steps, epoch, done = len(self.data.train), self.progress.epoch, self.progress.batches
        every = 1 if self.device.type == "cpu" else _STEPS_PER_EVENT
        ledger = Ledger(epoch + 1, steps)
        with closing(self.data.train.epoch(epoch, skip=done)) as batches:
            for number, batch in enumerate(batches, done + 1):
                if stop.agree(self.team):
                    break
                rate = learning_rate(self.span.config, self.progress.step - self.span.first * steps, steps)
                losses = yield from self._update(batch, rate)
                self.progress.step += 1
                self.progress.batches = number
                counted = self.data.train.counts(number - 1)
                ledger.add(StepRecord(self.progress.step, rate, batch.keys, counted, losses))
                if number % every == 0 or number == steps:
                    yield ledger.drain()
                    self._checkpoint_if_due()
        if ledger:
            yield ledger.drain()
        return stop.agree(self.team)

    def _checkpoint_if_due(self) -> None:
        # Only where all steps are told of, so that the log has the same rows with and without it.
        minutes = self.config.checkpoint_minutes
        due = bool(minutes) and time.monotonic() - self.saved_at >= 60 * minutes
        if minutes and self.team.largest(due):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Write everything that the rest of the run depends on."""
        tensors = self.parts.arrays(self.folder)
        if self.team.is_first:
            state = State(
                progress=replace(self.progress, seconds=time.monotonic() - self.began),
                average_updates=0 if self.average is None else self.average.updates,
                log_position=log_position(self.folder),
                circumstances=self.circumstances,
            )
            self.checkpoints.save(state, tensors)
        self.saved_at = time.monotonic()

    def _update(self, batch: Batch[Tensor], rate: float) -> Generator[NoteEvent, None, dict[str, Tensor]]:
        """Take one optimiser step on `batch`; this process's part of the terms of its loss."""
        self.progress.measured = None
        weight, before = batch.targets.weight.sum(), self.progress.parts
        share = weight / self.team.total(weight).clamp(min=LEAST_WEIGHT)
        losses = self.updates.take(batch, rate, float(share))
        if self.progress.parts != before:
            most = -(-len(batch) // self.progress.parts)
            yield NoteEvent(f"the memory is too small for a whole batch: {most} pictures at a time now")
        if self.average is not None:
            self.average.update(self.network)
        return losses

    def _finish_epoch(self, stop: Stop) -> Iterator[Event]:
        """Measure where it is time to, and write the files."""
        done = self.progress.epoch + 1
        if done == self.config.epochs and self.network.is_solved_last:
            yield NoteEvent("gradients are done: the rest is solved for")
            if not self._solve(stop):
                return
        due = done % self.config.eval_every == 0 or done == self.config.epochs
        if not due or not len(self.data.val):
            self._count_epoch()
            yield self._save(LAST_FILE)
            if due:
                yield self._save(MODEL_FILE)
            return
        self.team.copy_from_first(self._kept.buffers())  # statistics of each process's own pictures
        place = Place(self.device, self.progress.layout, self.team)
        measured = evaluate(self._kept, self.task, self.data.val, place, stop, f"epoch {done}")
        if measured is None:
            return
        self._count_epoch()
        self.progress.measured = measured
        is_best = self._judge(measured)
        yield EvalEvent(done, measured.metrics, measured.loss, measured.seconds, is_best)
        yield self._save(LAST_FILE)
        if is_best:
            yield self._save(MODEL_FILE)

    def _solve(self, stop: Stop) -> bool:
        """Solve for what gradients do not train, in what is measured and written; False if told to stop.

        Each process does all of it, and finds the same.
        """
        from striate.training.closed_form import finish

        self.team.copy_from_first(self._kept.buffers())
        was_training = self._kept.training

        def batches() -> Iterator[Batch[Tensor]]:
            with closing(iter(self.data.plain())) as found:
                for _, batch, _ in found:
                    if stop:
                        raise _Stopped
                    yield moved(batch, self.device, self.progress.layout)

        try:
            with exact_float32(self.device):
                finish(self._kept, batches)
        except _Stopped:
            pass
        finally:
            self._kept.train(was_training)
        return not stop.agree(self.team)

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
        patience, last = self.config.patience, self.spans[-1]
        waited = self.progress.epoch - max(self.progress.best_epoch, last.first)
        return patience is not None and waited >= patience and self.progress.epoch < self.config.epochs

    def _save(self, name: str) -> CheckpointEvent:
        measured = self.progress.measured
        metrics = {} if measured is None else {**measured.metrics, "loss": measured.loss}
        if self.team.is_first:
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


@contextmanager
def reproducible(config: TrainingConfig) -> Iterator[None]:
    """Torch seeded, and held to deterministic algorithms if asked; its switches are put back after."""
    # By its other name, use_deterministic_algorithms, the same switch imports torch's compiler: a second.
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    # Each process draws its own dropout; the first one's is that of a run alone.
    torch.manual_seed(config.seed + (team().rank << 32))
    if config.deterministic:
        # cuBLAS reads it when its first handle is made; without it torch refuses matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = not config.deterministic
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
