"""A small resnet18 with weights that do something, and its model file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from striate.modelfile import write_model
from striate.models import card_of, create
from striate.models.network import Network

CLASSES = ("ant", "bee", "cow", "dog", "eel")


@pytest.fixture(scope="session")
def network() -> Network:
    """resnet18 for 64x64 pictures, seeded, its batch norms away from the identity."""
    torch.manual_seed(0)
    made = create("resnet18", CLASSES, preprocess={"size": [64, 64], "resize_to": 72})
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the model file of a network, with changed tensors or card fields."""

    def written(network: Network, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
        arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        path = tmp_path / "model.safetensors"
        write_model(path, {**arrays, **(tensors or {})}, replace(card_of(network), **changes))
        return path

    return written
