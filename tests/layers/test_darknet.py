import torch
from torch import nn

from striate.layers.darknet import Residual, convolution, pool_of_stride_1


def test_a_convolution_keeps_the_size_and_has_no_bias_of_its_own() -> None:
    layer = convolution(3, 8, 3).eval()
    assert layer(torch.zeros(1, 3, 7, 5)).shape == (1, 8, 7, 5)
    assert convolution(3, 8, 1)(torch.zeros(2, 3, 7, 5)).shape == (2, 8, 7, 5)
    assert convolution(3, 8, 3, stride=2)(torch.zeros(2, 3, 8, 6)).shape == (2, 8, 4, 3)
    assert isinstance(layer.conv, nn.Conv2d)
    assert layer.conv.bias is None


def test_values_below_zero_leak_a_tenth() -> None:
    layer = convolution(1, 1, 1).eval()
    nn.init.ones_(layer.get_parameter("conv.weight"))
    found = layer(torch.tensor([-2.0, 3.0]).view(1, 1, 1, 2)).flatten()
    torch.testing.assert_close(found, torch.tensor([-0.2, 3.0]), atol=1e-4, rtol=0)


def test_the_pool_of_stride_1_looks_right_and_down_and_stops_at_the_edge() -> None:
    maps = torch.tensor([[1.0, 5.0, 2.0], [4.0, 3.0, 0.0], [-7.0, -8.0, -9.0]])[None, None]
    expected = torch.tensor([[5.0, 5.0, 2.0], [4.0, 3.0, 0.0], [-7.0, -8.0, -9.0]])[None, None]
    assert torch.equal(pool_of_stride_1()(maps), expected)


def test_a_residual_block_adds_what_came_in() -> None:
    block = Residual(6).eval()
    nn.init.zeros_(block.expand.get_parameter("norm.weight"))
    maps = torch.randn(2, 6, 4, 4)
    assert torch.equal(block(maps), maps)
    assert block.reduce.get_parameter("conv.weight").shape == (3, 6, 1, 1)
    assert block.expand.get_parameter("conv.weight").shape == (6, 3, 3, 3)
