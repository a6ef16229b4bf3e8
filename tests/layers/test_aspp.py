import pytest
import torch
from torch import Tensor, nn

from striate.layers.aspp import ASPP, spatial_convolution
from striate.layers.fcn_head import FCNHead


def with_ones(layer: nn.Module) -> nn.Module:
    """`layer` in evaluation, every kernel all ones: batch norm then only divides by sqrt(1 + 1e-5)."""
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    return layer.eval()


def peak(side: int) -> Tensor:
    """A map with a single 1 in its centre."""
    maps = torch.zeros(1, 1, side, side)
    maps[0, 0, side // 2, side // 2] = 1
    return maps


@pytest.mark.parametrize("rate", [1, 3])
def test_a_rate_spreads_nine_taps_and_keeps_the_size(rate: int) -> None:
    spread = with_ones(spatial_convolution(1, 1, rate))(peak(9))[0, 0] > 0.5
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[4 - rate : 5 + rate : rate, 4 - rate : 5 + rate : rate] = True
    assert torch.equal(spread, expected)


def test_a_separable_one_reaches_as_far_with_a_filter_for_each_map() -> None:
    plain, separable = (spatial_convolution(6, 4, 2, kind) for kind in (False, True))
    weights = [sum(p.numel() for p in layer.parameters() if p.ndim > 1) for layer in (plain, separable)]
    assert weights == [6 * 4 * 9, 6 * 9 + 6 * 4]
    images = peak(7).repeat(1, 6, 1, 1)
    reach = [with_ones(layer)(images)[0, 0] > 0.5 for layer in (plain, separable)]
    assert torch.equal(*reach)


def test_the_joined_maps_are_those_of_five_branches() -> None:
    layer = with_ones(ASPP(1, 1, (1, 2, 3), dropout=0.5))
    seen: list[Tensor] = []
    layer.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(peak(7))
    joined = seen[0][0]
    assert joined.shape == (5, 7, 7)
    # The point itself, nine taps at each rate, and everywhere the mean of 49 pixels.
    assert [int((maps > 0.5).sum()) for maps in joined] == [1, 9, 9, 9, 0]
    torch.testing.assert_close(joined[4], torch.full((7, 7), 1 / 49 / (1 + 1e-5) ** 0.5))


@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    layer = ASPP(3, 4, (6, 12, 18), dropout=0.1)
    assert layer(torch.rand(2, 3, *size)).shape == (2, 4, *size)


def test_dropout_acts_on_the_mixed_maps_in_training_alone() -> None:
    layer = ASPP(2, 64, (1,), dropout=0.5)
    maps = torch.rand(2, 2, 4, 4)
    layer.project.activation = nn.Identity()  # a ReLU gives zeros of its own
    assert 0.3 < (layer.train()(maps) == 0).float().mean() < 0.7
    assert torch.equal(layer.eval()(maps), layer(maps))


def test_the_head_of_torchvision_has_a_quarter_of_the_maps_inside() -> None:
    head = FCNHead(16, 3)
    assert head.hidden.conv.weight.shape == (4, 16, 3, 3)
    assert head.eval()(torch.rand(1, 16, 5, 6)).shape == (1, 3, 5, 6)
