import pytest
import torch

from striate.layers.depthwise import Depthwise


def test_each_map_meets_its_own_kernel() -> None:
    layer = Depthwise(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 10.0]).view(2, 1, 1, 1).expand(2, 1, 3, 3))
    assert layer(torch.ones(1, 2, 3, 3))[0, :, 1, 1].tolist() == [9.0, 90.0]
    assert layer(torch.ones(1, 2, 3, 3))[0, :, 0, 0].tolist() == [4.0, 40.0]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_stride_one_keeps_the_size(kernel: int, dilation: int) -> None:
    assert Depthwise(1, kernel, dilation=dilation)(torch.ones(1, 1, 9, 7)).shape == (1, 1, 9, 7)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, torch.bfloat16),
        ({"stride": 2}, torch.float32),
        ({"dilation": 2}, torch.float32),
        ({"kernel": 5}, torch.float32),
    ],
)
def test_only_the_plain_3x3_computes_in_bf16_under_autocast(
    settings: dict[str, int], kind: torch.dtype
) -> None:
    layer = Depthwise(**{"channels": 4, "kernel": 3, **settings})
    maps = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(maps)
    assert found.dtype == kind
    found.float().sum().backward()
    assert maps.grad.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    if kind == torch.float32:
        assert torch.equal(found, layer(maps.float()))


def test_without_autocast_the_maps_keep_their_type() -> None:
    layer = Depthwise(4, 3, stride=2).double()
    assert layer(torch.ones(1, 4, 8, 8, dtype=torch.float64)).dtype == torch.float64
