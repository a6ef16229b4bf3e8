"""A few steps on a copy before a run: in which memory layout, in how many parts, and how long they take."""

import copy
import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from striate.data.loader import TrainLoader
from striate.models.network import Network
from striate.ops.device import choose_device
from striate.structures import Batch
from striate.training.config import TrainingConfig
from striate.training.device import (
    autocast,
    choose_memory,
    choose_precision,
    choose_threads,
    is_small_step,
    threads,
)
from striate.training.layout import LAYOUTS, Layout, lay_out, moved
from striate.training.processes import team
from striate.training.step import Step, halved, is_out_of_memory, micro_batches, rows_of

__all__ = ["Setup", "try_steps"]

_STEPS = 3  # timed with their loading
_ROUNDS = 2  # of a step in each layout
_WORTH = 0.9  # the other layout is taken where it needs less than this share of the time: not for noise
_LONG = 1.0  # seconds; where a step takes longer, layouts are compared on a quarter of a batch


@dataclass(frozen=True, slots=True)
class Setup:
    """What a few steps told."""

    layout: Layout
    parts: int  # that a batch has to go through the network in
    seconds_per_step: float  # forward and backward pass and loading, the fastest of three


def try_steps(
    network: Network, loader: TrainLoader, config: TrainingConfig, known: Layout | None = None
) -> Setup:
    """What a run of `network` on the batches of `loader` should do; with several processes, in all of them.

    The layout is `known`, else that of `config`, else the faster one; a deterministic run never asks the
    clock. Works on a copy: `network`, its gradients and torch's random state stay as they are. Raises
    EnvironmentProblem where a step on two pictures does not fit the memory.
    """
    device = choose_device(config.device)
    choose_memory(config.keep_memory, device)
    steps = _Steps(network, config, device)
    layout, seconds = known or _settled(network, config), []
    with torch.random.fork_rng(enabled=True), threads(steps.threads):
        started = time.perf_counter()
        for batch in islice(loader.epoch(0), _STEPS):
            steps.take(batch, layout or "channels_last")
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
        if layout is not None:
            return Setup(layout, team().largest(steps.parts), min(seconds))
        layout, share = team().from_first(lambda: steps.faster(batch, min(seconds)))
    return Setup(layout, team().largest(steps.parts), share * min(seconds))


def _settled(network: Network, config: TrainingConfig) -> Layout | None:
    """The layout, where it is not for the clock to choose."""
    if config.layout != "auto":
        return config.layout
    convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
    # In a small step the clock would mostly measure noise, and equal runs would end with other bits.
    timed = convolves and not config.deterministic and not is_small_step(network, config.batch_size)
    return None if timed else "channels_last"


class _Steps:
    """Forward and backward passes of copies of a network, one in each layout."""

    def __init__(self, network: Network, config: TrainingConfig, device: torch.device) -> None:
        self.network, self.device = network, device
        self.precision = choose_precision(config.precision, device)
        self.threads = choose_threads(config.threads, network, config.batch_size)
        self.parts = config.accumulate
        self._copies: dict[Layout, Step] = {}

    def faster(self, batch: Batch[Tensor], seconds: float) -> tuple[Layout, float]:
        """The layout to take, and its time as a share of channels_last's, which needs `seconds` a step."""
        pictures = slice(len(batch) if seconds < _LONG else max(2, len(batch) // 4))
        times = [
            {layout: self.take(rows_of(batch, pictures), layout) for layout in LAYOUTS}
            for _ in range(1 + _ROUNDS)  # in the first, kernels are chosen and filters are laid out
        ]
        best = {layout: min(row[layout] for row in times[1:]) for layout in LAYOUTS}
        share = best["contiguous"] / best["channels_last"]
        return ("contiguous", share) if share < _WORTH else ("channels_last", 1.0)

    def take(self, batch: Batch[Tensor], layout: Layout) -> float:
        """Seconds that a pass on `batch` takes; in more parts from then on where it does not fit."""
        while True:
            started = time.perf_counter()
            try:
                self._pass(batch, layout)
                return time.perf_counter() - started
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.parts = halved(self.parts, len(batch), error)

    def _pass(self, batch: Batch[Tensor], layout: Layout) -> None:
        if layout not in self._copies:
            self._copies[layout] = Step(lay_out(copy.deepcopy(self.network), self.device, layout)).train()
        step = self._copies[layout]
        step.zero_grad(set_to_none=True)
        for part, share in micro_batches(moved(batch, self.device, layout), self.parts):
            with autocast(self.device, self.precision):
                loss = sum(step(part).values()) * share
            loss.backward()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
