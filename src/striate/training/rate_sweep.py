"""The learning-rate range test: the loss of a network while the rate grows from step to step."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from striate.data.loader import TrainLoader
from striate.models.network import Network
from striate.structures import Batch
from striate.training.config import TrainingConfig
from striate.training.device import choose_threads, threads
from striate.training.rate_curve import has_risen
from striate.training.trial import trying

__all__ = ["RatePoint", "sweep", "sweep_rates"]

_FEWEST, _MOST = 40, 100  # steps
_EPOCHS = 4  # a small set is gone through so often at most, unless that is fewer than the fewest steps
_HIGHEST = 10.0
_LOWEST = 1e-5
_LOWEST_OF = {"adamw": 1e-6}  # whose steps do not shrink with the gradient


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One step of the test."""

    rate: float
    loss: float  # of the batch, before the step at this rate; NaN or infinite only in the last one


def sweep_rates(config: TrainingConfig, steps_in_epoch: int) -> list[float]:
    """The rates of the test, each the same factor above the one before: up to 10 in 40 to 100 steps."""
    steps = min(_MOST, max(_FEWEST, _EPOCHS * steps_in_epoch))
    lowest = _LOWEST_OF.get(config.optimiser, _LOWEST)
    return [float(lowest * (_HIGHEST / lowest) ** (step / (steps - 1))) for step in range(steps)]


def sweep(network: Network, loader: TrainLoader, config: TrainingConfig) -> Generator[RatePoint, None, None]:
    """Each rate of `sweep_rates` with the loss met there, until the loss has risen (`has_risen`).

    One continuous training on a copy, with the batches, augmentation, precision and optimiser of the run
    that `config` describes; `network` and torch's random state stay as they are. Equal settings give equal
    points on a CPU.
    """
    losses: list[float] = []
    rates = sweep_rates(config, len(loader))
    workers = choose_threads(config.threads, network, config.batch_size)
    with threads(workers), trying(network, config) as trial, closing(_batches(loader)) as batches:
        for rate, batch in zip(rates, batches, strict=False):
            losses.append(float(trial.step(batch, rate)))
            yield RatePoint(rate, losses[-1])
            if has_risen(rates[: len(losses)], losses):
                return


def _batches(loader: TrainLoader) -> Generator[Batch[Tensor], None, None]:
    """Epoch after epoch, without end."""
    for epoch in count():
        with closing(loader.epoch(epoch)) as batches:
            yield from batches
