import pytest

from striate.errors import DataError
from striate.metrics.mcnemar import mcnemar

scipy_stats = pytest.importorskip("scipy.stats")


def test_few_pictures_are_counted_exactly() -> None:
    # 1 of 6 or fewer, on either side: 2 x (1 + 6) / 64.
    assert mcnemar(1, 5).p_value == 2 * 7 / 64
    assert mcnemar(1, 5).name == "exact McNemar test"


@pytest.mark.parametrize(("first", "second"), [(41, 18), (0, 12), (300, 360), (500, 500), (0, 1000)])
def test_the_exact_test_is_the_binomial_one(first: int, second: int) -> None:
    expected = scipy_stats.binomtest(first, first + second, 0.5).pvalue
    assert mcnemar(first, second).p_value == pytest.approx(expected, rel=1e-9)


def test_many_pictures_take_the_corrected_chi_square() -> None:
    found = mcnemar(700, 600)
    assert found.p_value == pytest.approx(scipy_stats.chi2.sf(99**2 / 1300, 1), rel=1e-9)
    assert "corrected" in found.name


def test_no_difference_is_no_evidence() -> None:
    assert mcnemar(0, 0).p_value == 1.0
    assert mcnemar(3, 3).p_value == 1.0


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(DataError, match="no counts"):
        mcnemar(-1, 2)
