"""The Darknets against their papers' tables."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import darknet
from striate.models.classification.darknet import Darknet
from striate.models.unweighted import unweighted


def weightless(name: str) -> Darknet:
    with unweighted():
        network = models.create(name)
    assert isinstance(network, Darknet)
    return network


@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    # 3.645 with the last layer of darknet19 in front of the average, at each of 8x8 pixels.
    [("darknet19", 20_842_376, 3.581), ("darknet53", 41_609_928, 9.285), ("darknet_tiny", 7_319_416, 0.709)],
)
def test_parameters_and_multiply_adds_at_256(
    counts: Callable[..., Any], name: str, parameters: int, giga: float
) -> None:
    found = counts(name)
    assert found.parameters == parameters
    assert round(found.multiply_adds / 1e9, 3) == giga


@pytest.mark.parametrize(
    ("name", "convolutions"), [("darknet19", 18), ("darknet53", 52), ("darknet_tiny", 7)]
)
def test_convolutions_are_as_many_as_the_name_says_but_the_last(name: str, convolutions: int) -> None:
    network = weightless(name)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions
    assert [feature.stride for feature in network.feature_info] == [1, 2, 4, 8, 16, 32]


def test_kernels_of_darknet19_alternate_as_in_table_6() -> None:
    kernels = [m.kernel_size[0] for m in weightless("darknet19").modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [3, 3, *[3, 1, 3] * 2, *[3, 1, 3, 1, 3] * 2]


def test_darknet53_halves_by_strides_and_has_no_pool() -> None:
    network = weightless("darknet53")
    assert not any(isinstance(module, nn.MaxPool2d) for module in network.modules())
    assert sum(m.stride == (2, 2) for m in network.modules() if isinstance(m, nn.Conv2d)) == 5


def test_pictures_too_small_for_the_pools_are_refused() -> None:
    network = darknet.build(darknet.TINY).eval()
    with pytest.raises(UsageError, match="at least 32 pixels a side, got 31x40"):
        network(torch.zeros(1, 3, 31, 40))


def test_residual_blocks_begin_as_the_identity() -> None:
    network = darknet.build(darknet.TINIES["residual"]).eval()
    block = network.trunk.get_submodule("stage6.2")
    maps = torch.rand(1, 64, 3, 3)
    assert torch.equal(block(maps), maps)
