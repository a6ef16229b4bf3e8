"""The engine that runs a network in PyTorch, in full float32 precision."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.errors import ModelError, NotFiniteError, UsageError
from striate.layers.normalize import Normalize
from striate.modelfile import read_card, read_shapes, read_tensors
from striate.models import network_of
from striate.models.evaluating import evaluating
from striate.models.foreign import function_of, is_code
from striate.models.network import Network
from striate.ops.device import choose_device, exact_float32

__all__ = ["PyTorchEngine"]

# What reading a file that breaks its own format, or building what it describes, may end in.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class PyTorchEngine:
    """Runs `network` where its weights lie; a live network keeps its mode, weights and place."""

    def __init__(self, network: Network) -> None:
        self.network = network

    @classmethod
    def from_file(cls, path: str | Path, device: str = "auto", made_by: str | None = None) -> "PyTorchEngine":
        """The engine of a model file, on `device`; `made_by` names the function, if one makes its network.

        Raises ModelError, before a weight is allocated, where the file is damaged or describes a network
        that striate does not have; NotFiniteError where a weight is NaN or infinite.
        """
        path = Path(path)
        target = choose_device(device)
        if made_by is not None and is_code(made_by):
            function_of(made_by)  # what is wrong with it is no fault of the file
        with _naming(path):
            network = _empty_network(path, made_by)
            _fill(network, read_tensors(path), path)
        network.requires_grad_(False).eval()
        # Pictures come as (B, H, W, C) memory; the same order in the weights is the fast road.
        return cls(network.to(target, memory_format=torch.channels_last))  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        tensors = chain(self.network.parameters(), self.network.buffers())  # some have nothing to learn
        return next(tensors).device

    @property
    def lanes(self) -> int:
        """1: torch shares one call among all cores."""
        return 1

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The network's dense outputs by name for `inputs["images"]` (B, C, H, W) and its further inputs.

        Evaluation mode and no autocast whatever surrounds the call, so the same arrays always give the same
        numbers. Floating outputs are float32.
        """
        if "images" not in inputs:
            raise UsageError(
                "inputs", f"there are {sorted(inputs)}, no 'images'", "pass pictures as 'images'"
            )
        tensors = {name: _tensor(array).to(self.device) for name, array in inputs.items()}
        with evaluating(self.network), torch.inference_mode(), exact_float32(self.device):
            dense = self.network.dense(**tensors)
        return {name: _array(tensor) for name, tensor in dense.items()}


def _tensor(array: NDArray[Any]) -> Tensor:
    # torch refuses memory that it may not write to; order="K" keeps a channels_last view what it is.
    return torch.from_numpy(array if array.flags.writeable else array.copy(order="K"))


def _array(tensor: Tensor) -> NDArray[Any]:
    wide = tensor.float() if tensor.is_floating_point() else tensor
    array: NDArray[Any] = wide.cpu().numpy()
    return array


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make a ModelError that names the file of whatever a damaged or hostile one makes its readers say."""
    try:
        yield
    except (UsageError, *_DAMAGE) as error:
        reason = f"{error.where}: {error.what}" if isinstance(error, UsageError) else repr(error)
        raise ModelError(path, f"no network can be built from it ({reason})", "use an intact copy") from error


def _empty_network(path: Path, made_by: str | None) -> Network:
    """The network that the file's card describes, on the meta device."""
    card = read_card(path)
    network = network_of(card, read_shapes(path), path, made_by)
    if network.task != card.task:
        raise ModelError(
            path, f"its card says {card.task}, {card.variant} does {network.task}", "use an intact copy"
        )
    return network


def _fill(network: Network, arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Put `arrays` in the place of the network's meta tensors. Raises ModelError naming one that is unfit."""
    for name, expected in network.state_dict().items():
        tensor = torch.from_numpy(arrays[name])
        if tensor.dtype != expected.dtype:
            raise ModelError(
                path,
                f"tensor {name} is {tensor.dtype}, {network.name} has {expected.dtype}",
                "use a model file that striate wrote",
            )
        if not np.isfinite(arrays[name]).all():
            raise NotFiniteError(path, f"tensor {name} holds NaN or infinity", "use an earlier model file")
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    network.load_state_dict(state, assign=True)
    # Its constants come from the preprocessing spec, not from the weights.
    network.normalize = Normalize(network.preprocess)
    for name, buffer in network.named_buffers():
        if buffer.is_meta:
            raise ModelError(
                path, f"{network.name} keeps {name} out of its files", f"make {name} a persistent buffer"
            )
