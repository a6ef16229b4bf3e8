"""A throw-away copy of a network, trained for a few steps to see what happens."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from striate.models.network import Network
from striate.ops.device import choose_device
from striate.structures import Batch
from striate.training.checkpoints import Progress
from striate.training.config import TrainingConfig
from striate.training.device import choose_memory
from striate.training.fit import reproducible
from striate.training.layout import Layout, lay_out
from striate.training.optimisers import make_optimiser
from striate.training.processes import Team
from striate.training.step import Updates

__all__ = ["Trial", "trying"]


class Trial:
    """A copy of a network on the device that a run would take, with the run's optimiser, in this process."""

    def __init__(self, network: Network, config: TrainingConfig) -> None:
        self.device = choose_device(config.device)
        choose_memory(config.keep_memory, self.device)
        layout: Layout = "channels_last" if config.layout == "auto" else config.layout
        copied = lay_out(copy.deepcopy(network), self.device, layout).train()
        optimiser = make_optimiser(copied, config)
        self._progress = Progress(layout=layout, parts=config.accumulate)
        self._updates = Updates(copied, optimiser, config, self.device, self._progress, Team())

    def step(self, batch: Batch[Tensor], rate: float) -> float:
        """The loss of `batch`, and the step that a run would take on it at the learning rate `rate`.

        Raises EnvironmentProblem where two pictures at a time do not fit the memory.
        """
        return float(sum(self._updates.take(batch, rate).values()))

    @property
    def parts(self) -> int:
        """How many a batch goes through the network in: more than asked for once one did not fit."""
        return self._progress.parts


@contextmanager
def trying(network: Network, config: TrainingConfig) -> Iterator[Trial]:
    """A trial with `network`, seeded by `config`; `network` and torch's random state stay as they are."""
    device = choose_device(config.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), reproducible(config):
        yield Trial(network, config)
