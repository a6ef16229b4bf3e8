"""One optimiser step: the network and its loss as one module, and what is done with their gradients."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from striate.errors import EnvironmentProblem
from striate.models.network import Network
from striate.structures import Batch
from striate.training.checkpoints import Progress
from striate.training.config import TrainingConfig
from striate.training.device import autocast, choose_precision
from striate.training.layout import moved
from striate.training.optimisers import Optimiser
from striate.training.processes import Team
from striate.training.random_states import random_states, restore_random_states

__all__ = ["LEAST_WEIGHT", "Step", "Updates", "halved", "is_out_of_memory", "micro_batches", "rows_of"]

LEAST_WEIGHT = 1e-12  # of a batch in which no pixel has a class
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")


class Step(nn.Module):
    """A network and its loss as one module: what is cast, compiled and distributed as a whole."""

    def __init__(self, network: Network, terms: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.network = network
        self.terms = terms  # of the loss, that count; None: all

    def forward(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        """The terms of the loss of `batch`, each a scalar."""
        terms = self.network.loss(self.network(batch.images, **batch.extras), batch.targets)
        return terms if self.terms is None else {name: terms[name] for name in self.terms}


class Updates:
    """Takes optimiser steps of `network`; with several processes, of all of them together.

    A batch goes through the network in `progress.parts`, so that less of it is in memory at a time. Where
    even that does not fit, it goes in twice as many from then on.
    """

    def __init__(
        self,
        network: Network,
        optimiser: Optimiser,
        config: TrainingConfig,
        device: torch.device,
        progress: Progress,
        team: Team,
        terms: tuple[str, ...] | None = None,
    ) -> None:
        self.optimiser, self.config, self.device = optimiser, config, device
        self.precision = choose_precision(config.precision, device)
        self.progress, self.team = progress, team
        self.trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.step: nn.Module = Step(network, terms)
        if team.count > 1:
            self.step = _distributed(self.step, config.deterministic)

    def take(self, batch: Batch[Tensor], rate: float, own: float = 1.0) -> dict[str, Tensor]:
        """The terms of the loss after one step on `batch` at the learning rate `rate`.

        `own` is the share that this process's pictures have in the weight of all processes'; each term is
        that part of their mean. Raises EnvironmentProblem where two pictures at a time do not fit the memory.
        """
        self.optimiser.set_rate(rate)
        whole = moved(batch, self.device, self.progress.layout)
        while True:
            random = random_states(self.device)
            try:
                return self._take(whole, own)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.progress.parts = self._halved(len(batch), error)
            # Out here nothing holds the failed step's tensors any more.
            restore_random_states(random, self.device)

    def _take(self, batch: Batch[Tensor], own: float) -> dict[str, Tensor]:
        self.optimiser.zero_grad()
        losses: dict[str, Tensor] = {}
        parts = list(micro_batches(batch, self.progress.parts))
        for number, (part, share) in enumerate(parts, 1):
            with self._sharing(number == len(parts)), autocast(self.device, self.precision):
                terms = self.step(part)
                # DDP divides the sum of the gradients by the number of processes.
                (sum(terms.values()) * (share * own * self.team.count)).backward()
            for name, term in terms.items():
                losses[name] = losses.get(name, 0) + term.detach() * (share * own)
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.config.clip_norm)
        self.optimiser.step()
        return losses

    def _sharing(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients go to the other processes with a batch's last part only."""
        if isinstance(self.step, DistributedDataParallel) and not is_last:
            return self.step.no_sync()
        return nullcontext()

    def _halved(self, pictures: int, error: Exception) -> int:
        if self.team.count > 1:
            raise EnvironmentProblem(
                "memory",
                f"a step on {pictures // self.progress.parts} pictures at a time does not fit",
                f"set training.accumulate={2 * self.progress.parts}",
            ) from error
        return halved(self.progress.parts, pictures, error)


def _distributed(step: nn.Module, deterministic: bool) -> DistributedDataParallel:
    """`step` whose gradients become the mean over all processes."""
    # Statistics of batch norm are compared when they are used: not before each step. Torch 2.15 has a new
    # name for that, and warns of the old one.
    parameters = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
    settings: dict[str, Any] = {name: False}
    distributed = DistributedDataParallel(step, **settings)
    if deterministic:
        distributed.register_comm_hook(None, _mean_in_order_of_ranks)
    return distributed


def _mean_in_order_of_ranks(
    _: None,
    bucket: dist.GradBucket,  # type: ignore[name-defined] # torch does not list it in __all__
) -> torch.futures.Future[Tensor]:
    """The mean of every process's gradients in `bucket`, added from the first to the last.

    An all-reduce adds in an order that hangs on a value's place in its bucket, and DDP orders the buckets
    anew after its first step: a resumed run would add in another order than an undisturbed one.
    """
    own = bucket.buffer()
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    work = dist.all_gather(gathered, own, async_op=True)
    assert work is not None
    return work.get_future().then(lambda _: torch.stack(gathered).mean(0))


def micro_batches(batch: Batch[Tensor], count: int) -> Iterator[tuple[Batch[Tensor], Tensor | float]]:
    """`batch` in at most `count` parts of at least two pictures, each with its share of the weight."""
    count = max(1, min(count, len(batch) // 2))
    if count == 1:
        yield batch, 1.0
        return
    bounds = [len(batch) * number // count for number in range(count + 1)]
    total = batch.targets.weight.sum().clamp(min=LEAST_WEIGHT)
    for start, end in pairwise(bounds):
        part = rows_of(batch, slice(start, end))
        yield part, part.targets.weight.sum() / total


def rows_of(batch: Batch[Tensor], rows: slice) -> Batch[Tensor]:
    """The pictures `rows` of `batch`, as views."""
    return replace(
        batch.map(lambda tensor: tensor[rows]), keys=batch.keys[rows], geometry=batch.geometry[rows]
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is an allocation that failed, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _NO_MEMORY)


def halved(parts: int, pictures: int, error: BaseException) -> int:
    """Twice as many parts as the `parts` whose step failed with `error` on `pictures` pictures.

    Raises EnvironmentProblem where a part has two pictures already.
    """
    if 2 * parts > pictures // 2:
        raise EnvironmentProblem(
            "memory",
            f"a step on {-(-pictures // parts)} pictures at a time does not fit",
            "train at a smaller --size, or choose a smaller network",
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return 2 * parts
