"""`find_rate` in Python: the result, its forms, its files."""

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import striate
from striate.api import RateSweep
from striate.api.rate_chart import RateChart
from striate.errors import UnknownName, UsageError

RATES = tuple(10.0 ** (-5 + step / 4) for step in range(21))  # 1e-5 to 1
LOSSES = (2.0,) * 8 + (1.8, 1.5, 1.0, 0.6, 0.5, 0.6, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 9.0)


def sweep(ending: str = "rose", losses: tuple[float, ...] = LOSSES) -> RateSweep:
    rates = RATES[: len(losses)]
    return RateSweep("photos", "resnet18", "sgd", 64, rates, losses, ending)  # type: ignore[arg-type]


def test_find_rate_tells_a_rate_and_its_curve(color_folder: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    state = torch.get_rng_state()
    found = striate.find_rate(
        color_folder, "simple_cnn", batch_size=8, workers=0, on_point=lambda point: seen.append(point.rate)
    )
    assert found.proposal is not None
    assert 1e-4 < found.proposal < 0.1
    assert found.rates == tuple(seen[: len(found.rates)])
    assert len(found.losses) == len(found.smoothed) == len(found.rates) >= 20
    assert (found.model, found.batch_size, found.optimiser) == ("simple_cnn", 8, "adamw")
    assert torch.equal(torch.get_rng_state(), state)
    assert found == striate.find_rate(color_folder, "simple_cnn", batch_size=8, workers=0)


def test_its_arguments_are_those_of_train(color_folder: Path) -> None:
    with pytest.raises(UnknownName, match=r"find_rate.*did you mean batch_size"):
        striate.find_rate(color_folder, batchsize=8)


def test_a_part_of_the_curve_gives_no_proposal() -> None:
    assert sweep("rose").proposal == 0.0033
    assert sweep("stopped").proposal is None
    assert sweep("stopped").verdict == "no proposal from a part of the curve"


def test_without_a_proposal_the_reason_is_said() -> None:
    falling = sweep("highest", tuple(2.0 - 0.05 * step for step in range(21)))
    assert falling.verdict == "no proposal: the loss falls up to the highest rate"
    flat = sweep("highest", tuple(2.0 + 0.1 * (-1) ** step for step in range(21)))
    assert "at no rate does the loss fall" in flat.verdict


def test_the_repr_says_what_was_tried_and_found() -> None:
    assert repr(sweep()) == "RateSweep(resnet18 on photos, batch 64, sgd: learning rate 0.0033)"


def test_a_table_has_a_line_a_step(tmp_path: Path) -> None:
    sweep().save(tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    assert (float(rows[8]["learning_rate"]), float(rows[8]["loss"])) == (RATES[8], 1.8)


def test_a_picture_is_well_formed_and_escapes_names(tmp_path: Path) -> None:
    named = RateSweep("<script>&", "resnet18", "sgd", 64, RATES, LOSSES, "rose")
    named.save(tmp_path / "curve.svg")
    root = ElementTree.fromstring((tmp_path / "curve.svg").read_text("utf-8"))
    texts = [element.text for element in root.iter() if element.text]
    assert "0.0033" in texts
    assert any("<script>&" in text for text in texts)
    assert not [element for element in root.iter() if "script" in element.tag]
    assert named._repr_svg_().startswith("<svg")


@pytest.mark.parametrize("name", ["curve", "curve.png", "runs/a"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.svg for a picture or \.csv for a table"):
        sweep().save(tmp_path / name)


def test_the_chart_is_no_wider_than_asked_and_marks_the_proposal() -> None:
    for width in (24, 60, 92):
        lines = sweep().chart().lines(width)
        assert max(map(len, lines)) <= width
        assert lines[-1].strip() == "▲ 0.0033"


def test_the_chart_has_its_lowest_point_where_the_loss_is_lowest() -> None:
    chart = RateChart((1e-3, 1e-2, 1e-1), (2.0, 1.0, 2.0), (2.0, 1.0, 2.0), None)
    lines = chart.lines(8 + 21, "ascii")
    rows = [line[8:] for line in lines[:9]]
    assert next(row.find("*") for row in rows if "*" in row) == 0
    assert "*" in rows[8]
    assert abs(rows[8].index("*") + rows[8].rindex("*") - 20) <= 1
    assert lines[8].split()[0] == "1"
    assert lines[10].split() == ["0.001", "0.01", "0.1"]
    assert all(
        character in " *|+-" or character.isdigit() or character == "."
        for line in lines
        for character in line
    )


def test_the_curve_has_no_gaps() -> None:
    losses = (9.0, 9.0, 1.0)
    lines = RateChart((1e-3, 9e-2, 1e-1), losses, losses, None).lines(30, "ascii")
    rows = [line[8:] for line in lines[:9]]
    covered = {column for row in rows for column, mark in enumerate(row) if mark == "*"}
    assert covered == set(range(22))
    assert all("*" in row for row in rows[1:])


def test_what_rises_above_the_start_leaves_the_chart() -> None:
    low = RateChart((1e-3, 1e-2, 1e-1), (2, 1, 2), (2.0, 1.0, 2.0), None).lines(40)
    high = RateChart((1e-3, 1e-2, 1e-1), (2, 1, 999), (2.0, 1.0, 999.0), None).lines(40)
    assert low[0].split()[0] == high[0].split()[0] == "2.15"


def test_fewer_than_two_points_draw_nothing() -> None:
    assert sweep("stopped", LOSSES[:1]).chart().lines(60) == []
    assert "</svg>" in sweep("stopped", ())._repr_svg_()
    assert list(sweep("stopped", ()).describe()) == ["no proposal from a part of the curve"]
