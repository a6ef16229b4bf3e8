"""Weights to files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.errors import NotFiniteError
from striate.modelfile import ModelCard, read_card, read_tensors
from striate.training.saving import save


def test_what_is_read_is_what_was_saved(
    network: Callable[..., torch.nn.Module], card: ModelCard, tmp_path: Path
) -> None:
    module = network().to(memory_format=torch.channels_last)
    save(tmp_path / "model.safetensors", module, card)
    tensors = read_tensors(tmp_path / "model.safetensors")
    assert tensors.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())
    assert read_card(tmp_path / "model.safetensors") == card


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_written(
    network: Callable[..., torch.nn.Module], card: ModelCard, tmp_path: Path, value: float
) -> None:
    module, path = network(), tmp_path / "model.safetensors"
    save(path, module, card)
    before = path.read_bytes()
    with torch.no_grad():
        module.head.weight[0, 0] = value
    with pytest.raises(NotFiniteError, match=r"model\.safetensors: head\.weight holds NaN or infinity"):
        save(path, module, card)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
