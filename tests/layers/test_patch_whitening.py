"""What a measured patch whitening does to the pictures that it was measured on."""

import pytest
import torch
from torch import Tensor

from striate.layers.patch_whitening import PatchWhitening


def smooth_pictures(count: int = 40, channels: int = 2) -> Tensor:
    """Pictures (count, channels, 12, 12) whose neighbouring pixels, and channels, are alike."""
    coarse = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=3.0, mode="bilinear")
    own = torch.randn(count, channels, 12, 12, generator=torch.Generator().manual_seed(1))
    return smooth + 0.3 * own


def measured(side: int, pictures: Tensor) -> PatchWhitening:
    layer = PatchWhitening(pictures.shape[1], side)
    layer.measure(pictures)
    return layer


def test_outputs_are_uncorrelated_and_nearly_of_size_one() -> None:
    pictures = smooth_pictures()
    layer = measured(2, pictures)
    values = layer(pictures)[:, :8].double().transpose(0, 1).flatten(1)  # (directions, patches)
    moments = values @ values.T / values.shape[1]
    torch.testing.assert_close(moments, moments.diag().diag(), atol=1e-5, rtol=0)
    # A direction of variance v comes out with v / (v + 0.01); the pixels' own noise alone has 0.09.
    assert moments.diag().min() > 0.85
    assert moments.diag().max() < 1
    assert moments.diag().tolist() == sorted(moments.diag().tolist(), reverse=True)


def test_the_strongest_direction_of_one_pixel_patches_is_known() -> None:
    # Two channels, always equal but for the sign of their size: (1, 1) / sqrt 2 with variance 2 x 4.
    pictures = torch.tensor([2.0, -2.0]).view(2, 1, 1, 1).expand(2, 2, 3, 3)
    layer = measured(1, pictures)
    expected = 1 / (2**0.5 * (8 + 0.01) ** 0.5)
    assert layer.weight[0].flatten().abs().tolist() == pytest.approx([expected, expected])
    assert layer.weight[0, 0] == pytest.approx(layer.weight[0, 1].item())


def test_each_direction_comes_with_both_signs() -> None:
    for layer in (PatchWhitening(3, 3), measured(3, smooth_pictures(channels=3))):
        assert layer.out_channels == 2 * 3 * 9
        assert torch.equal(layer.weight[27:], -layer.weight[:27])


@pytest.mark.parametrize(("side", "expected"), [(1, 12), (2, 11), (3, 12), (4, 11), (5, 12)])
def test_an_odd_side_keeps_the_size_and_an_even_one_loses_a_row(side: int, expected: int) -> None:
    assert PatchWhitening(2, side)(smooth_pictures(3)).shape == (3, 4 * side**2, expected, expected)


def test_nothing_is_trained_and_everything_is_saved() -> None:
    layer = measured(2, smooth_pictures())
    assert list(layer.parameters()) == []
    fresh = PatchWhitening(2, 2)
    assert not torch.equal(fresh.weight, layer.weight)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh.weight, layer.weight)


def test_directions_before_any_picture_are_orthonormal() -> None:
    directions = PatchWhitening(2, 2).weight[:8].flatten(1)
    torch.testing.assert_close(directions @ directions.T, torch.eye(8))
