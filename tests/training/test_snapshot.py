"""The tensors of a run, taken and put back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.training.config import TrainingConfig
from striate.training.ema import MovingAverage
from striate.training.optimisers import make_optimiser
from striate.training.snapshot import Parts

HERE = Path("checkpoints/0000000003")


class Small(nn.Module):
    """A convolution, whose weight lies otherwise in memory than in files, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)


def parts_of(optimiser: str) -> Parts:
    torch.manual_seed(1)
    module: Any = Small()
    config = TrainingConfig(optimiser=optimiser, learning_rate=0.1)  # type: ignore[arg-type]
    module.to(memory_format=torch.channels_last)
    return Parts(module, make_optimiser(module, config), MovingAverage(module, 0.9), torch.device("cpu"))


def step(parts: Parts) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in parts.network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(
            memory_format=torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        )
    parts.optimiser.step()


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_parts_that_were_put_back_go_on_alike_down_to_their_layout(optimiser: str) -> None:
    one, two = parts_of(optimiser), parts_of(optimiser)
    for _ in range(3):
        step(one)
    in_a_file = {name: np.array(array, order="C") for name, array in one.arrays(HERE).items()}
    two.restore(in_a_file, HERE)
    for _ in range(2):
        for parts in (one, two):
            step(parts)
    for mine, theirs in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        states = one.optimiser.state[mine], two.optimiser.state[theirs]
        assert states[0].keys() == states[1].keys() != set()
        for key in states[0]:
            torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
            assert states[0][key].stride() == states[1][key].stride()


def test_torchs_random_numbers_go_on_where_they_were() -> None:
    parts = parts_of("sgd")
    torch.manual_seed(5)
    torch.rand(3)
    arrays = parts.arrays(HERE)
    expected = torch.rand(4)
    torch.manual_seed(6)
    parts.restore(arrays, HERE)
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_every_tensor_has_a_name_that_says_whose_it_is() -> None:
    parts = parts_of("adamw")
    step(parts)
    names = parts.arrays(HERE).keys()
    assert {name.partition("/")[0] for name in names} == {"weights", "average", "optimiser", "random"}
    assert {"weights/head.bias", "average/head.bias", "optimiser/exp_avg/head.bias", "random/cpu"} <= names


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "optimiser/momentum_buffer/tail.weight",
            np.zeros(3),
            "momentum_buffer of the parameter tail.weight",
        ),
        ("optimiser/momentum_buffer/head.bias", np.zeros(4), "momentum_buffer of the parameter head.bias"),
        ("weights/head.bias", np.zeros(4), "size mismatch for head.bias"),
        ("average/other", np.zeros(4), "other"),
    ],
)
def test_tensors_that_have_no_place_are_refused(name: str, array: Any, message: str) -> None:
    parts = parts_of("sgd")
    arrays = {**parts.arrays(HERE), name: array.astype(np.float32)}
    with pytest.raises(ModelError, match=f"0000000003: its tensors are another network's: .*{message}"):
        parts.restore(arrays, HERE)
