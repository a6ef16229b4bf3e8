import re

import pytest

from striate.reports.charts import cost_chart, line_chart, reliability_chart
from striate.reports.evidence import Bin, Chart, Point, Series


def ticks(drawn: str, kind: str) -> list[str]:
    return re.findall(rf'class="tick {kind}">([^<]*)<', drawn)


def chart(*ys: float, **choices: bool) -> str:
    xs = tuple(float(place + 1) for place in range(len(ys)))
    return line_chart(Chart("Loss", "epoch", "loss", (Series("train", xs, ys),), **choices))


def test_ticks_are_round_numbers() -> None:
    drawn = chart(2.0, 1.0, 0.1)
    assert ticks(drawn, "end") == ["0", "0.5", "1", "1.5", "2"]


def test_epochs_are_named_by_whole_numbers() -> None:
    assert ticks(chart(2.0, 1.0, is_whole=True), "middle") == ["1", "2"]
    assert len(ticks(chart(2.0, 1.0), "middle")) > 2


def test_a_chart_of_powers_of_ten_names_them() -> None:
    assert ticks(chart(30_000.0, 0.3, is_log=True), "end") == ["1", "10", "100", "1 k", "10 k"]


def test_powers_of_ten_stand_evenly() -> None:
    found = re.search(r'points="([^"]*)"', chart(1.0, 10.0, 100.0, is_log=True))
    assert found
    first, second, third = (float(point.split(",")[1]) for point in found[1].split())
    assert first - second == pytest.approx(second - third, abs=0.2)
    assert first - second > 50


@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (5.0,), (-1.0, 1.0), (1e-9, 2e-9)])
def test_flat_single_and_negative_lines_can_be_drawn(values: tuple[float, ...]) -> None:
    drawn = chart(*values, is_percent=True)
    assert "nan" not in drawn
    assert drawn.count("<circle") == len(values)


def test_a_line_is_put_where_its_values_are() -> None:
    drawn = line_chart(
        Chart("PR", "recall", "precision", (Series("all", (0.0, 1.0), (1.0, 0.0)),), is_unit=True)
    )
    # 440 x 270 with 54, 24, 12 and 42 pixels around the axes.
    assert 'points="54,12 416,228"' in drawn


def test_what_a_chart_shows_is_said_in_words() -> None:
    assert 'aria-label="Loss. train: from 2 to 0.5, lowest 0.25, highest 2"' in chart(2.0, 0.25, 0.5)


def test_each_line_has_a_colour_and_a_dash_of_its_own_in_chart_and_legend() -> None:
    lines = tuple(Series(f"class {n}", (0.0, 1.0), (0.1 * n, 1.0)) for n in range(3))
    drawn = line_chart(Chart("PR", "recall", "precision", lines))
    assert [drawn.count(f"line s{n}") for n in range(4)] == [2, 2, 2, 0]


def test_empty_bins_have_no_bar() -> None:
    drawn = reliability_chart((Bin(0.0, 0.5, 0, 0.0, 0.0), Bin(0.5, 1.0, 10, 0.5, 0.75)))
    # The second is one of the legend.
    assert drawn.count('class="bar"') == 2
    assert "confidence 75.0 %: 50.0 % of 10 right" in drawn


def test_cost_is_drawn_in_powers_of_ten() -> None:
    drawn = cost_chart("t", "parameters", "top-1", (Point("a", 1e6, 0.8, 0.7, 0.9), Point("b", 1e8, 0.9)))
    assert ticks(drawn, "middle") == ["1 M", "10 M", "100 M"]
    assert "a: 1 M, 80.0 %; b: 100 M, 90.0 %" in drawn
