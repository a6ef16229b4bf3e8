import pytest

from striate.errors import DataError
from striate.metrics.intervals import wilson


def test_the_interval_is_the_one_in_the_books() -> None:
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3.
    assert [round(bound, 4) for bound in wilson(81, 263)] == [0.2553, 0.3662]
    assert [round(bound, 4) for bound in wilson(15, 148)] == [0.0624, 0.1605]
    assert [round(bound, 4) for bound in wilson(0, 20)] == [0.0, 0.1611]
    assert [round(bound, 4) for bound in wilson(1, 29)] == [0.0061, 0.1718]


def test_all_right_is_not_certain() -> None:
    low, high = wilson(10, 10)
    assert high == 1.0
    assert low < 0.75


@pytest.mark.parametrize(("right", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_is_refused(right: int, total: int) -> None:
    with pytest.raises(DataError, match="is no share"):
        wilson(right, total)
