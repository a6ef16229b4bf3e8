import pytest

from striate.layers.divisible import make_divisible


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (32, 32),
        (27.9, 32),  # 24 would lose more than a tenth
        (26, 24),
        (12, 16),  # halves go up
        (1, 8),
        (0.35 * 32, 16),
        (0.35 * 24, 8),
        (1.4 * 1280, 1792),
    ],
)
def test_nearest_multiple_of_eight_that_keeps_nine_tenths(maps: float, expected: int) -> None:
    assert make_divisible(maps) == expected
