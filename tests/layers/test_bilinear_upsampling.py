import pytest
import torch
import torch.nn.functional as F

from striate.layers.bilinear_upsampling import BilinearUpsampling


def test_the_kernel_of_factor_2_is_the_bilinear_one() -> None:
    kernel = BilinearUpsampling(1, 2).weight[0, 0]
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(kernel, row[:, None] * row)


def test_an_odd_factor_has_its_filter_in_the_middle_too() -> None:
    kernel = BilinearUpsampling(1, 3).weight[0, 0]
    row = torch.tensor([1, 3, 5, 5, 3, 1]) / 6
    torch.testing.assert_close(kernel, row[:, None] * row)


def test_each_map_has_a_filter_of_its_own_and_sees_no_other() -> None:
    layer = BilinearUpsampling(3, 4)
    maps = torch.zeros(1, 3, 2, 2)
    maps[:, 1] = 1
    upsampled = layer(maps)
    assert upsampled.shape == (1, 3, 12, 12)
    assert not upsampled[:, [0, 2]].any()
    # Where four values overlap, their shares add up to 1.
    torch.testing.assert_close(upsampled[0, 1, 4:8, 4:8], torch.ones(4, 4))


@pytest.mark.parametrize("factor", [2, 8])
def test_inside_it_is_bilinear_interpolation(factor: int) -> None:
    maps = torch.rand(2, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    half = factor // 2
    found = BilinearUpsampling(2, factor)(maps)[..., half:-half, half:-half]
    inside = (..., slice(half, -half), slice(half, -half))
    torch.testing.assert_close(found[inside], expected[inside])


def test_it_has_a_full_kernel_for_each_pair_of_classes_and_no_bias() -> None:
    layer = BilinearUpsampling(21, 32)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 21 * 21 * 64 * 64
    assert all(parameter.requires_grad for parameter in layer.parameters())


def test_it_builds_without_memory() -> None:
    with torch.device("meta"):
        assert BilinearUpsampling(21, 32).weight.is_meta
