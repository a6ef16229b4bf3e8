import pytest
import torch
import torch.nn.functional as F

from striate.models.segmentation._upsampling import upsampled


@pytest.mark.parametrize("width", [17, 20, 24])
def test_value_j_lies_on_pixel_stride_times_j(width: int) -> None:
    row = torch.tensor([0.0, 8.0, 16.0])  # of the pixels 0, 8 and 16
    found = upsampled(row.expand(1, 1, 2, 3), 8, (9, width))
    expected = torch.arange(float(width)).clamp(max=16)
    torch.testing.assert_close(found, expected.expand(1, 1, 9, width))


def test_sides_of_a_multiple_and_one_are_interpolated_from_corner_to_corner() -> None:
    maps = torch.rand(2, 3, 41, 6, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (321, 41), mode="bilinear", align_corners=True)
    torch.testing.assert_close(upsampled(maps, 8, (321, 41)), expected)


def test_a_single_value_fills_the_picture() -> None:
    assert torch.equal(upsampled(torch.full((1, 1, 1, 1), 3.0), 16, (5, 7)), torch.full((1, 1, 5, 7), 3.0))
