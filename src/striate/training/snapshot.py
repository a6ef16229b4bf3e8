"""The tensors of a checkpoint: taken from a run, and put back into one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.errors import ModelError
from striate.models.network import Network
from striate.training.ema import MovingAverage
from striate.training.optimisers import Optimiser
from striate.training.processes import team
from striate.training.random_states import random_states, restore_random_states
from striate.training.saving import finite_arrays

__all__ = ["Parts"]

_WEIGHTS, _AVERAGE, _OPTIMISER, _RANDOM = "weights/", "average/", "optimiser/", "random/"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What holds tensors in a run."""

    network: Network
    optimiser: Optimiser
    average: MovingAverage | None
    device: torch.device

    def arrays(self, where: Path) -> dict[str, NDArray[Any]]:
        """All of them by name, and the states of torch's random numbers in every process, which all call it.

        Raises NotFiniteError naming `where` and the tensor that holds NaN or infinity.
        """
        found = _prefixed(_WEIGHTS, self.network.state_dict())
        if self.average is not None:
            found |= _prefixed(_AVERAGE, self.average.network.state_dict())
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                found[f"{_OPTIMISER}{key}/{name}"] = value
        return finite_arrays(found | _prefixed(_RANDOM, _states_of_all(self.device)), where)

    def restore(self, arrays: Arrays, where: Path) -> None:
        """Put all of them back as they were. Raises ModelError naming `where` if they do not fit."""
        _load(self.network, _below(_WEIGHTS, arrays), where)
        if self.average is not None:
            _load(self.average.network, _below(_AVERAGE, arrays), where)
        self._restore_optimiser(_below(_OPTIMISER, arrays), where)
        _restore_own(_below(_RANDOM, arrays), self.device)

    def _restore_optimiser(self, values: Mapping[str, Tensor], where: Path) -> None:
        named = dict(self.network.named_parameters())
        self.optimiser.state.clear()
        for path, value in values.items():
            key, _, name = path.partition("/")
            if name not in named or (value.ndim and value.shape != named[name].shape):
                raise _misfit(where, f"{key} of the parameter {name} has no place")
            self.optimiser.state.setdefault(named[name], {})[key] = _laid_out_as(named[name], value)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with its elements in memory in the order of the parameter's, as the optimiser made it."""
    if not value.ndim:
        return value.to(parameter.device, copy=True)  # a count of steps
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _load(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(where, str(error).partition("\n")[2].strip().partition("\n")[0]) from None


def _misfit(where: Path, what: str) -> ModelError:
    return ModelError(where, f"its tensors are another network's: {what}", "start a new run")


def _states_of_all(device: torch.device) -> dict[str, Tensor]:
    """The random states of every process: "cpu" is the first one's, "cpu/1" the next one's."""
    states = team().gather(random_states(device))
    return {
        f"{name}/{rank}" if rank else name: state
        for rank, found in enumerate(states)
        for name, state in found.items()
    }


def _restore_own(states: Mapping[str, Tensor], device: torch.device) -> None:
    # A run that goes on upon another kind of device, or in more processes, has no state for some of them:
    # their own seed stays.
    rank = team().rank
    suffix = f"/{rank}" if rank else ""
    own = {name: states[name + suffix] for name in ("cpu", "cuda", "mps") if name + suffix in states}
    restore_random_states(own, device)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(prefix: str, arrays: Arrays) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, without it."""
    names: Iterator[str] = (name for name in arrays if name.startswith(prefix))
    return {name[len(prefix) :]: torch.from_numpy(arrays[name]) for name in names}
