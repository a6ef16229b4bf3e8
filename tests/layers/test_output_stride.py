import pytest

from striate.layers.output_stride import strides_and_dilations


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (32, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1)]),
        (16, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2)]),
        (8, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4)]),
    ],
)
def test_strides_beyond_it_dilate_what_comes_after(
    output_stride: int, expected: list[tuple[int, int]]
) -> None:
    assert list(strides_and_dilations((2, 2, 1, 2, 1, 2, 1, 2, 1), output_stride)) == expected
