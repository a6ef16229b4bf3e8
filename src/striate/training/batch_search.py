"""Which batch size trains fastest, found by steps on a copy."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor

from striate.data.cache import available_memory
from striate.data.loader import TrainLoader
from striate.errors import EnvironmentProblem
from striate.models.network import Network
from striate.structures import Batch
from striate.training.config import TrainingConfig
from striate.training.device import choose_threads, threads
from striate.training.memory import MemoryGauge
from striate.training.trial import Trial, trying

__all__ = ["BatchTrial", "choose_batch", "search", "sizes"]

_SMALLEST = 16
_LEAST_STEPS = 10  # in an epoch: fewer, larger steps would finish it sooner and learn less
_SECONDS, _MOST_STEPS = 1.0, 8  # that a size is timed for, whichever is first
_TIE = 0.03  # a gain below this is noise, and a smaller batch learns more from an epoch
_PATIENCE = 2  # sizes in a row that are no faster end the search
_SHARE = 0.8  # of the available memory


@dataclass(frozen=True, slots=True)
class BatchTrial:
    """What a few steps with one batch size told."""

    size: int
    images_per_second: float  # of the steps alone; pictures are prepared meanwhile by other threads
    memory: int | None  # bytes at the peak; None where the system does not tell

    @property
    def speed(self) -> str:
        """For people: "5,210", "8.3"."""
        return f"{self.images_per_second:,.{0 if self.images_per_second >= 100 else 1}f}"

    def describe(self) -> str:
        """One phrase for people: "batch 64: 5,210 images/s, 140 MB"."""
        memory = "" if self.memory is None else f", {self.memory / 1e6:,.0f} MB"
        return f"batch {self.size}: {self.speed} images/s{memory}"


def sizes(pictures: int, usual: int, accumulate: int = 1) -> list[int]:
    """Batch sizes to try on `pictures` to train on, ascending: 16, 32, 64, ...

    None above `usual`, the run's size without a search, unless an epoch has ten steps with it, and none above
    `pictures`. Where a batch is cut into `accumulate` parts, each has two pictures.
    """
    smallest = max(_SMALLEST, 2 * accumulate)
    most = min(pictures, max(usual, pictures // _LEAST_STEPS))
    doubled = (smallest << power for power in range(64))
    return list(takewhile(lambda size: size <= most, doubled)) or [min(smallest, pictures)]


def search(
    network: Network, loader: TrainLoader, config: TrainingConfig
) -> Generator[BatchTrial, None, None]:
    """Try ever larger batches of `loader` until one does not fit the memory or two were no faster.

    Works on a copy with the run's optimiser, precision and threads: `network` and torch's random state stay
    as they are. Raises EnvironmentProblem where not even the smallest fits.
    """
    found: list[BatchTrial] = []
    with trying(network, config) as trial:
        memory = _Memory(trial.device)
        for size in sizes(len(loader.indices), config.batch_size, config.accumulate):
            if not memory.allows(size):
                return
            # No workers, for they would prepare batches that nobody takes.
            batch = _first_batch(replace(loader, batch_size=size, workers=0))
            with threads(choose_threads(config.threads, network, size)):
                seconds = _seconds(trial, batch, config.peak_rate)
            if trial.parts > config.accumulate:
                _refuse_first(found, size)
                return
            found.append(BatchTrial(size, len(batch) / seconds, memory.note(size)))
            yield found[-1]
            if _is_flat(found):
                return


def choose_batch(trials: Sequence[BatchTrial]) -> BatchTrial:
    """The fastest of `trials`; the smallest of those within 3 % of it."""
    fastest = max(trial.images_per_second for trial in trials)
    return next(trial for trial in trials if trial.images_per_second >= (1 - _TIE) * fastest)


class _Memory:
    """What each size took, and whether the next will fit."""

    def __init__(self, device: torch.device) -> None:
        self._is_cpu = device.type == "cpu"  # another device says itself when it is full
        self._limit = _SHARE * available_memory()
        self._gauge = MemoryGauge(device)
        self._taken: list[tuple[int, int]] = []  # size and bytes

    def allows(self, size: int) -> bool:
        """Whether `size` should fit: on a line through the two sizes before, or from zero through the one."""
        if not self._is_cpu or not self._taken:
            return True
        (before, less), (last, most) = ((0, 0), *self._taken)[-2:]
        return most + (most - less) * (size - last) / (last - before) <= self._limit

    def note(self, size: int) -> int | None:
        """The bytes taken so far at the peak, which is that of `size`, the largest yet."""
        taken = self._gauge.peak()
        if taken is not None:
            self._taken.append((size, taken))
        return taken


def _first_batch(loader: TrainLoader) -> Batch[Tensor]:
    with closing(loader.epoch(0)) as batches:
        return next(batches)


def _seconds(trial: Trial, batch: Batch[Tensor], rate: float) -> float:
    """Of the fastest step on `batch`, the first of which does not count: it finds its kernels and memory."""
    trial.step(batch, rate)
    return min(_timed(trial, batch, rate))


def _timed(trial: Trial, batch: Batch[Tensor], rate: float) -> Iterator[float]:
    began = time.perf_counter()
    for _ in range(_MOST_STEPS):
        started = time.perf_counter()
        # The loss is a number on this side, so the device has finished when the step returns.
        trial.step(batch, rate)
        ended = time.perf_counter()
        yield ended - started
        if ended - began > _SECONDS:
            return


def _is_flat(found: Sequence[BatchTrial]) -> bool:
    """Whether the last sizes were no faster than those before them."""
    speeds = [trial.images_per_second for trial in found]
    return len(speeds) > _PATIENCE and max(speeds[-_PATIENCE:]) < (1 + _TIE) * max(speeds[:-_PATIENCE])


def _refuse_first(found: Sequence[BatchTrial], size: int) -> None:
    if not found:
        raise EnvironmentProblem(
            "--batch-size auto",
            f"a batch of {size} does not fit the memory",
            "give --batch-size a smaller number, train at a smaller --size, or choose a smaller network",
        )
