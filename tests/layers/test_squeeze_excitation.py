import pytest
import torch
from torch import nn

from striate.layers.squeeze_excitation import SqueezeExcitation


def test_each_map_is_weighed_by_the_means_of_all() -> None:
    layer = SqueezeExcitation(2, 1)
    with torch.no_grad():
        for convolution, weight, bias in (
            (layer.reduce, [1.0, 1.0], [-1.0]),
            (layer.expand, [3.0, -3.0], [0.0, 0.0]),
        ):
            convolution.weight.copy_(torch.tensor(weight).view_as(convolution.weight))
            convolution.bias.copy_(torch.tensor(bias))
    maps = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # means 2 and 0
    # Squeezed: 2 + 0 - 1 = 1. Gates: hard sigmoid of 3 is 1, of -3 is 0.
    assert layer(maps).flatten().tolist() == [1.0, 3.0, 0.0, 0.0]
    with torch.no_grad():
        layer.expand.weight.zero_()
    assert layer(maps).flatten().tolist() == pytest.approx([0.5, 1.5, 0.0, 0.0])


def test_squeezed_values_are_rectified() -> None:
    layer = SqueezeExcitation(1, 1)
    nn.init.constant_(layer.reduce.weight, -1.0)
    nn.init.zeros_(layer.reduce.bias)
    nn.init.constant_(layer.expand.weight, -9.0)
    nn.init.zeros_(layer.expand.bias)
    assert layer(torch.ones(1, 1, 2, 2)).flatten().tolist() == [0.5] * 4
