"""The processes that train one network together, as `torchrun` starts them: one a device, or one a few cores.

`torchrun --nproc_per_node=2 -m striate train photos/`

Every process runs the same program on its share of each batch. What only one may do, such as writing a file,
the first one does; what all must agree on is asked for here, by all of them at the same place.
"""

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from striate.errors import StriateError

__all__ = ["Team", "is_lost_peer", "join", "team"]

T = TypeVar("T")

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "Timed out",
    "timeout",
)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of this run, and which of them this one is. Methods are called by all of them or hang."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and tells people."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`, element by element."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """The largest of every process's `value`."""
        if self.count == 1:
            return value
        values = torch.tensor([value])
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them; a StriateError that it raises, too."""
        if self.count == 1:
            return make()
        said: list[Any] = [None]
        if self.is_first:
            try:
                said = [make()]
            except StriateError as error:
                said = [error]
        dist.broadcast_object_list(said, src=0)
        if isinstance(said[0], StriateError):
            raise said[0]
        made: T = said[0]
        return made

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def team() -> Team:
    """Those that `join` made, this process alone before it."""
    if not (dist.is_available() and dist.is_initialized()):
        return Team()
    return Team(dist.get_rank(), dist.get_world_size())


def join() -> Team:
    """The processes that `torchrun` started with this one, now connected: gloo on CPUs, NCCL on CUDA.

    Alone where it was not torchrun that did. Does nothing the second time.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    return team()


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether `error` is what a collective operation raises when another process is gone."""
    return team().count > 1 and any(phrase in str(error) for phrase in _LOST)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
