"""Weights to a model file, whole and finite or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.errors import NotFiniteError
from striate.modelfile import ModelCard, write_model

__all__ = ["finite_arrays", "save", "tensors_of"]


def save(path: Path, network: nn.Module, card: ModelCard) -> None:
    """Write the weights and buffers of `network` with `card` to `path`, atomically.

    Raises NotFiniteError naming the tensor that holds NaN or infinity; then `path` stays what it was.
    """
    write_model(path, tensors_of(network, path), card)


def tensors_of(network: nn.Module, where: object) -> dict[str, NDArray[Any]]:
    """The state of `network` by name, in the layout and on the device that files have."""
    return finite_arrays(network.state_dict(), where)


def finite_arrays(tensors: Mapping[str, Tensor], where: object) -> dict[str, NDArray[Any]]:
    """`tensors` as arrays. Raises NotFiniteError, naming `where` and the tensor that is not finite."""
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise NotFiniteError(
            where,
            f"{broken[0]}{more} holds NaN or infinity, so nothing was written",
            "train with a lower learning_rate, or with clip_norm = 1",
        )
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
